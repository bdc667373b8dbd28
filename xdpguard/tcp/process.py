# SPDX-License-Identifier: GPL-2.0
"""The sockets of one process, passed to the kernel as inode numbers (bpf/tcp/chosen.h)."""

from __future__ import annotations

from xdpguard.dataplane.build.tracepoints import Tracepoints
from xdpguard.dataplane.sys import kernel
from xdpguard.tcp.owners import inodes_of
from xdpguard.tcp.program import INODES


class Inodes:
    """The kernel table of a process's sockets; unused if all processes are wanted (pid 0)."""

    def __init__(self, program: Tracepoints, pid: int) -> None:
        self._pid = pid
        self._fd = program.map_fd("inodes") if pid else -1
        self._held: set[int] = set()
        self.left_out = 0  # sockets that did not fit
        self.refresh()

    @property
    def held(self) -> set[int] | None:
        """The inodes of the process's sockets; None if all processes are wanted."""
        return self._held if self._pid else None

    def refresh(self) -> None:
        """Update the table. Call this about ten times a second: a new socket counts only from then on."""
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
