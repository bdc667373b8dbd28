# SPDX-License-Identifier: GPL-2.0
"""Network namespaces: the names users give, the names they are recorded under, and running code inside one.

A namespace has one of four names: empty (the one this command runs in), a name in /run/netns, ``pid N`` (that of a
process), or the path of its file. A process id and any path below /proc can come to mean another namespace later, so
such a name is recorded together with the namespace's cookie (`expect`), which is never reused.

Entering uses setns(2) in this thread. Helpers that fork (as pyroute2 does) would run this program's clean-up code in
the child when a signal arrives, and a whole `ip netns exec` would hide the BPF file system.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from xdpguard.errors import MissingError, UsageError

FOLDER = Path("/run/netns")
OWN = "."  # the --netns name of the namespace this command runs in
GONE = -1  # a cookie that no namespace has
_PROC = Path("/proc")
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_SO_NETNS_COOKIE = 71  # asm-generic/socket.h
_OWN = Path("/proc/thread-self/ns/net")
_NSFS = _OWN.stat().st_dev  # the file system that all namespaces are files of
_HOME = _OWN.stat().st_ino  # this command's own namespace, even while a thread is inside another
_OF_PROCESS = re.compile(r"pid ([0-9]{1,10})")
_FILE_OF_PROCESS = re.compile(r"/proc/([0-9]{1,10})/ns/net")

# Once: each CDLL makes classes of its own, and a command enters dozens of namespaces.
_libc = ctypes.CDLL(None, use_errno=True)
_expected: dict[str, int] = {}  # by recorded name, the cookie it must have


class NoSuchNamespace(UsageError):
    """There is no such network namespace, or it no longer exists."""


class Place(NamedTuple):
    """A network namespace: its name (see above), its inode number, the file to enter it through."""

    name: str
    inode: int
    path: Path


def names() -> list[str]:
    """Return the named network namespaces."""
    return sorted(path.name for path in FOLDER.iterdir() if _is_namespace(path)) if FOLDER.is_dir() else []


def place_of(interface: str, netns: str | None) -> str:
    """Format an interface and its namespace for people."""
    return f"{interface} (in {netns})" if netns else interface


def arguments_of(interface: str, netns: str | None) -> str:
    """Format an interface and its namespace as arguments of a command."""
    return f"{interface} --netns {netns}" if netns else interface


def find(words: str) -> Place:
    """Return the namespace that a --netns argument means now.

    The argument is a name in /run/netns, ``pid N``, the path of a file, or ``.`` for this command's own. The result
    carries the shortest lasting name. Raises NoSuchNamespace if there is none.
    """
    own = _own()
    if "\0" in words:
        raise NoSuchNamespace(f"not a network namespace: {words!r} has a NUL character in it", "see ip netns")
    if words in ("", OWN):
        return own
    if words.startswith("/"):
        found = _of_path(words)
    elif match := _OF_PROCESS.fullmatch(words):
        found = _of_process(match[1])
    else:
        found = _named(words)
    return own if found.inode == own.inode else _named_like(found.inode) or found


def all_places() -> list[Place]:
    """Return every network namespace: this command's own first, then the named ones, then those of processes."""
    own = _own()
    found = {own.inode: own}
    for name in names():
        with contextlib.suppress(OSError, NoSuchNamespace):
            place = _named(name)
            found.setdefault(place.inode, place)
    for entry in os.scandir(_PROC):
        if entry.name.isdecimal():
            path = _PROC / entry.name / "ns" / "net"
            with contextlib.suppress(OSError):
                inode = path.stat().st_ino
                if inode not in found:
                    found[inode] = Place(f"pid {entry.name}", inode, path)
    return list(found.values())


def expect(name: str, cookie: int) -> None:
    """Set the cookie that a recorded name must have from here on in this process; ``GONE`` if its namespace is gone."""
    _expected[name] = cookie


def place(name: str) -> Place:
    """Return the namespace recorded under a name.

    If its process has ended, it is found again for as long as anything keeps it. Raises NoSuchNamespace if it no longer
    exists, even if its name now means another one.
    """
    if not name:
        return _own()
    if not (name.startswith("/") or _OF_PROCESS.fullmatch(name)):
        return _named(name)
    cookie = _expected.get(name)
    with contextlib.suppress(NoSuchNamespace, OSError):
        match = _OF_PROCESS.fullmatch(name)
        direct = _of_process(match[1]) if match else _of_path(name)
        if cookie is None or cookie_of(direct) == cookie:
            return direct._replace(name=name)
    for other in all_places() if cookie not in (None, GONE) else ():
        with contextlib.suppress(NoSuchNamespace, OSError):
            if cookie_of(other) == cookie:
                return other._replace(name=name)
    raise NoSuchNamespace(f"network namespace {name!r} no longer exists", "xdpguard detach removes its record")


def is_current(place: Place) -> bool:
    """Return whether the file still leads to this namespace."""
    try:
        return place.path.stat().st_ino == place.inode
    except OSError:
        return False


def cookie_of(place: Place) -> int:
    """Return the cookie, unique among all namespaces since boot; 0 before Linux 5.14.

    Raises NoSuchNamespace or OSError if the namespace no longer exists.
    """
    with entered_path(place.path), socket.socket() as made:
        try:
            return int.from_bytes(made.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), sys.byteorder)
        except OSError:
            return 0


@contextmanager
def entered(name: str) -> Iterator[None]:
    """Run the body in the namespace of a recorded name, then return to the own one. An empty name changes nothing."""
    if not name:
        yield
        return
    with entered_path(place(name).path):
        yield


@contextmanager
def entered_path(path: Path) -> Iterator[None]:
    """Run the body in the namespace of a file (in `FOLDER`, or /proc/PID/ns/net), then return to the own one."""
    own = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(path)
        try:
            yield
        finally:
            _setns(own)
    finally:
        os.close(own)


def _own() -> Place:
    return Place("", _HOME, Path(f"/proc/{os.getpid()}/ns/net"))


def _named(name: str) -> Place:
    if "/" in name or name not in names():
        known = ", ".join(names()) or "none"
        raise NoSuchNamespace(
            f"no network namespace {name!r}", f"there are: {known}; also accepted: 'pid N' (a process's) or a path"
        )
    path = FOLDER / name
    return Place(name, path.stat().st_ino, path)


def _named_like(inode: int) -> Place | None:
    for name in names():
        with contextlib.suppress(OSError, NoSuchNamespace):
            found = _named(name)
            if found.inode == inode:
                return found
    return None


def _of_process(number: str) -> Place:
    path = _PROC / number / "ns" / "net"
    try:
        return Place(f"pid {int(number)}", path.stat().st_ino, path)
    except OSError as error:
        raise NoSuchNamespace(f"no process {number}", "xdpguard tcp states lists the namespaces") from error


def _of_path(words: str) -> Place:
    if match := _FILE_OF_PROCESS.fullmatch(words):
        return _of_process(match[1])
    path = Path(words)
    with entered_path(path):  # raises if the file is not a network namespace
        pass
    return Place(words, path.stat().st_ino, path)


def _is_namespace(path: Path) -> bool:
    """Return whether a namespace is mounted there: `ip netns` makes the file before the mount, removes it after."""
    try:
        return path.stat().st_dev == _NSFS
    except OSError:
        return False


def _enter(path: Path) -> None:
    shown = path.name if path.parent == FOLDER else str(path)
    try:
        target = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _setns(target)
        finally:
            os.close(target)
    except OSError as error:
        if isinstance(error, PermissionError) and _is_namespace(path):
            needs = "CAP_SYS_PTRACE" if error.filename else "CAP_SYS_ADMIN"  # to open it, or to enter it
            raise MissingError(f"entering network namespace {shown} needs {needs}", "run it with sudo") from error
        raise NoSuchNamespace(
            f"cannot enter network namespace {shown!r}: {error.strerror}", "see ip netns, or lsns --type net"
        ) from error


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
