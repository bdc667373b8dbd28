# SPDX-License-Identifier: GPL-2.0
"""Two namespaces on one link, with a network on VLAN 5 beside the untagged one, as VLAN devices would have it.

Made of four tc programs instead of VLAN devices, which not every kernel has: on its way out, what is for VLANS4 gets
its tag *beside* the frame, as the kernel's VLAN devices do it; what arrives loses its tag, and a packet for VLANS4 that
arrives without one is dropped.
"""

from __future__ import annotations

import os
import struct

from support.field import Namespaces, echoed, put_pass
from xdpguard.dataplane.sys import kernel
from xdpguard.net.netns import entered

VLAN = 5
PLAIN4, VLANS4 = "10.77.1", "10.77.5"  # networks of 24 bits; the server is .1, the client .2
SERVER_MAC, CLIENT_MAC = "02:00:00:77:00:01", "02:00:00:77:00:02"
INTERFACE = "v0"
_SCHED_CLS = 3  # BPF_PROG_TYPE_SCHED_CLS
_INGRESS, _EGRESS = 0xFFFFFFF2, 0xFFFFFFF3  # linux/pkt_sched.h
_LOAD_BYTES, _PUSH, _POP = 26, 18, 19  # bpf_skb_load_bytes, bpf_skb_vlan_push, bpf_skb_vlan_pop
_OK, _SHOT = 0, 2  # TC_ACT_*


def _op(code: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, source << 4 | target, offset, value)


def _network() -> int:
    return int.from_bytes(bytes(int(part) for part in VLANS4.split(".")) + b"\0", "little")


def _is_tagged_network(other: int) -> bytes:
    """r6 is the context; jumps over ``other`` instructions where the destination is not in VLANS4."""
    return b"".join(
        [
            _op(0xBF, 1, 6),
            _op(0xB7, 2, value=30),
            _op(0xBF, 3, 10),
            _op(0x07, 3, value=-4),
            _op(0xB7, 4, value=4),
            _op(0x85, value=_LOAD_BYTES),
            _op(0x55, 0, offset=3 + other, value=0),
            _op(0x61, 1, 10, -4),
            _op(0x57, 1, value=0xFFFFFF),
            _op(0x55, 1, offset=other, value=_network()),
        ]
    )


def _out() -> bytes:
    push = [_op(0xBF, 1, 6), _op(0xB7, 2, value=0x0081), _op(0xB7, 3, value=VLAN), _op(0x85, value=_PUSH)]
    return b"".join([_op(0xBF, 6, 1), _is_tagged_network(4), *push, _op(0xB7, 0, value=_OK), _op(0x95)])


def _in() -> bytes:
    refuse = [_op(0xB7, 0, value=_SHOT), _op(0x95)]
    untagged = [_is_tagged_network(2), *refuse, _op(0xB7, 0, value=_OK), _op(0x95)]
    tagged = [_op(0xBF, 1, 6), _op(0x85, value=_POP), _op(0xB7, 0, value=_OK), _op(0x95)]
    head = [_op(0xBF, 6, 1), _op(0x61, 2, 1, 20), _op(0x55, 2, offset=len(b"".join(untagged)) // 8)]
    return b"".join([*head, *untagged, *tagged])


class Tagged(Namespaces):
    """A server and a client."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.server, self.client = f"{name}-s", f"{name}-c"

    def connects(self, address: str) -> bool:
        """Whether the client gets back what it sends."""
        return echoed(self.client, address)

    def offload(self, netns: str, feature: str, on: bool) -> None:
        """Switches an offload of one end, as ethtool names it."""
        self.run(netns, f"ethtool -K {INTERFACE} {feature} {'on' if on else 'off'}")

    def _make(self) -> None:
        for suffix in ("s", "c"):
            self.more(suffix)
        macs = {self.server: SERVER_MAC, self.client: CLIENT_MAC}
        peer = f"peer name {INTERFACE} netns {self.client} address {CLIENT_MAC}"
        self.run(self.server, f"ip link add {INTERFACE} address {SERVER_MAC} type veth {peer}")
        for netns, own, other in ((self.server, 1, 2), (self.client, 2, 1)):
            self.run(netns, f"ip link set {INTERFACE} up")
            for network in (PLAIN4, VLANS4):
                self.run(netns, f"ip address add {network}.{own}/24 dev {INTERFACE}")
                mac = macs[self.client if netns == self.server else self.server]
                neighbour = f"{network}.{other} lladdr {mac} dev {INTERFACE}"
                self.run(netns, f"ip neigh replace {neighbour} nud permanent")
            self._programs(netns)
        self.run(self.server, "sysctl -qw net.ipv4.tcp_syncookies=2 net.ipv4.tcp_timestamps=2")
        put_pass(INTERFACE, self.client)

    def _programs(self, netns: str) -> None:
        from pyroute2 import IPRoute

        with entered(netns), IPRoute() as route:
            index = route.link_lookup(ifname=INTERFACE)[0]
            route.tc("add", "clsact", index)
            for parent, code in ((_EGRESS, _out()), (_INGRESS, _in())):
                program = kernel.load(_SCHED_CLS, code, "tags")
                try:
                    route.tc(
                        "add-filter",
                        "bpf",
                        index,
                        ":1",
                        fd=program,
                        name="tags",
                        parent=parent,
                        classid=1,
                        direct_action=True,
                    )
                finally:
                    os.close(program)
