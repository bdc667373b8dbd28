# SPDX-License-Identifier: GPL-2.0
"""Prefix lengths and netmasks in a column of their own, and how sure it is that a number is one."""

from __future__ import annotations

import re

from xdpguard.lists.formats.entries import Entry, entry
from xdpguard.lists.formats.reasons import packed

_NUMBER = re.compile(r"/?([0-9]{1,3})")
_HEX = re.compile(r"0x([0-9a-fA-F]{8})")
_SHORTEST = 8  # a shorter prefix is not an entry of a list, unless its host bits are zero


def is_mask(cell: str) -> bool:
    """Return whether a cell is a netmask such as 255.255.255.0."""
    return cell.startswith(("255.", "0x")) and mask_length(cell) is not None


def is_wildcard(cell: str) -> bool:
    """Return whether a cell is a wildcard mask such as 0.0.0.255."""
    return cell.startswith("0.") and mask_length(cell, wildcard=True) is not None


def mask_length(cell: str, wildcard: bool = False) -> int | None:
    """Return the prefix length of a netmask, or of a wildcard mask; None if it is neither."""
    if found := _HEX.fullmatch(cell):
        number = int(found[1], 16)
    elif (raw := packed(cell)) is not None and len(raw) == 4:
        number = int.from_bytes(raw, "big")
    else:
        return None
    host = number if wildcard else number ^ 0xFFFF_FFFF
    return 32 - host.bit_length() if host & (host + 1) == 0 else None


def length_of(cell: str, wildcard: bool = False) -> int | None:
    """Return the prefix length in a cell: a number, a number after a slash, a netmask or wildcard mask."""
    if found := _NUMBER.fullmatch(cell):
        return int(found[1])
    return mask_length(cell, wildcard)


def agrees(address: str, length: int) -> bool | None:
    """Return whether an address has no bits after a prefix of this length; None if the length is impossible for it."""
    raw = packed(address)
    if raw is None or length > len(raw) * 8:
        return None
    return int.from_bytes(raw, "big") & ((1 << (len(raw) * 8 - length)) - 1) == 0


def could_be_length(address: str, word: str) -> bool:
    """Return whether a word after an address may be its prefix length or netmask."""
    if is_mask(word) or is_wildcard(word) or word.startswith("/"):
        return True
    found = _NUMBER.fullmatch(word)
    if not found or not isinstance(entry(address), Entry):
        return False
    return agrees(address, int(found[1])) is True and int(found[1]) < (128 if ":" in address else 32)


def evidence(pairs: list[tuple[str, str]]) -> str:
    """Weigh whether the second of each pair is the prefix length of the first: ``yes``, ``no`` or ``unclear``."""
    filled = [(address, cell) for address, cell in pairs if cell]
    cells = [cell for _, cell in filled]
    if not filled or any(packed(address) is None for address, _ in filled):
        return "no"
    netmasks = any(map(is_mask, cells)) and all(is_mask(cell) or cell == "0.0.0.0" for cell in cells)
    wildcards = all(map(is_wildcard, cells)) and any(cell != "0.0.0.0" for cell in cells)
    if netmasks or wildcards:
        return "yes"
    return "unclear" if are_sizes(filled) else _of_lengths(filled)


def _of_lengths(pairs: list[tuple[str, str]]) -> str:
    lengths = [(address, int(found[1])) for address, cell in pairs if (found := _NUMBER.fullmatch(cell))]
    fits = [agrees(address, length) for address, length in lengths]
    if len(fits) < len(pairs) or None in fits:
        return "no"
    if all(fits):
        return "yes"
    return "unclear" if all(length >= _SHORTEST for _, length in lengths) else "no"


def are_sizes(pairs: list[tuple[str, str]], most: int = 256) -> bool:
    """Return whether each number may be how many addresses the network has; ``most``: what one is to reach at least."""
    sizes: list[int] = []
    for address, cell in pairs:
        raw = packed(address)
        if not cell or raw is None:
            continue
        sizes.append(int(cell[:40]) if cell.isascii() and cell.isdecimal() else 0)
        if not sizes[-1] or sizes[-1] & (sizes[-1] - 1) or int.from_bytes(raw, "big") % sizes[-1]:
            return False
    return max(sizes, default=0) >= most


def joined(address: str, cell: str, wildcard: bool = False) -> str:
    """Write an address and the prefix length of another cell as one; an empty cell adds nothing."""
    if not cell or cell == "-":
        return address
    length = length_of(cell, wildcard)
    return f"{address}/{cell if length is None else length}"
