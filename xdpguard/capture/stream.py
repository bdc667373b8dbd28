# SPDX-License-Identifier: GPL-2.0
"""A file as a stream of bytes: plain or gzip, with a bounded part of it in memory."""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

from xdpguard import files
from xdpguard.errors import UsageError

_CHUNK = 1 << 20
_PACKED = 1 << 16
_GZIP = b"\x1f\x8b"
_WINDOW = 31  # zlib's wbits: 15, plus 16 for gzip


class Stream:
    """A read buffer: ``data`` from ``at`` on is unread. The consumer advances ``at``."""

    def __init__(self, file: IO[bytes], name: str = "the file") -> None:
        """``name``: for error messages. Raise UsageError if the file cannot be read, here and in ``fill``."""
        self._file, self._name = file, name
        self._unzipped: _Unzipped | None = None
        self.data = b""
        self.at = 0
        if self.fill(2) and self.data[:2] == _GZIP:
            self._unzipped = _Unzipped(self.data, self._read)
            self.data = b""

    @property
    def zipped(self) -> bool:
        """Whether the file is gzip."""
        return self._unzipped is not None

    @property
    def broken(self) -> str:
        """Why reading stopped, other than at the end of the file; empty if it did not."""
        return self._unzipped.broken if self._unzipped else ""

    def fill(self, count: int) -> bool:
        """Make ``count`` bytes available; return False if there are fewer."""
        read = self._unzipped.read if self._unzipped else self._read
        while len(self.data) - self.at < count:
            more = read(max(_CHUNK, count))
            if not more:
                return False
            self.data = self.data[self.at :] + more
            self.at = 0
        return True

    def left(self) -> int:
        """Return the number of bytes available."""
        return len(self.data) - self.at

    def _read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            raise UsageError(
                f"cannot read {self._name}: {error.strerror or error}", "choose a readable capture file"
            ) from error


class _Unzipped:
    """The members of a gzip file. Data before damage is still returned; ``broken`` describes the damage."""

    def __init__(self, first: bytes, read: Callable[[int], bytes]) -> None:
        self.broken = ""
        self._packed, self._more = first, read
        self._member = zlib.decompressobj(_WINDOW)

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes; none at the end."""
        while not self.broken:
            self._packed = self._packed or self._more(_PACKED)
            ended = not self._packed
            if self._member.eof:
                if ended:
                    break
                self._packed = self._packed.lstrip(b"\0")  # members may be padded
                if self._packed:
                    self._member = zlib.decompressobj(_WINDOW)
                continue
            found = self._unpack(size)
            if found:
                return found
            if ended and not self.broken:
                self.broken = "the gzip data ends prematurely"
        return b""

    def _unpack(self, size: int) -> bytes:
        """Decompress; zlib returns nothing of a damaged piece, so the size is halved until only the damage is left."""
        while True:
            before = self._member.copy()
            try:
                found = self._member.decompress(self._packed, size)
            except zlib.error as error:
                self._member = before
                if size == 1:
                    self.broken = f"the gzip data is corrupt ({error})"
                    return b""
                size //= 2
                continue
            self._packed = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            return found


def opened(name: str) -> IO[bytes]:
    """Open a file, or standard input for ``-``. Raise UsageError if it cannot be read."""
    if name == "-":
        if sys.stdin is None:
            raise UsageError("standard input is closed", "name a file")
        return sys.stdin.buffer
    return os.fdopen(files.opened(Path(name), "name a capture file, or - for standard input"), "rb")
