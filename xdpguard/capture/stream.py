# SPDX-License-Identifier: GPL-2.0
"""A file as a stream of octets: plain or gzip, a bounded part of it in memory."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from pathlib import Path
from typing import IO, cast

from xdpguard.errors import UsageError

_CHUNK = 1 << 20
_GZIP = b"\x1f\x8b"


class Stream:
    """What is read and not yet used: ``data`` from ``at`` on. Whoever uses it moves ``at``."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.data = b""
        self.at = 0
        self.broken = ""  # why nothing more can be read, when that is not the end of the file
        self.zipped = False
        if self.fill(2) and self.data[:2] == _GZIP:
            self.zipped = True
            self._file = cast(IO[bytes], gzip.GzipFile(fileobj=_Pushed(self.data, file)))
            self.data = b""

    def fill(self, count: int) -> bool:
        """Makes ``count`` octets available; False when there are fewer."""
        while len(self.data) - self.at < count:
            try:
                more = self._file.read(max(_CHUNK, count))
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                self.broken = f"the gzip data ends or is damaged there ({error})"
                more = b""
            if not more:
                return False
            self.data = self.data[self.at :] + more
            self.at = 0
        return True

    def left(self) -> int:
        """How many octets are available."""
        return len(self.data) - self.at


class _Pushed(io.RawIOBase):
    """A file of which the beginning has been read already."""

    def __init__(self, first: bytes, file: IO[bytes]) -> None:
        self._first, self._file = first, file

    def read(self, size: int = -1, /) -> bytes:
        if self._first:
            found, self._first = (self._first, b"") if size < 0 else (self._first[:size], self._first[size:])
            return found
        return self._file.read(size)


def opened(name: str) -> IO[bytes]:
    """A file, or standard input for ``-``. UsageError when it cannot be read."""
    if name == "-":
        if sys.stdin is None:
            raise UsageError("standard input is closed", "name a file")
        return sys.stdin.buffer
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise UsageError(
            f"cannot read {name}: {error.strerror}", "name a capture file, or - for standard input"
        ) from error
