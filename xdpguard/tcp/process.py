# SPDX-License-Identifier: GPL-2.0
"""One process's sockets, told to the kernel by the inodes of their files (bpf/tcp/chosen.h)."""

from __future__ import annotations

from xdpguard.dataplane.build.tracepoints import Tracepoints
from xdpguard.dataplane.sys import kernel
from xdpguard.tcp.owners import inodes_of
from xdpguard.tcp.program import INODES


class Inodes:
    """The table of a process's sockets; of none, where every process is looked at (pid 0)."""

    def __init__(self, program: Tracepoints, pid: int) -> None:
        self._pid = pid
        self._fd = program.map_fd("inodes") if pid else -1
        self._held: set[int] = set()
        self.left_out = 0  # sockets that found no room
        self.refresh()

    @property
    def held(self) -> set[int] | None:
        """The inodes of the process's sockets; None where every process is looked at."""
        return self._held if self._pid else None

    def refresh(self) -> None:
        """Brings the table up to date. To be called every tenth of a second or so: a new socket counts from then on."""
        if not self._pid:
            return
        wanted = inodes_of(self._pid)
        self.left_out = max(0, len(wanted) - INODES)
        for inode in self._held - wanted:
            kernel.delete(self._fd, inode.to_bytes(4, "little"))
        self._held &= wanted
        for inode in wanted - self._held:
            if len(self._held) < INODES:
                kernel.update(self._fd, inode.to_bytes(4, "little"), b"\1")
                self._held.add(inode)
