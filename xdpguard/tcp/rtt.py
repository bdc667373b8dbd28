# SPDX-License-Identifier: GPL-2.0
"""Smoothed round-trip times (RFC 6298) of connections, in histograms that the kernel fills."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.sys.layouts.arrays import dtype
from xdpguard.dataplane.sys.layouts.tcp import Group as GroupLayout
from xdpguard.dataplane.sys.layouts.tcp import Times
from xdpguard.tcp import program
from xdpguard.tcp.filters import Filter, mask_halves
from xdpguard.tcp.histogram import Histogram
from xdpguard.tcp.process import Inodes
from xdpguard.tcp.program import Attached

TRACEPOINTS = ("tcp:tcp_probe",)
By = Literal["all", "local", "remote", "local-port", "remote-port"]
_ENTRIES = 262_144  # of groups and buckets; a group has some ten buckets
_GROUP, _TIMES = dtype(GroupLayout), dtype(Times)


class Group(NamedTuple):
    """What times are grouped by: a namespace by inode number, and the masked address (16 bytes) or the port of one end;
    zero where it is not part of the grouping.
    """

    netns: int
    address: bytes
    port: int


class RoundTrips(Attached):
    """The attached program. Use as a context manager."""

    def __init__(self, chosen: Filter, by: By = "all", prefix4: int = 32, prefix6: int = 128) -> None:
        """``chosen.longer`` is the minimum time, us."""
        high, low = mask_halves(prefix6)
        mask4 = int.from_bytes((((1 << prefix4) - 1) << (32 - prefix4)).to_bytes(4, "big"), "little")
        self._program = program.load(
            "rtt",
            TRACEPOINTS,
            chosen,
            {
                "GROUP_REMOTE": int(by.startswith("remote")),
                "GROUP_ADDRESS": int(by in ("local", "remote")),
                "GROUP_PORT": int(by.endswith("port")),
                "GROUP_MASK4": mask4,
                "GROUP_MASK6_HIGH": high,
                "GROUP_MASK6_LOW": low,
                "GROUPS": _ENTRIES,
            },
        )
        self._times = self._program.map_fd("times")
        self._lost = self._program.map_fd("times_lost")
        self.inodes = Inodes(self._program, chosen.pid)

    def read(self) -> dict[Group, Histogram]:
        """Return every group's times in us since the program was attached."""
        keys, values, number = kernel.entries(self._times, _GROUP.itemsize, _TIMES.itemsize)
        groups, times = np.frombuffer(keys, _GROUP, number), np.frombuffer(values, _TIMES, number)
        found: dict[Group, Histogram] = {}
        for (address, netns, port, bucket), (count, total) in zip(groups.tolist(), times.tolist(), strict=True):
            found.setdefault(Group(netns, address, port), Histogram()).add(bucket, count, total)
        return found

    def forget(self, gone: Callable[[int], bool]) -> None:
        """Remove the times of those namespaces, by inode number, for which ``gone`` is true."""
        program.forget(self._times, _GROUP, _TIMES.itemsize, gone)

    def lost(self) -> int:
        """Return the number of times dropped because there were too many groups."""
        return kernel.sum_over_cpus(self._lost)
