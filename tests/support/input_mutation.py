# SPDX-License-Identifier: GPL-2.0
"""Mutations of valid inputs of parsers: of bytes, of words and lines, of JSON values."""

from __future__ import annotations

import copy
import gzip
import json
import random
import re
from collections.abc import Sequence
from typing import Any

_WORDS: tuple[bytes, ...] = (
    b"", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\n", b"\n\n", b" ", b"\t", b",", b";", b"#", b"/", b"-", b"@",
    b"[", b"]", b"{", b"}", b'"', b"'", b"\\", b"\\u0000", b"%s", b"!", b"=", b"==", b"<", b">", b"&", b"|", b"(", b")",
    b"-1", b"0", b"1", b"128", b"129", b"255", b"256", b"65535", b"65536", b"4294967296", b"18446744073709551616",
    b"1e999", b"-1e999", b"nan", b"inf", b"9" * 400, b"0" * 5000, b"9" * 5000, b"0x", b"0xffffffffffffffffffff", b"1.5",
    "٣".encode(), "\uff11".encode(), "²".encode(), "é".encode(), "\u202e".encode(), "\u2028".encode(), "😀".encode(),
    b"\xed\xa0\x80", b"\x1b[2J", b"null", b"true", b"[[[[", b"[" * 3000, b'{"a":' * 3000, b"{" * 3000, b"(" * 3000,
    b"198.51.100.7", b"0.0.0.0/0", b"::/0", b"::ffff:1.2.3.4", b"1.2.3.4/33", b"2001:db8::/129", b"255.255.255.255",
    b"a" * 5000, b"1h", b"9999999999h", b"-5s", b"x" * 70,
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1 << 31, 1 << 64, 10**400, 1.5, 1e308, -0.0, float("nan"), float("inf"), "", "0", "x",
    "\0", "9" * 400, "198.51.100.7", "é\u202e", "\ud800", [], {}, [[]], {"": None}, ["x"] * 40, [0, 1], {"value": "x"},
)  # fmt: skip
_TOKEN = re.compile(rb"[A-Za-z_]+|[0-9]+|[^A-Za-z_0-9\s]|\s+")


class Inputs:
    """Draws mutations of samples."""

    def __init__(self, samples: Sequence[bytes]) -> None:
        self._samples = samples
        self._tokens = sorted({token for it in samples for token in _TOKEN.findall(it[:20_000])})[:2000]
        self._documents = [_document(it) for it in samples]

    def draw(self, chance: random.Random) -> bytes:
        """Draw an input."""
        place = chance.randrange(len(self._samples))
        data, document = self._samples[place], self._documents[place]
        if document is not None and chance.random() < 0.6:
            data = _written(_changed(json.loads(document), chance))
            if chance.random() < 0.7:
                return data
        for _ in range(chance.choice((0, 1, 1, 2, 3, 8))):
            data = self._altered(data, chance)
        if chance.random() < 0.03:
            data = gzip.compress(data, 1)
            if chance.random() < 0.5:
                data = self._altered(data, chance)
        return data

    def _altered(self, data: bytes, chance: random.Random) -> bytes:
        made: bytes = chance.choice(_WAYS)(self, data, chance)
        return made

    def _flip(self, data: bytes, chance: random.Random) -> bytes:
        made = bytearray(data or b"\0")
        for _ in range(chance.choice((1, 1, 4, 16))):
            made[_near(chance, len(made))] ^= 1 << chance.randrange(8)
        return bytes(made)

    def _set(self, data: bytes, chance: random.Random) -> bytes:
        at, size = _near(chance, len(data) + 1), chance.choice((1, 1, 2, 4, 8))
        value = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        return data[:at] + bytes([value]) * size + data[at + size :]

    def _cut(self, data: bytes, chance: random.Random) -> bytes:
        at = _near(chance, len(data) + 1)
        return data[:at] if chance.random() < 0.5 else data[:at] + data[at + chance.choice((1, 2, 7, 60)) :]

    def _double(self, data: bytes, chance: random.Random) -> bytes:
        at, size = _near(chance, len(data) + 1), chance.choice((1, 3, 20, 200))
        return data[: at + size] + data[at : at + size] * chance.choice((1, 1, 2, 50)) + data[at + size :]

    def _word(self, data: bytes, chance: random.Random) -> bytes:
        """A token replaced by another, or by what no parser likes."""
        found = list(_TOKEN.finditer(data[:20_000]))
        word: bytes = chance.choice(_WORDS if chance.random() < 0.5 or not self._tokens else self._tokens)
        if not found:
            return data + word
        its = chance.choice(found)
        return data[: its.start() if chance.random() < 0.7 else its.end()] + word + data[its.end() :]

    def _lines(self, data: bytes, chance: random.Random) -> bytes:
        lines = data.split(b"\n")
        one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
        how = chance.randrange(3)
        if how == 0:
            lines[one], lines[other] = lines[other], lines[one]
        elif how == 1:
            lines[one:one] = [lines[other]] * chance.choice((1, 2, 200))
        else:
            del lines[one]
        return b"\n".join(lines)

    def _joined(self, data: bytes, chance: random.Random) -> bytes:
        other = chance.choice(self._samples)
        return data[: _near(chance, len(data) + 1)] + other[_near(chance, len(other) + 1) :]


_WAYS = (
    Inputs._flip, Inputs._set, Inputs._cut, Inputs._double, Inputs._word, Inputs._word, Inputs._word, Inputs._lines,
    Inputs._joined,
)  # fmt: skip


def _near(chance: random.Random, size: int) -> int:
    """A place, which is more often among the first."""
    return chance.randrange(min(size, chance.choice((64, 512, size, size))) or 1)


def _document(data: bytes) -> str | None:
    try:
        return json.dumps(json.loads(data))
    except ValueError:
        return None


def _written(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    except RecursionError:
        return b"null"


def _changed(value: Any, chance: random.Random) -> Any:
    """A JSON document with some values, members or elements changed."""
    root = [value]
    for _ in range(chance.choice((1, 1, 2, 5))):
        places: list[tuple[Any, Any]] = []
        _walk(root, places)
        holder, key = chance.choice(places)
        how = chance.randrange(6)
        if how < 3:
            holder[key] = copy.deepcopy(chance.choice(_VALUES))
        elif how == 3:
            holder[key] = json.loads(json.dumps(chance.choice(places[:50])[0]))
        elif how == 4 and holder is not root:
            del holder[key]
        else:
            for _depth in range(chance.choice((1, 2, 300))):
                holder[key] = [holder[key]] if chance.random() < 0.5 else {"x": holder[key]}
    return root[0]


def _walk(holder: Any, found: list[tuple[Any, Any]], depth: int = 0) -> None:
    if depth > 60 or len(found) > 2000:
        return
    for key in holder if isinstance(holder, dict) else range(len(holder)):
        found.append((holder, key))
        if isinstance(holder[key], (dict, list)):
            _walk(holder[key], found, depth + 1)
