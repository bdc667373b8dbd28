# SPDX-License-Identifier: GPL-2.0
"""Open and read the files that a user names. Whatever is wrong with a name or a file is one sentence about it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from xdpguard import shortage
from xdpguard.errors import UsageError, XdpguardError

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_REASONS = {
    errno.ENOENT: "there is no such file",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.ELOOP: "its symbolic links form a loop",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENOTDIR: "a part of the path is not a directory",
    errno.ENXIO: "nothing is at its other end",
}


def shown(path: str | Path) -> str:
    """Return a path as text that is safe to print: in quotes, escaped, where it is not plain."""
    text = str(path)
    short = text if len(text) <= 200 else f"{text[:100]}...{text[-90:]}"
    return short if short.isprintable() and short else ascii(short)


def check_name(path: str | Path, remedy: str = "name a file") -> None:
    """Raise UsageError if no file can have that name."""
    if not str(path):
        raise UsageError("the file name is empty", remedy)
    if "\0" in str(path):
        raise UsageError(f"not a file name: {shown(path)} has a NUL character in it", remedy)


def opened(path: Path, remedy: str) -> int:
    """Open a regular file for reading; return its descriptor. Raise UsageError for anything else, without waiting.

    Raises MissingError if no more files can be opened.
    """
    check_name(path, remedy)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, UnicodeError) as error:
        raise refused(error, f"{shown(path)}: cannot be read: {reason(path, error)}", remedy) from error
    kind = kind_of(os.fstat(descriptor).st_mode)
    if kind:
        os.close(descriptor)
        raise UsageError(f"{shown(path)}: cannot be read: it is {kind}, not a regular file", remedy)
    return descriptor


def read_bounded(path: Path, most: int, remedy: str) -> bytes:
    """Read a regular file of at most ``most`` bytes. Raise UsageError for a larger one, and as `opened` does."""
    with os.fdopen(opened(path, remedy), "rb") as file:
        try:
            data = file.read(most + 1)
        except OSError as error:
            raise UsageError(f"{shown(path)}: cannot be read: {reason(path, error)}", remedy) from error
    if len(data) > most:
        raise UsageError(f"{shown(path)}: larger than {most:,} bytes, which is the most for such a file", remedy)
    return data


def refused(error: OSError | UnicodeError, message: str, remedy: str) -> XdpguardError:
    """Return the error to raise for a file that could not be opened: it may not be the file that is at fault."""
    return shortage.of(error) or UsageError(message, remedy)


def kind_of(mode: int) -> str:
    """Return what something is that is not a regular file; empty if it is one."""
    if stat.S_ISREG(mode):
        return ""
    return next((words for test, words in _KINDS if test(mode)), "something else")


def reason(path: str | Path, error: OSError | UnicodeError) -> str:
    """Return why a file could not be opened."""
    if isinstance(error, UnicodeError):
        return "its name cannot be encoded"
    if error.errno == errno.ENXIO and Path(path).is_socket():
        return "it is a socket, not a regular file"
    return _REASONS.get(error.errno or 0, error.strerror or str(error))
