# SPDX-License-Identifier: GPL-2.0
"""Schemas of answers whose entries are one of several, told apart by which keys they have.

Several of them have the same tag, which msgspec's schemas do not know: here each becomes a component, and a field that
may be any of them says which.
"""

from __future__ import annotations

from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType


@cache
def described(its: type[Struct]) -> type[Struct]:
    """Return the same structure, as a component named Explained..., of which msgspec makes a schema."""
    hints = get_type_hints(its)
    fields: list[Any] = []
    for known in msgspec.structs.fields(its):
        kind, given = _converted(hints[known.name]), {"name": known.encode_name}
        if known.required:
            fields.append((known.name, kind, msgspec.field(**given)))
        else:
            fields.append((known.name, kind, msgspec.field(default=UNSET, **given)))
    config = its.__struct_config__
    made = msgspec.defstruct(
        _name(its), fields, kw_only=True, tag_field=config.tag_field, tag=config.tag, module=__name__
    )
    made.__doc__ = its.__doc__
    return made


def components(its: type[Struct]) -> set[type[Struct]]:
    """Return all structures that an answer refers to, itself as well."""
    found, waiting = set(), [its]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            for hint in get_type_hints(one).values():
                waiting += _structs(hint)
    return {described(it) for it in found}


def _structs(hint: Any) -> list[type[Struct]]:
    if isinstance(hint, type) and issubclass(hint, Struct):
        return [hint]
    return [found for part in get_args(hint) for found in _structs(part)]


def _converted(hint: Any) -> Any:
    if isinstance(hint, type) and issubclass(hint, Struct):
        return described(hint)
    origin, parts = get_origin(hint), get_args(hint)
    if origin is list:
        return list[_converted(parts[0])]  # type: ignore[misc]
    if origin not in (Union, UnionType):
        return hint
    several = [it for it in parts if it not in (NoneType, UnsetType)]
    if len(several) == 1:
        one = _converted(several[0])
        return one if len(several) == len(parts) else Union[one, *(it for it in parts if it is not several[0])]
    choices: list[dict[str, Any]] = [{"$ref": f"#/components/schemas/{_name(it)}"} for it in several]
    choices += [{"type": "null"}] * (NoneType in parts)
    return Annotated[Any, Meta(extra_json_schema={"anyOf": choices})]


def _name(its: type[Struct]) -> str:
    return f"Explained{its.__name__}"
