# SPDX-License-Identifier: GPL-2.0
"""Folders and files that only this user and root can change: what root keeps there, root may load again.

A path is followed from / with each folder held open, so that nobody can put another in its place between the check and
the use. As others can change none of the folders on the way, what a path named when it was checked, it names later too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from xdpguard import files, shortage
from xdpguard.closeable import opened
from xdpguard.errors import MissingError, XdpguardError

_MOST_LINKS = 40  # as the kernel's MAXSYMLINKS
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_Identity = tuple[int, ...]
_sound: dict[
    tuple[Path, bool], _Identity
] = {}  # of folders that were checked: a service opens maps in them all the time


def make_own(folder: Path) -> None:
    """Make a folder of this user's that nobody else can write, whatever the umask, with the one above it.

    Raises MissingError for a link, or a folder of another user, and if it cannot be made.
    """
    try:
        make(folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    check_own(folder.parent, shared=True)
    check_own(folder)
    with contextlib.suppress(OSError):
        status = folder.lstat()
        if status.st_mode & _OTHERS and status.st_uid == os.geteuid():
            folder.chmod(0o700)


def check_own(folder: Path, shared: bool = False) -> None:
    """Raise MissingError unless a folder is this user's or root's, is not a link, and nobody else can write it; and
    unless the same is true of the folders on the way to it, where links of root's are followed.

    ``shared``: where others can make files but not remove ours (/tmp) will do. A missing folder passes.
    """
    if _sound.get((folder, shared)) == (known := _identity(folder)) is not None:
        return  # the very folder that was found to be so, whatever leads to it now
    try:
        with opened(_follow(folder)) as found:
            status = os.fstat(found)
    except FileNotFoundError:
        return
    except OSError as error:
        raise unwritable(folder, error) from error
    if not stat.S_ISDIR(status.st_mode):
        raise MissingError(f"{folder} is not a directory", "remove it, then try again")
    _check(status, folder, shared)
    if known == _of(status):
        _sound[folder, shared] = known


def _identity(folder: Path) -> _Identity | None:
    """Return what tells a folder from any other, and from itself once it belongs to others; None if it is missing."""
    try:
        return _of(os.lstat(folder))
    except OSError:
        return None


def _of(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino, status.st_mode, status.st_uid, status.st_gid


def check_file(path: Path) -> None:
    """Raise MissingError unless a file and the folders on the way are this user's or root's, and closed to others'
    changes. Links of root's are followed. A missing file passes.
    """
    with contextlib.suppress(OSError), opened(_follow(path, links=True)) as found:
        _check(os.fstat(found), path, False)


def open_own(path: Path, flags: int) -> int:
    """Open a file that nobody else can change, never through a link; one that is made is closed to others.

    Raises MissingError for anything else, and if it cannot be opened.
    """
    try:
        return _open(path, flags)
    except OSError as error:
        raise unwritable(path, error) from error


def read_secret(path: Path, most: int, remedy: str = "name a file") -> bytes:
    """Read a file that holds a secret. Raise MissingError if others can read or change it, or it is too large, no
    regular file, or a link.
    """
    try:
        descriptor = _open(path, os.O_RDONLY)
    except OSError as error:
        message = f"{files.shown(path)}: cannot be read: {files.reason(path, error)}"
        raise shortage.of(error) or MissingError(message, remedy) from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise MissingError(f"{path} is not a regular file", remedy)
        if status.st_mode & _OTHERS:
            raise MissingError(f"{path} can be read by other users", f"close it: chmod 600 {path}")
        data = file.read(most + 1)
    if len(data) > most:
        raise MissingError(f"{path} is larger than {most:,} bytes", "check what is in it")
    return data


def unwritable(path: Path, error: OSError) -> XdpguardError:
    """Return the error to raise when the state directory cannot be written."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return MissingError(f"no permission to write {path}", "run as root: sudo xdpguard ...")
    return MissingError(
        f"cannot write {path}: {error.strerror}",
        "mount it writable, free space on it, or set XDPGUARD_STATE_DIR to another directory",
    )


def make(folder: Path) -> None:
    """Make a folder, and those above it, where missing. Raise as `check_own` does, or OSError."""
    try:
        above = _follow(folder.parent, links=True)
    except FileNotFoundError:
        make(folder.parent)
        above = _follow(folder.parent, links=True)
    with opened(above):
        _check(os.fstat(above), folder.parent, True)
        with contextlib.suppress(FileExistsError):  # or a link or a file, which check_own() names
            os.mkdir(folder.name, 0o700, dir_fd=above)


def _open(path: Path, flags: int) -> int:
    """Open a file as open_own does, but raise OSError if it cannot be opened."""
    with opened(_follow(path.parent, links=True)) as folder:
        _check(os.fstat(folder), path.parent, True)
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        try:
            descriptor = os.open(path.name, flags, 0o600, dir_fd=folder)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise MissingError(f"{path} is a link", "xdpguard follows none there: remove it, then try again") from error
    try:
        _check(os.fstat(descriptor), path, False)
    except MissingError:
        os.close(descriptor)
        raise
    return descriptor


def _follow(path: Path, links: bool = False) -> int:
    """Follow a path; return a descriptor (O_PATH) of what it names, which is not checked itself.

    ``links``: it may be a link. Raises MissingError for what others could change on the way, OSError as open does.
    """
    names = list(reversed(path.absolute().parts[1:]))
    left, at, here = _MOST_LINKS, _root(), Path("/")
    try:
        while names:
            status = os.fstat(at)
            if not stat.S_ISDIR(status.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(here))
            _check(status, here, True)
            below = here / names[-1]
            found = os.open(names.pop(), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            if not stat.S_ISLNK(os.fstat(found).st_mode):
                os.close(at)
                at, here = found, below
                continue
            with opened(found):
                left -= 1
                target = _target(found, below, links or bool(names), left)
            names += reversed(target.parts[1:] if target.is_absolute() else target.parts)
            if target.is_absolute():
                os.close(at)
                at, here = _root(), Path("/")
    except BaseException:
        os.close(at)
        raise
    return at


def _root() -> int:
    return os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _target(link: int, path: Path, followed: bool, left: int) -> Path:
    if not followed:
        raise MissingError(f"{path} is a link", "xdpguard trusts only a directory there: remove it, then try again")
    if os.fstat(link).st_uid not in (0, os.geteuid()):
        raise MissingError(f"{path} is a link, of user {os.fstat(link).st_uid}", "remove it, then try again")
    if left < 0:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return Path(os.readlink("", dir_fd=link))


def _check(status: os.stat_result, path: Path, shared: bool) -> None:
    """Raise MissingError unless this is this user's or root's, and others cannot change it."""
    if status.st_uid not in (0, os.geteuid()):
        raise MissingError(
            f"{path} belongs to user {status.st_uid}, who could change what root loads from it",
            f"check what is in it, then give it to root: chown -R root: {path}",
        )
    others = stat.S_IWOTH | (stat.S_IWGRP if status.st_gid not in (0, os.getegid()) else 0)
    if status.st_mode & others and not (shared and status.st_mode & stat.S_ISVTX):
        raise MissingError(
            f"{path} can be written by other users", f"check what is in it, then close it: chmod go-w {path}"
        )
