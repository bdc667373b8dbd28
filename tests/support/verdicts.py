# SPDX-License-Identifier: GPL-2.0
"""What the program on an interface decides about packets: it is run on them by the kernel (BPF_PROG_TEST_RUN)."""

from __future__ import annotations

import functools
import os
import socket

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from topology import OUTSIDE_MAC, SERVER4, SERVER6, SERVER_MAC

from support.policy_model import Probe
from xdpguard.dataplane.sys import kernel
from xdpguard.net.links import Links, NoSuchLink
from xdpguard.net.netns import entered

_DROP = 1  # enum xdp_action


@functools.cache
def _frame(probe: Probe) -> bytes:
    ip = IPv6(src=probe.source, dst=SERVER6) if ":" in probe.source else IP(src=probe.source, dst=SERVER4)
    return bytes(Ether(src=OUTSIDE_MAC, dst=SERVER_MAC) / ip / UDP(sport=4000, dport=probe.port) / Raw(b"probe"))


class Asked:
    """The program on an interface of a network namespace."""

    def __init__(self, netns: str, name: str) -> None:
        self._netns, self._name = netns, name

    def exists(self) -> bool:
        """Whether there is the interface."""
        try:
            Links().get(self._name, self._netns)
        except NoSuchLink:
            return False
        return True

    def program(self) -> int:
        """The program's id; 0 without one."""
        try:
            xdp = Links().get(self._name, self._netns).xdp
        except NoSuchLink:
            return 0
        return xdp.prog_id if xdp else 0

    def attached(self) -> bool:
        """Whether there is a program."""
        return self.program() != 0

    def drops(self, probe: Probe) -> bool:
        """Whether the packet is dropped; without a program none is."""
        number = self.program()
        if not number:
            return False
        descriptor = kernel.program_by_id(number)
        try:
            with entered(self._netns):
                return kernel.test_run(descriptor, _frame(probe), 1, socket.if_nametoindex(self._name)).verdict == _DROP
        finally:
            os.close(descriptor)
