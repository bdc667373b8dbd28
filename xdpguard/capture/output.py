# SPDX-License-Identifier: GPL-2.0
"""The output of a capture: a file, a FIFO or standard output. Writes whole blocks only, as far as possible."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from xdpguard import files
from xdpguard.closeable import Closeable
from xdpguard.errors import UsageError, XdpguardError


class Output(Closeable):
    """An open output. Use as a context manager."""

    def __init__(self, name: str) -> None:
        """Open it, truncating a regular file; ``-`` is standard output. Raise UsageError if it cannot be written."""
        self._name = name if name != "-" else "standard output"
        try:
            self.fd = os.dup(1) if name == "-" else _opened(name)
            self._regular = stat.S_ISREG(os.fstat(self.fd).st_mode)
        except (OSError, UnicodeError) as error:
            why = files.reason(name, error)
            what = f"cannot write {files.shown(self._name)}: {why}"
            raise files.refused(error, what, "choose a writable file") from error
        if os.isatty(self.fd):
            os.close(self.fd)
            raise UsageError("-w - writes binary data, but standard output is a terminal", "name a file or pipe it")
        self._torn = False

    def write(self, block: bytes) -> None:
        """Append a block. Raise XdpguardError if there is no room for it, BrokenPipeError if the reader is gone.

        A file then ends with the previous block.
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
                "free space there or name another file; what it holds so far is intact",
            ) from error

    def _take_back(self, count: int) -> None:
        if self._regular:
            with contextlib.suppress(OSError):
                begin = os.lseek(self.fd, -count, os.SEEK_CUR)
                os.ftruncate(self.fd, begin)
        else:
            self._torn = True

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)


def _opened(name: str) -> int:
    files.check_name(name, "name an output file, or - for standard output")
    path = Path(name)
    if path.exists() and not path.is_file() and not path.is_fifo():
        raise UsageError(f"{name!r} is not a file", "name an output file, or - for standard output")
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
