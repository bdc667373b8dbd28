# SPDX-License-Identifier: GPL-2.0
"""Check the keys and types of tables one by one, so that one mistake does not hide the next."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, get_args, get_origin

import msgspec

from xdpguard.errors import UsageError

_WHERE = re.compile(r" - at `[^`]*`$")
_REMEDY = "correct the value; xdpguard help configuration lists every key with its default"

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
        for found in _value(value, its.type, [*keys, key], tell):
            held[key] = found
    return held


def _value(value: Any, kind: Any, keys: list[str], tell: Tell) -> list[Any]:
    """Return a value as a list of one; empty if it is told to be wrong."""
    if isinstance(value, dict) and get_origin(kind) is dict:
        named = get_args(kind)[1]
        held = {name: found for name, its in value.items() for found in _value(its, named, [*keys, name], tell)}
        return [held]
    if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        held = sound(value, kind, keys, tell)
        fields = msgspec.structs.fields(kind)
        for field in fields:
            if field.required and field.encode_name not in held:
                # A key that is not known is taken for the one that lacks, mistyped.
                if field.encode_name not in value and not value.keys() - {it.encode_name for it in fields}:
                    tell(keys, UsageError(f"object missing required field `{field.encode_name}`", _REMEDY))
                return []
        return [held]
    try:
        msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        reason = _WHERE.sub("", str(error))
        tell(keys, UsageError(reason[:1].lower() + reason[1:], _REMEDY))
        return []
    return [value]
