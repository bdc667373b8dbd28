# SPDX-License-Identifier: GPL-2.0
"""The shape of JSON documents: every key there is, and the types that its values have, a line each.

interfaces[].netns: string
audit: null | object
lists.*: integer            the keys are data: names, addresses
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import Any

_KINDS = (type(None), bool, int, float, str, list, dict)
_NAMES = dict(zip(_KINDS, ("null", "boolean", "integer", "number", "string", "array", "object"), strict=True))


def shape(documents: Iterable[Any], data_keys: Collection[str]) -> dict[str, set[str]]:
    """The types by path of some documents taken together. ``data_keys``: paths of objects whose keys are data."""
    found: dict[str, set[str]] = defaultdict(set)
    for document in documents:
        for path, kind in _walk(document, "", data_keys):
            found[path or "."].add(kind)
    return dict(found)


def lines(shape: dict[str, set[str]]) -> list[str]:
    """A shape as it is written."""
    return sorted(f"{path}: {' | '.join(sorted(kinds))}" for path, kinds in shape.items())


def read(line: str) -> tuple[str, set[str]]:
    """The path and the types of a line."""
    path, _, kinds = line.strip().rpartition(": ")
    return path, set(kinds.split(" | "))


def _walk(value: Any, path: str, data_keys: Collection[str]) -> Iterator[tuple[str, str]]:
    yield path, _NAMES[type(value)]
    if isinstance(value, dict):
        for key, it in value.items():
            name = "*" if path in data_keys else key
            yield from _walk(it, f"{path}.{name}" if path else name, data_keys)
    elif isinstance(value, list):
        for it in value:
            yield from _walk(it, f"{path}[]", data_keys)
