# SPDX-License-Identifier: GPL-2.0
"""A list's bytes, block by block: decompressed, as 8-bit text, with plain line feeds as the only line ends.

Only a few blocks are in memory at any time, whatever the stream contains.
"""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Callable, Iterator
from typing import IO

import numpy as np

from xdpguard.errors import UsageError
from xdpguard.lists.formats.encodings import encoding, not_text

BLOCK = 1 << 20
LARGEST = 1 << 30  # bytes of decompressed text: about 70 million addresses
LONGEST_LINE = 4096

_GZIP = b"\x1f\x8b"
# Each end of a member copies the rest of the slice: small slices keep a file of ten thousand empty members cheap.
_SLICE = 1 << 14
_CONTROLS = bytes(code for code in range(32) if code not in b"\t\n\v\f\r\x1a\x1b")
_CONTROLS_SHARE = 0.02


def text(name: str, stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the text in blocks cut anywhere. Raise UsageError if it is not text, is corrupt or is too large."""
    return _line_feeds(_eight_bit(name, _limited(name, _unpacked(name, _raw(name, stream)))))


def lines(blocks: Iterator[bytes], too_long: Callable[[int, bytes], None]) -> Iterator[tuple[int, bytes]]:
    """Yield whole lines, many at a time, with the number of the first. Overlong ones are emptied and reported."""
    number = 1
    held = b""
    for block in blocks:
        cut = block.rfind(b"\n") + 1
        if not cut:
            held = (held + block)[: LONGEST_LINE + 1]  # enough of a long line to identify it
            continue
        whole, count = _bounded(held + block[:cut], number, too_long)
        held = block[cut:][: LONGEST_LINE + 1]
        yield number, whole
        number += count


def _bounded(whole: bytes, number: int, too_long: Callable[[int, bytes], None]) -> tuple[bytes, int]:
    ends = np.flatnonzero(np.frombuffer(whole, dtype=np.uint8) == 10)
    long = np.flatnonzero(np.diff(ends, prepend=-1) > LONGEST_LINE + 1)
    if len(long):
        parts = []
        start = 0
        for line in long.tolist():
            begin = int(ends[line - 1]) + 1 if line else 0
            parts.append(whole[start:begin])
            start = int(ends[line])
            too_long(number + line, whole[begin : begin + LONGEST_LINE])
        whole = b"".join(parts) + whole[start:]
    return whole, len(ends)


def _raw(name: str, stream: IO[bytes]) -> Iterator[bytes]:
    while True:
        parts: list[bytes] = []
        missing = BLOCK
        try:
            while missing and (part := stream.read(missing)):  # pipes may return less than requested
                parts.append(part)
                missing -= len(part)
        except OSError as error:
            raise UsageError(f"{name}: cannot be read: {error.strerror or error}", "choose a readable file") from error
        if parts:
            yield b"".join(parts)
        if missing:
            return


def _unpacked(name: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
    first = next(blocks, b"")
    if not first.startswith(_GZIP):
        yield first
        yield from blocks
        return
    engine = zlib.decompressobj(31)
    made: list[bytes] = []
    size = 0
    for block in _chained(first, blocks):
        for start in range(0, len(block), _SLICE):
            data = block[start : start + _SLICE]
            while data:
                if engine.eof:
                    data = data.lstrip(b"\0")  # tapes pad with zeros
                    if not data:
                        break
                    engine = zlib.decompressobj(31)
                part = _inflated(name, engine, data)
                data = engine.unused_data if engine.eof else engine.unconsumed_tail
                made.append(part)
                size += len(part)
                if size >= BLOCK:
                    yield b"".join(made)
                    made, size = [], 0
    while not engine.eof and (part := _inflated(name, engine, b"")):
        made.append(part)
    if not engine.eof:
        raise UsageError(f"{name}: the gzip data ends prematurely", "fetch the file again")
    yield b"".join(made)


def _inflated(name: str, engine: zlib._Decompress, data: bytes) -> bytes:
    try:
        return engine.decompress(data, BLOCK)
    except zlib.error as error:
        raise UsageError(f"{name}: the gzip data is corrupt", "fetch the file again", str(error)) from error


def _limited(name: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
    size = 0
    for block in blocks:
        size += len(block)
        if size > LARGEST:
            raise UsageError(f"{name}: more than {LARGEST >> 20} MiB of text", "split it, or check what it is")
        yield block


def _eight_bit(name: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
    first = next(blocks, b"")
    if known := not_text(first):
        raise UsageError(f"{name}: not text that can be read: {known[0]}", known[1])
    wide = encoding(first)
    decoder = codecs.getincrementaldecoder(wide)("replace") if wide else None
    first = first.removeprefix(codecs.BOM_UTF8)
    for block in _chained(first, blocks):
        plain = decoder.decode(block).encode("utf-8", "replace") if decoder else block
        controls = len(plain) - len(plain.translate(None, _CONTROLS))
        if b"\0" in plain or controls > len(plain) * _CONTROLS_SHARE:
            raise UsageError(f"{name}: not text", "use a text file, plain or gzipped")
        yield plain


def _line_feeds(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Convert line ends to line feeds, and end the last line too."""
    held = last = b""
    for block in blocks:
        whole = held + block
        held = b""
        if b"\r" in whole:
            if whole.endswith(b"\r"):  # its line feed may be in the next block
                whole, held = whole[:-1], b"\r"
            whole = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if whole:
            if last:
                yield last
            last = whole
    if held or not last.endswith(b"\n"):
        last += b"\n"
    yield last


def _chained(first: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from blocks
