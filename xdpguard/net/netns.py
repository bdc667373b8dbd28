# SPDX-License-Identifier: GPL-2.0
"""Network namespaces: working inside one for a while.

Done with setns(2) in this thread. Helpers that fork (pyroute2's own way) would run this program's clean-up code in the
child when a signal arrives; and a whole `ip netns exec` would hide the BPF file system.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xdpguard.errors import MissingError, UsageError

FOLDER = Path("/run/netns")
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_NETNS_COOKIE = 71  # SO_NETNS_COOKIE, Linux 5.14
_OWN = Path("/proc/thread-self/ns/net")


class NoSuchNamespace(UsageError):
    """There is no network namespace of that name."""


def names() -> list[str]:
    """The named network namespaces."""
    return sorted(path.name for path in FOLDER.iterdir()) if FOLDER.is_dir() else []


def place_of(interface: str, netns: str | None) -> str:
    """An interface in words."""
    return f"{interface} (in {netns})" if netns else interface


@contextmanager
def entered(name: str) -> Iterator[None]:
    """Puts this thread into a named namespace, and back at the end. An empty name changes nothing."""
    if not name:
        yield
        return
    with entered_path(path_of(name)):
        yield


def cookie() -> int:
    """The number of the namespace this thread is in. Unlike its inode it is never given again; 0: not known."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asker:
        try:
            return int.from_bytes(asker.getsockopt(socket.SOL_SOCKET, _NETNS_COOKIE, 8), sys.byteorder)
        except OSError:
            return 0


def path_of(name: str) -> Path:
    """The file of a named namespace. NoSuchNamespace, with the names there are, when there is none of that name."""
    if "/" in name or name not in names():
        raise NoSuchNamespace(f"no network namespace {name!r}", f"there are: {', '.join(names()) or 'none'}")
    return FOLDER / name


@contextmanager
def entered_path(path: Path) -> Iterator[None]:
    """As `entered`, by a namespace's file: one of `FOLDER`, or /proc/PID/ns/net."""
    own = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(path)
        try:
            yield
        finally:
            _setns(own)
    finally:
        os.close(own)


def _enter(path: Path) -> None:
    try:
        target = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(target)
        finally:
            os.close(target)
    except PermissionError as error:
        raise MissingError(f"no permission to enter network namespace {path.name}", "run it with sudo") from error
    except OSError as error:
        raise NoSuchNamespace(
            f"cannot enter network namespace {path.name!r}: {error.strerror}", "see ip netns"
        ) from error


def _setns(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
