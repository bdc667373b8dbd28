# SPDX-License-Identifier: GPL-2.0
"""Check the keys and types of tables one by one, so that one mistake does not hide the next."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, get_args, get_origin

import msgspec
from msgspec import inspect

from xdpguard.errors import UsageError

_REMEDY = "correct the value; xdpguard help configuration lists every key with its default"
_LONGEST = 60  # characters of a wrong value that are shown

Tell = Callable[[list[str], UsageError], None]


def sound(table: dict[str, Any], kind: type[msgspec.Struct], keys: list[str], tell: Tell) -> dict[str, Any]:
    """Return what is right of a table that is to be a struct; ``keys``: where it stands. The rest is told."""
    fields = {it.encode_name: it for it in msgspec.structs.fields(kind)}
    held = {}
    for key, value in table.items():
        its = fields.get(key)
        if its is None:
            tell([*keys, key], UsageError("unknown key", f"allowed here: {', '.join(fields)}"))
            continue
        for found in checked(value, its.type, [*keys, key], tell):
            held[key] = found
    return held


def checked(value: Any, kind: Any, keys: list[str], tell: Tell) -> list[Any]:
    """Return a value as a list of one; empty if it is told to be wrong."""
    if isinstance(value, dict) and get_origin(kind) is dict:
        named = get_args(kind)[1]
        held = {name: found for name, its in value.items() for found in checked(its, named, [*keys, name], tell)}
        return [held]
    if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        held = sound(value, kind, keys, tell)
        fields = msgspec.structs.fields(kind)
        names = [it.encode_name for it in fields]
        for field in fields:
            if field.required and field.encode_name not in held:
                # A key that is not known is taken for the one that lacks, mistyped.
                if field.encode_name not in value and not value.keys() - {*names}:
                    tell(keys, UsageError(f"{field.encode_name} is missing", f"keys: {', '.join(names)}"))
                return []
        return [held]
    try:
        msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError:
        tell(keys, _wrong(value, inspect.type_info(kind)))
        return []
    return [value]


def _wrong(value: Any, kind: inspect.Type) -> UsageError:
    """Return what is wrong with a value of TOML that is not of a kind."""
    if isinstance(kind, inspect.UnionType):  # with None, which TOML does not have
        (kind,) = (it for it in kind.types if not isinstance(it, inspect.NoneType))
    if isinstance(kind, inspect.VarTupleType) and isinstance(value, list):  # of texts, all of them
        value, kind = next(it for it in value if not isinstance(it, str)), kind.item_type
    remedy = _REMEDY
    match kind:
        case inspect.LiteralType(values):
            what = "none of " + ", ".join(f'"{it}"' for it in values)
        case inspect.IntType(ge=least, le=most):
            what = f"not a whole number from {least} to {most}"
        case inspect.BoolType():
            what, remedy = "neither true nor false", "write true or false, without quotes"
        case inspect.StrType():
            what, remedy = "not text", 'write text, in quotes: "..."'
        case inspect.VarTupleType():
            what, remedy = "not a list", 'write a list: ["...", "..."], or [] for none'
        case _:
            what, remedy = "not a table", "write a line [NAME], and its keys below it"
    return UsageError(f"{_shown(value)} is {what}", remedy)


def _shown(value: Any) -> str:
    """Return a value as TOML has it; of what is long or may hold a secret only what it is."""
    match value:
        case dict() | list():
            return "a table" if isinstance(value, dict) else "a list"
        case bool() | int() | float():
            text = str(value).lower()
        case _:
            text = json.dumps(str(value), ensure_ascii=False)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
