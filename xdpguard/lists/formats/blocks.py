# SPDX-License-Identifier: GPL-2.0
"""Convert lines of text to numpy arrays, millions per second.

`entries.entry` is the reference for what a line means; this gets the same results faster. Most lines of a list consist
of digits, dots, a slash or a hyphen, and are parsed by arithmetic, all at once. Lines that cannot be go on to the next,
slower step; what is left at the end is parsed by `entry`.
"""

from __future__ import annotations

import codecs
import re
import socket
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xdpguard.lists.formats.entries import NAME, NAMED, SPEAKS
from xdpguard.policy.target import SHORTEST4, SHORTEST6

Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]
Shorts = NDArray[np.uint16]
Numbers = NDArray[np.uint32]
Halves = NDArray[np.uint64]
Positions = NDArray[np.intp]

OPEN, ENTRY, SIX, BLANK = range(4)  # the state of a line
_NEWLINE, _HYPHEN, _DOT, _SLASH = b"\n-./"
# The separators of a line that arithmetic can parse, by their number.
_SHAPES: dict[int, tuple[int, ...]] = {
    4: (_DOT, _DOT, _DOT, _NEWLINE),
    5: (_DOT, _DOT, _DOT, _SLASH, _NEWLINE),
    8: (_DOT, _DOT, _DOT, _HYPHEN, _DOT, _DOT, _DOT, _NEWLINE),
}
_HOSTS = np.array([(1 << (32 - length)) - 1 for length in range(33)] + [0] * 223, dtype=np.uint32)
# The host bits of IPv6 prefixes by length, upper and lower half.
_HOSTS6 = tuple(
    np.array([((1 << (128 - length)) - 1) >> shift & (1 << 64) - 1 for length in range(129)], dtype=np.uint64)
    for shift in (64, 0)
)
# A comment with what may be an address is left to `entries` and `lines`, which have a word to say about it.
_ADDRESS = rb"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|::|:(?:[0-9A-Fa-f]{1,4}:){3}"
_COMMENT = re.compile(rb"[#;][^\n]*")
_HARMLESS = re.compile(
    rb"^([^#;\n]*+)[#;](?![^\n]*?(?:" + _ADDRESS + rb"|" + SPEAKS.encode() + rb"))[^\n]*", re.MULTILINE
)
_HIDDEN = (
    re.compile(rb"\.[0-9]{1,3}\.[0-9]{1,3}\."),
    re.compile(rb"::|:(?:[0-9A-Fa-f]{1,4}:){3}"),
    re.compile(SPEAKS.encode()),
)
_NAMES = re.compile(rf"^(?![^\n]*[#;]){NAME}(?={NAMED}$)".encode(), re.MULTILINE)
_DECORATION = (b" ", b"\t", b"#", b";", b"-", b"\f", b"\v", codecs.BOM_UTF8)  # without these there is nothing to strip
_LENGTHS = {str(length): length for length in range(129)}
_UNKNOWN, _NO_ADDRESS = 255, bytes(16)


class Lines:
    """A block of whole lines, and the state of each."""

    def __init__(self, text: bytes) -> None:
        raw = np.frombuffer(text, dtype=np.uint8)
        digits = raw - np.uint8(48)  # a byte below 48 wraps around and is not a digit either
        marks = np.flatnonzero(digits > 9)
        codes = raw[marks]
        ends = np.flatnonzero(codes == _NEWLINE)
        counts = np.diff(ends, prepend=-1)
        self.stops = marks[ends]
        self.state: Bytes = np.zeros(len(ends), dtype=np.uint8)
        self.first: Numbers = np.zeros(len(ends), dtype=np.uint32)
        self.last: Numbers = np.zeros(len(ends), dtype=np.uint32)
        self.cleared: Bools = np.zeros(len(ends), dtype=np.bool_)
        values, good = _values(digits, marks)
        codes = np.where(good, codes, 0).astype(np.uint8)
        for number, shape in _SHAPES.items():
            lines = np.flatnonzero(counts == number)
            if len(lines):
                self._read(lines, ends[lines] - (number - 1), shape, codes, values)
        self.state[np.diff(self.stops, prepend=-1) == 1] = BLANK

    def _read(self, lines: Positions, at: Positions, shape: Sequence[int], codes: Bytes, values: Shorts) -> None:
        fits = codes[at] == shape[0]
        for offset, code in enumerate(shape[1:], start=1):
            fits &= codes[at + offset] == code
        if not fits.all():
            lines, at = lines[fits], at[fits]
        first = _address(values, at)
        if _HYPHEN in shape:
            last = _address(values, at + 4)
            fits = first <= last
            lines, first, last = lines[fits], first[fits], last[fits]
        elif _SLASH in shape:
            lengths = values[at + 4]
            hosts = _HOSTS[lengths]
            bits_set = (first & hosts) != 0
            fits = (lengths <= 32) & ~(bits_set & (lengths < SHORTEST4))
            self.cleared[lines] = fits & bits_set
            last = first | hosts
            first &= ~hosts
            lines, first, last = lines[fits], first[fits], last[fits]
        else:
            last = first
        self.first[lines] = first
        self.last[lines] = last
        self.state[lines] = ENTRY

    def adopt(self, lines: Positions, other: Lines) -> None:
        """Copy the results of another block for these lines."""
        self.state[lines] = other.state
        self.first[lines] = other.first
        self.last[lines] = other.last
        self.cleared[lines] = other.cleared


class Six(NamedTuple):
    """IPv6 prefixes, and the indexes of their lines."""

    lines: Positions
    high: Halves
    low: Halves
    lengths: Bytes

    @classmethod
    def none(cls) -> Six:
        """Return an empty result."""
        half = np.zeros(0, dtype=np.uint64)
        return cls(np.zeros(0, dtype=np.intp), half, half, np.zeros(0, dtype=np.uint8))


def solve(text: bytes) -> tuple[Lines, Six, list[tuple[int, bytes]]]:
    """Parse whole lines; return the results, and the lines that are left for `entry`."""
    found = Lines(text)
    lines = np.flatnonzero(found.state == OPEN)
    if not len(lines):
        return found, Six.none(), []
    raw = _pieces(text, found, lines)
    cells = _clean(raw, found, lines)
    six = _inet6(cells, found, lines)
    left = np.flatnonzero(found.state[lines] == OPEN).tolist()
    return found, six, [(int(lines[at]), raw[at]) for at in left]


def unsolved(text: bytes) -> tuple[Lines, Six, list[tuple[int, bytes]]]:
    """Return whole lines as `solve` does, with all of them left."""
    found = Lines(text)
    found.state[:] = OPEN
    found.cleared[:] = False
    return found, Six.none(), list(enumerate(text.split(b"\n")[:-1]))


def _values(digits: Bytes, marks: Positions) -> tuple[Shorts, Bools]:
    """Return the number before each mark, and whether it is valid: 0 to 255, without leading zeros."""
    sizes = np.diff(marks, prepend=-1) - 1
    two, three = sizes >= 2, sizes >= 3
    ones, tens, hundreds = (digits.take(marks - back, mode="clip") for back in (1, 2, 3))
    values = ones.astype(np.uint16)
    values += np.where(two, tens * np.uint8(10), np.uint8(0))
    values += np.where(three, hundreds.astype(np.uint16) * np.uint16(100), np.uint16(0))
    leading = two & (np.where(three, hundreds, tens) == 0)
    return values, (sizes >= 1) & (sizes <= 3) & (values <= 255) & ~leading


def _address(values: Shorts, at: Positions) -> Numbers:
    number: Numbers = values[at].astype(np.uint32)
    for offset in (1, 2, 3):
        number <<= np.uint32(8)
        number |= values[at + offset]
    return number


def _pieces(text: bytes, found: Lines, lines: Positions) -> list[bytes]:
    """Return the lines with these indexes."""
    if len(lines) * 2 > len(found.state):
        pieces = text.split(b"\n")
        return [pieces[line] for line in lines.tolist()]
    starts = np.where(lines > 0, found.stops[lines - 1] + 1, 0)
    return [text[start:stop] for start, stop in zip(starts.tolist(), found.stops[lines].tolist(), strict=True)]


def _clean(pieces: list[bytes], found: Lines, lines: Positions) -> list[bytes]:
    """Strip comments, blanks and names from these lines and parse them again; return the stripped lines."""
    text = raw = b"\n".join(pieces)
    if not any(mark in text for mark in _DECORATION):
        return pieces
    if b"-" in text and b":" in text:
        text = _NAMES.sub(b"", text)
    if b"#" in text or b";" in text:
        comments = b"\n".join(_COMMENT.findall(text))
        harmless = not any(mark.search(comments) for mark in _HIDDEN)
        text = _COMMENT.sub(b"", text) if harmless else _HARMLESS.sub(rb"\1", text)
    cells = [piece.strip().removeprefix(codecs.BOM_UTF8).strip() for piece in text.split(b"\n")]
    text = b"\n".join(cells).replace(b" - ", b"-")
    if text != raw:
        found.adopt(lines, Lines(text + b"\n"))
    return cells


def _inet6(cells: list[bytes], found: Lines, lines: Positions) -> Six:
    """Parse the IPv6 addresses and prefixes among these lines."""
    still = np.flatnonzero(found.state[lines] == OPEN)
    text = b"\n".join(cells if len(still) == len(cells) else [cells[at] for at in still.tolist()])
    if b":" not in text:
        return Six.none()
    addresses, bits = _parted(text)
    packed: list[bytes] = []
    reading = map(socket.inet_pton, repeat(socket.AF_INET6), addresses)
    while True:
        try:
            packed.extend(reading)  # keeps the results before a failure, and resumes after it
            break
        except (OSError, ValueError):
            bits[len(packed)] = _UNKNOWN
            packed.append(_NO_ADDRESS)
    halves = np.frombuffer(b"".join(packed), dtype=">u8").astype(np.uint64).reshape(-1, 2)
    high, low = halves[:, 0], halves[:, 1]
    mapped = (high == 0) & (low >> np.uint64(32) == 0xFFFF)
    known = np.minimum(bits, 128)
    bits_set = ((high & _HOSTS6[0][known]) | (low & _HOSTS6[1][known])) != 0
    good = bits != _UNKNOWN  # the others go to `entry`, which says why
    good &= ~(mapped & (bits < 96)) & ~(bits_set & (bits < SHORTEST6))
    where, high, low, bits, mapped = lines[still][good], high[good], low[good], bits[good], mapped[good]
    found.state[where] = np.where(mapped, ENTRY, SIX)
    upper, lower = _HOSTS6[0][bits], _HOSTS6[1][bits]
    found.cleared[where] = bits_set[good]
    high, low = high & ~upper, low & ~lower
    found.first[where] = low.astype(np.uint32)
    found.last[where] = (low | lower).astype(np.uint32)
    own = ~mapped
    return Six(where[own], high[own], low[own], bits[own])


def _parted(text: bytes) -> tuple[list[str], Bytes]:
    """Return the addresses of these lines, and the prefix lengths."""
    raw = np.frombuffer(text, dtype=np.uint8)
    marks = raw[(raw == _SLASH) | (raw == _NEWLINE)]
    if len(marks) % 2 == 1 and (marks[::2] == _SLASH).all() and (marks[1::2] == _NEWLINE).all():
        # Exactly one slash per line: splitting once is twice as fast.
        parts = text.replace(b"/", b"\n").decode("latin-1").split("\n")
        addresses, lengths = parts[::2], parts[1::2]
        bits: Iterator[int] = map(_LENGTHS.get, lengths, repeat(_UNKNOWN))
    else:
        triples = [line.partition("/") for line in text.decode("latin-1").split("\n")]
        addresses = [address for address, _, _ in triples]
        bits = (_LENGTHS.get(length, _UNKNOWN) if slash else 128 for _, slash, length in triples)
    return addresses, np.fromiter(bits, dtype=np.uint8, count=len(addresses))
