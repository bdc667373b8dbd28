# SPDX-License-Identifier: GPL-2.0
"""Where a capture is written to: a file, a FIFO, standard output. Whole blocks only, as far as that is possible."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

from xdpguard.errors import UsageError, XdpguardError


class Output:
    """An opened output. Use as a context manager."""

    def __init__(self, name: str) -> None:
        """Opens it; an ordinary file is emptied. ``-``: standard output. UsageError when that cannot be written."""
        self._name = name if name != "-" else "standard output"
        try:
            self.fd = os.dup(1) if name == "-" else _opened(name)
            self._regular = stat.S_ISREG(os.fstat(self.fd).st_mode)
        except OSError as error:
            raise UsageError(
                f"cannot write {self._name}: {error.strerror}", "name a file that can be written"
            ) from error
        if os.isatty(self.fd):
            os.close(self.fd)
            raise UsageError("-w - writes binary data, and standard output is a terminal", "name a file, or pipe it")
        self._torn = False

    def write(self, block: bytes) -> None:
        """Appends a block. XdpguardError when there is no room for it, BrokenPipeError when nobody reads any more.

        A file then ends with the block before.
        """
        done = 0
        if self._torn:
            return
        try:
            while done < len(block):
                done += os.write(self.fd, block[done:])
        except BaseException as error:
            if done:
                self._take_back(done)
            if not isinstance(error, OSError) or isinstance(error, BrokenPipeError):
                raise
            raise XdpguardError(
                f"cannot write {self._name}: {error.strerror}",
                "make room there, or name another file; what it holds is whole",
            ) from error

    def _take_back(self, octets: int) -> None:
        if self._regular:
            with contextlib.suppress(OSError):
                begin = os.lseek(self.fd, -octets, os.SEEK_CUR)
                os.ftruncate(self.fd, begin)
        else:
            self._torn = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.fd)


def _opened(name: str) -> int:
    path = Path(name)
    if path.exists() and not path.is_file() and not path.is_fifo():
        raise UsageError(f"{name!r} is no file", "name a file to be written, or - for standard output")
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
