# SPDX-License-Identifier: GPL-2.0
"""Layouts as numpy dtypes, for readers of many records at once."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np

from xdpguard.dataplane.sys.layouts.base import Layout, fields, u8


def dtype(layout: type[Layout], **formats: str) -> np.dtype[Any]:
    """Return the layout as a dtype: integers as they are, bytes as ``V``, those of a nested struct among the others.
    ``formats`` reads the fields named as something else: ``source=">u4"``.

    TypeError when such a format is of another size than its field, or there is no such field.
    """
    found = list(_described(layout, 0))
    names = [name for name, _, _ in found]
    made: list[Any] = [formats.get(name, default) for name, default, _ in found]
    result = np.dtype(
        {
            "names": names,
            "formats": made,
            "offsets": [offset for _, _, offset in found],
            "itemsize": ctypes.sizeof(layout),
        }
    )
    for name, default, _ in found:
        if result[name].itemsize != np.dtype(default).itemsize:
            raise TypeError(f"{layout.__name__}.{name} is not of the size of {formats[name]}")
    if unknown := formats.keys() - set(names):
        raise TypeError(f"{layout.__name__} has no field {', '.join(sorted(unknown))}")
    return result


def _described(layout: type[Layout], at: int) -> Iterator[tuple[str, str, int]]:
    """Name, format and offset of each field."""
    for field in fields(layout):
        offset = at + field.offset
        if issubclass(field.type, Layout):
            yield from _described(field.type, offset)
        elif not issubclass(field.type, ctypes.Array):
            yield field.name, f"=u{field.size}", offset
        elif field.type._type_ is u8:
            yield field.name, f"V{field.size}", offset
        else:
            width = ctypes.sizeof(field.type._type_)
            yield field.name, f"({field.type._length_},)=u{width}", offset
