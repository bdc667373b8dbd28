# SPDX-License-Identifier: GPL-2.0
"""How a layout is declared, and what is derived from the declaration."""

from __future__ import annotations

import ctypes
import functools
import re
from collections.abc import Iterator
from struct import Struct
from typing import Any, NamedTuple

u8, u16, u32, u64 = ctypes.c_uint8, ctypes.c_uint16, ctypes.c_uint32, ctypes.c_uint64
_CODES: dict[type, str] = {u8: "B", u16: "H", u32: "I", u64: "Q"}


class Layout(ctypes.Structure):
    """A struct of bpf/: a class ``GuardPolicy`` is ``struct xg_guard_policy``.

    Fields have the names they have in C, and there are no gaps between them: padding is a field, too. Addresses and
    ports in network byte order are bytes (`octets`).
    """


class Field(NamedTuple):
    """A field of a layout; offset and size in bytes."""

    name: str
    type: Any
    offset: int
    size: int


@functools.cache
def octets(size: int) -> Any:
    """Return the type of a field that is read as ``size`` bytes."""
    return u8 * size


@functools.cache
def padding(size: int) -> Any:
    """Return the type of a field of ``size`` bytes that Python neither reads nor writes; written as zeroes."""
    return type(f"Padding{size}", (ctypes.Array,), {"_type_": u8, "_length_": size, "padding": True})


def c_name(layout: type[Layout]) -> str:
    """Return the name of the struct in C, without ``struct``."""
    return "xg_" + re.sub(r"(?<!^)(?=[A-Z])", "_", layout.__name__).lower()


def fields(layout: type[Layout]) -> Iterator[Field]:
    """Return the fields, in order."""
    for name, kind, *_ in layout._fields_:
        yield Field(name, kind, getattr(layout, name).offset, ctypes.sizeof(kind))


def packer(layout: type[Layout]) -> Struct:
    """Return what packs and unpacks the fields in order.

    An integer for each, one for each element of an array, bytes for `octets`, nothing for `padding`; a nested struct
    gives those of its own fields.

    TypeError when the layout has gaps.
    """
    made = Struct("=" + _code(layout))
    if made.size != ctypes.sizeof(layout):
        raise TypeError(f"{layout.__name__} has gaps: {made.size} of {ctypes.sizeof(layout)} bytes are fields")
    return made


def places(layout: type[Layout]) -> dict[str, int]:
    """Return where the values of each field begin in what the layout's packer unpacks."""
    found, before = {}, 0
    for name, kind, *_ in layout._fields_:
        found[name] = before
        before += _values(kind)
    return found


def _code(kind: Any) -> str:
    """Return the format characters of a type."""
    if kind in _CODES:
        return _CODES[kind]
    if issubclass(kind, ctypes.Array):
        if getattr(kind, "padding", False):
            return f"{kind._length_}x"
        if kind._type_ is u8:
            return f"{kind._length_}s"
        if kind._type_ in _CODES:
            return f"{kind._length_}{_CODES[kind._type_]}"
        return _code(kind._type_) * int(kind._length_)
    return "".join(_code(it) for _, it, *_ in kind._fields_)


def _values(kind: Any) -> int:
    """Return how many values the packer makes of a type."""
    if kind in _CODES:
        return 1
    if issubclass(kind, ctypes.Array):
        if kind._type_ is u8:
            return 0 if getattr(kind, "padding", False) else 1
        return _values(kind._type_) * int(kind._length_)
    return sum(_values(it) for _, it, *_ in kind._fields_)
