# SPDX-License-Identifier: GPL-2.0
"""One entry of a block list: every accepted notation, and why others are rejected."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from xdpguard.lists.formats.reasons import (
    MAPPED_LENGTH,
    SHORT_PREFIX,
    packed,
    why_no_length,
    why_no_range,
    why_not,
)
from xdpguard.policy.target import MAPPED, SHORTEST4, SHORTEST6, netmask_length

SHOWN = 60
HIDDEN = "an address with another one in a comment"
_LENGTH = re.compile(r"[0-9]{1,3}")
_QUAD = r"[0-9]+(?:\.[0-9]+){3}"
# P2P lists: "Some name:192.0.2.1-192.0.2.8". The name may contain anything, even colons, but must not itself be the
# beginning of an IPv6 address.
NAME = r"(?![0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:)[^\n]*:[ \t]*"
NAMED = rf"{_QUAD}[ \t]*-[ \t]*{_QUAD}"
_NAMED = re.compile(rf"{NAME}({NAMED})")
_NUMBERS = re.compile(r"[0-9]\.[0-9]|::")
_MAPPED = range(0xFFFF << 32, 1 << 48)  # ::ffff:0:0/96
_WORDS = re.compile(r"(?<![0-9A-Za-z:.])[0-9A-Fa-f:.]{2,60}(?![0-9A-Za-z])")
_COMMENT = re.compile("[#;]")
# What in a comment may say that its address is let in, or when its block ends.
SPEAKS = (
    r"(?i:\b(?:white|allow|safe)[ _-]?list|\b(?:allow(?:ed|s)?|permit(?:ted)?|trusted|exempt(?:ed)?|"
    r"false[ _-]positives?|(?:not|never) (?:block|ban)|un(?:block|bann?)(?:ed)?|expire[sd]?|expiry|until|disabled|"
    r"inactive|revoked|removed|delisted)\b|(?<=;)[ \t]*(?:ok|accept(?:ed)?|dunno|pass|permit)\b)"
)
_SPEAKS = re.compile(SPEAKS)


class Entry(NamedTuple):
    """The meaning of a line: IPv4 ranges (first, last), IPv6 prefixes (network, length) and IPv6 ranges, as numbers."""

    ranges4: list[tuple[int, int]]
    prefixes6: list[tuple[int, int]]
    cleared: bool
    ranges6: Sequence[tuple[int, int]] = ()


def entry(line: str) -> Entry | str | None:
    """Parse a line: return an entry, or why it has none; None if it is blank or a comment."""
    line = line.strip().lstrip("\ufeff")
    text = line.split("#", 1)[0].split(";", 1)[0].strip()
    if not text:
        return None
    found = _bare(text)
    if isinstance(found, str) and (named := _NAMED.fullmatch(line)) and (text == line or not _NUMBERS.search(text)):
        return _bare(named[1])
    return found


def _bare(text: str) -> Entry | str:
    left, hyphen, right = (part.strip() for part in text.partition("-"))
    if hyphen and (left[-1:].isdecimal() or ":" in left):
        return _range(left, right)
    address, slash, bits = text.partition("/")
    raw = packed(address)
    if raw is None:
        return why_not(text)
    width = len(raw) * 8
    length = _length(raw, bits) if slash else width
    if isinstance(length, str):
        return length
    value = int.from_bytes(raw, "big")
    network = value >> (width - length) << (width - length)
    if width == 32:
        return Entry([(network, network | ((1 << (32 - length)) - 1))], [], network != value)
    return _sorted([(network, length)], network != value)


def _length(raw: bytes, bits: str) -> int | str:
    """Return the prefix length after the slash of an address, or why there is no entry."""
    width = len(raw) * 8
    length = int(bits) if _LENGTH.fullmatch(bits) else netmask_length(bits) if width == 32 else None
    if length is None or length > width:
        return why_no_length(bits, width)
    if raw.startswith(MAPPED) and length < 96:
        return MAPPED_LENGTH
    host = int.from_bytes(raw, "big") & ((1 << (width - length)) - 1)
    return SHORT_PREFIX if host and length < (SHORTEST4 if width == 32 else SHORTEST6) else length


def _range(left: str, right: str) -> Entry | str:
    first, last = packed(left), packed(right)
    if first is None or last is None:
        return why_no_range(left, right)
    if len(first) != len(last):
        return "a range from one address family to another"
    if first > last:
        return "a reversed range: its first address is above its last"
    if first.startswith(MAPPED) and last.startswith(MAPPED):
        first, last = first[12:], last[12:]
    low, high = int.from_bytes(first, "big"), int.from_bytes(last, "big")
    return Entry([(low, high)], [], False) if len(first) == 4 else _ranged(low, high)


def _ranged(first: int, last: int) -> Entry:
    """Build an entry from an IPv6 range; the part in ::ffff:0:0/96 becomes an IPv4 range, unless a wider prefix has it.

    A range stays one, however many prefixes it takes to describe it.
    """
    host = first ^ last
    if host & (host + 1) == 0 == first & host:
        return _sorted([(first, 128 - host.bit_length())], False)
    if last < _MAPPED[0] or first > _MAPPED[-1] or (first <= _MAPPED[0] - len(_MAPPED) and last >= _MAPPED[-1]):
        return Entry([], [], False, [(first, last)])
    inside = max(first, _MAPPED[0]) - _MAPPED[0], min(last, _MAPPED[-1]) - _MAPPED[0]
    around = ((first, _MAPPED[0] - 1), (_MAPPED[-1] + 1, last))
    return Entry([inside], [], False, [(low, high) for low, high in around if first <= low <= high <= last])


def _sorted(prefixes: list[tuple[int, int]], cleared: bool) -> Entry:
    """Build an entry from IPv6 prefixes; those of IPv4-mapped addresses become IPv4 ranges."""
    made = Entry([], [], cleared)
    for network, length in prefixes:
        if length >= 96 and network >> 32 == 0xFFFF:
            first = network & 0xFFFF_FFFF
            made.ranges4.append((first, first | ((1 << (128 - length)) - 1)))
        else:
            made.prefixes6.append((network, length))
    return made


def has_address(text: str) -> bool:
    """Return whether a text, such as a comment, holds an address anywhere."""
    return any(True for _ in addresses_in(text))


def addresses_in(text: str) -> Iterator[bytes]:
    """Yield the addresses anywhere in a text."""
    for word in _WORDS.findall(text):
        for bare in dict.fromkeys((word, word.rstrip(".:"), word.partition(":")[0])):
            raw = packed(bare)
            if raw is not None:
                yield raw


def hides_address(line: str) -> bool:
    """Return whether the comment after an entry holds an address."""
    mark = _COMMENT.search(line)
    if mark is None or not has_address(line[mark.end() :]):
        return False
    return isinstance(entry(line[: mark.start()]), Entry)  # else the mark is part of a name before a range


def speaks(comment: str) -> bool:
    """Return whether a comment may say that its address is let in, or when its block ends."""
    return _SPEAKS.search(comment) is not None


def shown(text: str) -> str:
    """Make text from an untrusted file safe for a terminal: short, with printable characters only."""
    short = text[: SHOWN + 1]
    safe = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in short)
    return safe if len(safe) <= SHOWN else safe[: SHOWN - 3] + "..."


def decoded(data: bytes) -> str:
    """Decode a line; old lists have comments in Latin-1."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
