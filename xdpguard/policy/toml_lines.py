# SPDX-License-Identifier: GPL-2.0
"""Find the line of a key in a TOML text, which the parser does not keep."""

from __future__ import annotations

import re

_PART = r"(?:[\w-]+|\"[^\"]*\"|'[^']*')"
_KEY = re.compile(rf"\s*({_PART}(?:\s*\.\s*{_PART})*)\s*=")


def line_of(text: str, keys: list[str], entry: str | None = None) -> int:
    """Return the line of a key, or of an entry of its list; if the key is absent, that of the enclosing table."""
    lines = text.splitlines()
    table: list[str] = []
    found, best = 1, 0
    for number, line in enumerate(lines, start=1):
        if header := re.match(r"\s*\[([^]]+)\]", line):
            path = table = _key_parts(header[1])
        elif key := _KEY.match(line):
            path = table + _key_parts(key[1])
        else:
            continue
        if len(path) > best and path == keys[: len(path)]:
            found, best = number, len(path)
    if entry is None:
        return found
    for number, line in enumerate(lines[found - 1 :], start=found):
        if f'"{entry}"' in line or f"'{entry}'" in line:
            return number
    return found


def _key_parts(text: str) -> list[str]:
    """Return the parts of a dotted key, without quotes."""
    return [part.strip("\"'") for part in re.findall(_PART, text)]
