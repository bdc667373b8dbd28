# SPDX-License-Identifier: GPL-2.0
"""Load the programs of bpf/tcp/ with a filter, and read what they all share."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdpguard.closeable import Closeable
from xdpguard.dataplane.build.tracepoints import Tracepoints, format_of, require_tracepoints
from xdpguard.dataplane.sys import btf, kernel
from xdpguard.dataplane.sys.ring import Ring
from xdpguard.errors import MissingError
from xdpguard.tcp.filters import Filter

INODES = 65_536  # sockets of one process that can be followed
_PROBE = "tcp:tcp_probe"


class Attached(Closeable):
    """An attached program of bpf/tcp/. Use as a context manager."""

    _program: Tracepoints

    def programs(self) -> list[int]:
        """Return the descriptors of the programs in the kernel."""
        return self._program.program_fds()

    def close(self) -> None:
        """Detach."""
        self._program.close()


class Records:
    """The records of a program that has the maps of bpf/tcp/ring.h."""

    def __init__(self, program: Tracepoints, record: np.dtype[Any]) -> None:
        """``record`` is their layout."""
        self._ring = Ring(os.dup(program.map_fd("records")))
        self._lost = program.map_fd("records_lost")
        self._record = record

    def read(self) -> NDArray[Any]:
        """Return those there are now, oldest first."""
        return self._ring.array(self._record)

    def lost(self) -> int:
        """Return how many found no room."""
        return kernel.sum_over_cpus(self._lost)

    def close(self) -> None:
        """Close the ring."""
        self._ring.close()


class Recording(Attached):
    """An attached program that writes records to a ring buffer."""

    _ring: Records

    def lost(self) -> int:
        """Return the number of records lost: the ring was full, or the program was already running on that CPU."""
        return self._ring.lost() + self._program.missed()

    def close(self) -> None:
        """Detach and close the ring buffer."""
        self._ring.close()
        super().close()


def forget(fd: int, keys: np.dtype[Any], value_size: int, gone: Callable[[int], bool]) -> None:
    """Delete the entries of a map whose key names a namespace, by inode number, for which ``gone`` is true."""
    raw, _, number = kernel.entries(fd, keys.itemsize, value_size)
    for place, netns in enumerate(np.frombuffer(raw, keys, number)["netns"].tolist()):
        if gone(netns):
            kernel.delete(fd, raw[place * keys.itemsize : (place + 1) * keys.itemsize])


def load(
    name: str,
    tracepoints: Collection[str],
    chosen: Filter,
    switches: Mapping[str, int],
    pid: int | None = None,
    raw: Mapping[str, str] | None = None,
) -> Tracepoints:
    """Compile and attach bpf/tcp/NAME.c. Raise MissingError if the kernel lacks what it needs.

    ``pid`` overrides the filter's, for a command that decides by itself whose sockets are wanted. ``raw``: see
    `Tracepoints`.
    """
    require_tracepoints(tracepoints)
    places = btf.tcp_switches()
    if not places:
        raise MissingError(
            "the kernel has no type information (BTF), which locates the namespace of a socket",
            "use a kernel with CONFIG_DEBUG_INFO_BTF; xdpguard tcp states works without it, except with --watch",
        )
    wanted = chosen.switches()
    if pid is not None:
        wanted["PID"] = pid
    wanted["INODES"] = INODES
    if _PROBE in tracepoints:
        wanted["PROBE_SOCKET"] = int(tells_socket())
        if not wanted["PROBE_SOCKET"]:
            raw = {**(raw or {}), "xg_probe_first": _PROBE.partition(":")[2]}
    return Tracepoints(f"tcp/{name}.c", tracepoints, {**places, **wanted, **switches}, raw)


def tells_socket() -> bool:
    """Return whether the tracepoint tcp_probe has the socket's address; in older kernels it has only a cookie."""
    return "skaddr" in format_of(_PROBE)
