# SPDX-License-Identifier: GPL-2.0
"""Errors that no command has explained: a sentence and a remedy by their kind."""

from __future__ import annotations

import errno
import traceback

from xdpguard import shortage
from xdpguard.errors import MissingError, XdpguardError

_DOCTOR = "run again with -v to see where it happened; xdpguard doctor checks the environment"
_SCARCE = {
    # Of bpf(2); where a program's arguments are too long, its file is named.
    errno.E2BIG: ("a map of the kernel has no room for more", "remove what is no longer needed, then try again"),
    errno.ENOSPC: ("no space is left", "free some on the file system it writes to, then try again"),
    errno.EDQUOT: ("the disk quota is used up", "free some of it, then try again"),
    errno.EROFS: ("the file system is read-only", "mount it writable, or choose another place"),
}
_FORBIDDEN = (errno.EPERM, errno.EACCES)


def explained(error: Exception) -> XdpguardError:
    """Return the error to show for one that reached the top, with its traceback as details."""
    trace = "".join(traceback.format_exception(error))
    if short := shortage.of(error, trace):
        return short
    if isinstance(error, OSError):
        return _of_system(error, trace)
    return XdpguardError(f"unexpected: {type(error).__name__}: {error}", _DOCTOR, trace)


def _of_system(error: OSError, trace: str) -> XdpguardError:
    from xdpguard.instance import ATTACHED, in_a_row, lacks

    where = f"{error.filename}: " if error.filename else ""
    lacking = lacks()
    if error.errno in _FORBIDDEN and lacking:
        # With CAP_BPF, what is refused is to open a program or map by its id, or to enter a namespace.
        by_id = "CAP_BPF" not in lacking and "CAP_SYS_ADMIN" in lacking
        needs = "CAP_SYS_ADMIN" if by_id else in_a_row(lacking)
        return MissingError(
            f"{where}not permitted: this needs {needs}, which this process lacks", "run it with sudo", trace
        )
    if error.errno in _FORBIDDEN:
        may = "chattr +i or a security module" if where else "a security module, lockdown or a seccomp filter"
        words = f"{where}not permitted, although this process has {in_a_row(ATTACHED)}"
        return MissingError(words, f"find out what forbids it: {may} may; see dmesg", trace)
    if error.errno in _SCARCE and not (where and error.errno == errno.E2BIG):
        words, remedy = _SCARCE[error.errno]
        return MissingError(f"{where}{words}", remedy, trace)
    words = error.strerror or str(error)
    return XdpguardError(f"{where}{words}" if where else f"unexpected: {words}", _DOCTOR, trace)
