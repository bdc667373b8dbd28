# SPDX-License-Identifier: GPL-2.0
"""What the environment is short of when a call fails for it, whatever the call was for, and what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import resource

from xdpguard.errors import MissingError

_MEMORY = ("failed to map segment", "cannot allocate memory")  # glibc's words when it loads a library
_SPACE = 128 << 20  # bytes of address space; with less, OpenBLAS ends the process itself when numpy is loaded
_DESCRIPTORS = 1024  # enough for every command; the maps alone are some 60


def of(error: BaseException, details: str = "", said: str = "") -> MissingError | None:
    """Return the error to report if one was caused by a shortage; None if it was not.

    ``said``: what a library printed before it failed.
    """
    number = getattr(error, "errno", None)
    words = f"{'' if number else error} {said}".lower()  # with an errno the text holds a file's name as well
    if isinstance(error, MemoryError) or number == errno.ENOMEM or any(it in words for it in _MEMORY):
        return MissingError(
            "there is too little memory, or address space (ulimit -v), for this",
            "free some, raise the limit, or load smaller lists",
            details,
        )
    if number == errno.EMFILE or os.strerror(errno.EMFILE).lower() in words:
        return MissingError(
            f"this process may open only {resource.getrlimit(resource.RLIMIT_NOFILE)[0]} files, which is too few",
            "raise the limit: ulimit -n 1024, or LimitNOFILE= in a systemd unit",
            details,
        )
    if number == errno.ENFILE:
        return MissingError("the system has no room for more open files", "raise fs.file-max with sysctl", details)
    return None


def prepare() -> None:
    """Take what is allowed: open files up to the hard limit; and leave what nobody needs. Call before numpy is loaded.

    numpy's linear algebra, which nothing here uses, would start a thread and reserve memory for each CPU. Raises
    MissingError if the address space is too small for it.
    """
    space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if 0 <= space < _SPACE:
        raise MissingError(
            f"this process may use only {space >> 10:,} KiB of address space, and needs {_SPACE >> 10:,}",
            "raise the limit (ulimit -v), or LimitAS= in a systemd unit",
        )
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _DESCRIPTORS and (hard == resource.RLIM_INFINITY or soft < hard):
        wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
