# SPDX-License-Identifier: GPL-2.0
"""The outer ends of tunnels, from what the kernel tells of devices and of WireGuard's peers."""

from __future__ import annotations

import socket
import struct

import pytest

from xdpguard.net import linkinfo, tunnels, wireguard
from xdpguard.net.netlink import attribute
from xdpguard.policy.target import Port, Prefix, parse_prefix

INNER = "10.99.0.2"


def prefix(text: str) -> Prefix:
    return parse_prefix(text)[0]


def packed(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def link(ifindex: int, kind: str, data: bytes = b"", below: int = 0) -> bytes:
    """An RTM_NEWLINK message."""
    info = attribute(linkinfo.INFO_KIND, kind.encode() + b"\0") + attribute(linkinfo.INFO_DATA, data)
    its = attribute(linkinfo.NAME, f"dev{ifindex}".encode() + b"\0") + attribute(linkinfo.LINKINFO, info)
    its += attribute(linkinfo.LINK, struct.pack("=I", below)) if below else b""
    return linkinfo.HEADER.pack(socket.AF_UNSPEC, 1, ifindex, 0, 0) + its


# The attributes as `ip link add` sends them: kind, number of the remote end, address; number and value of the port.
TUNNELS = [
    ("ipip", 3, "192.0.2.1", 0, 0),
    ("sit", 3, "192.0.2.1", 0, 0),
    ("ip6tnl", 3, "2001:db8::1", 0, 0),
    ("gre", 7, "192.0.2.1", 0, 0),
    ("gretap", 7, "192.0.2.1", 0, 0),
    ("ip6gre", 7, "2001:db8::1", 0, 0),
    ("vti", 5, "192.0.2.1", 0, 0),
    ("vxlan", 2, "192.0.2.1", 15, 4789),
    ("vxlan", 16, "2001:db8::1", 15, 8472),
    ("geneve", 2, "192.0.2.1", 5, 6081),
    ("geneve", 7, "2001:db8::1", 5, 6081),
]


@pytest.mark.parametrize(("kind", "place", "remote", "port_place", "port"), TUNNELS)
def test_the_remote_end_of_a_tunnel(kind: str, place: int, remote: str, port_place: int, port: int) -> None:
    data = attribute(place, packed(remote))
    data += attribute(port_place, struct.pack(">H", port)) if port else b""
    found = tunnels.of_device(tunnels.parse(link(5, kind, data)))
    assert found == tunnels.Outer(prefix(remote), "dev5", Port(port, "udp") if port else None)


@pytest.mark.parametrize(
    ("kind", "place", "remote"), [("gre", 7, "0.0.0.0"), ("vxlan", 2, "239.1.1.1"), ("vxlan", 16, "ff05::1")]
)
def test_a_tunnel_without_a_single_remote_end(kind: str, place: int, remote: str) -> None:
    assert tunnels.of_device(tunnels.parse(link(5, kind, attribute(place, packed(remote))))) is None


def peer(key: bytes, endpoint: str, *allowed: str) -> bytes:
    """A peer in the answer of WG_CMD_GET_DEVICE."""
    its = attribute(1, key)
    if ":" in endpoint:
        its += attribute(4, struct.pack("=H2sI16sI", socket.AF_INET6, b"\0\x50", 0, packed(endpoint), 0))
    elif endpoint:
        its += attribute(4, struct.pack("=H2s4s8x", socket.AF_INET, b"\0\x50", packed(endpoint)))
    ips = b""
    for text in allowed:
        address, _, length = text.partition("/")
        family = struct.pack("=H", socket.AF_INET6 if ":" in address else socket.AF_INET)
        ips += attribute(
            0, attribute(1, family) + attribute(2, packed(address)) + attribute(3, struct.pack("=B", int(length)))
        )
    return attribute(0, its + attribute(9 | 1 << 15, ips))


def answer(*peers: bytes, port: int = 51820) -> bytes:
    its = attribute(6, struct.pack("=H", port)) if port else b""
    return struct.pack("=BBH", 0, 1, 0) + its + attribute(8 | 1 << 15, b"".join(peers))


def test_the_endpoint_of_the_peer_that_an_address_belongs_to() -> None:
    one, two, three, mapped = b"1" * 32, b"2" * 32, b"3" * 32, b"4" * 32
    found = wireguard.of_messages(
        [
            answer(peer(one, "192.0.2.1", "0.0.0.0/0"), peer(two, "2001:db8::2", "10.99.0.0/24")),
            # A peer goes on in the next message, which has its key and no endpoint again.
            answer(peer(two, "", "fd00::/64"), peer(three, "", "10.98.0.0/24"), port=0),
            answer(peer(mapped, "::ffff:192.0.2.4", "fd01::/64"), port=0),
        ]
    )
    assert found.port == Port(51820, "udp")
    for inner, outer in ((INNER, "2001:db8::2"), ("fd00::9", "2001:db8::2"), ("10.98.0.1", "192.0.2.1")):
        assert found.endpoint(prefix(inner)) == prefix(outer)
    assert found.endpoint(prefix("fd01::1")) == prefix("192.0.2.4")
    assert found.endpoint(prefix("fd02::1")) is None


def test_tunnels_within_tunnels() -> None:
    """A VLAN on VXLAN inside WireGuard, whose packets leave by an ordinary interface."""
    devices = {
        1: link(1, "", b""),
        2: link(2, "wireguard"),
        3: link(3, "vxlan", attribute(2, packed("10.0.0.2")) + attribute(15, struct.pack(">H", 4789))),
        4: link(4, "vlan", below=3),
    }
    routes = {prefix(INNER): 4, prefix("10.0.0.2"): 2, prefix("192.0.2.1"): 1}
    peers = wireguard.of_messages([answer(peer(b"1" * 32, "192.0.2.1", "10.0.0.0/24"))])
    found = list(
        tunnels.ends_of(prefix(INNER), routes.__getitem__, lambda it: tunnels.parse(devices[it]), lambda it: peers)
    )
    assert found == [
        tunnels.Outer(prefix("10.0.0.2"), "dev3", Port(4789, "udp")),
        tunnels.Outer(prefix("192.0.2.1"), "dev2", Port(51820, "udp")),
    ]


def test_a_loop_and_what_the_kernel_does_not_tell_end_the_search() -> None:
    """As with wg-quick: without its mark even the endpoint is routed into the tunnel."""
    peers = wireguard.of_messages([answer(peer(b"1" * 32, "192.0.2.1", "0.0.0.0/0"))])
    device = tunnels.parse(link(2, "wireguard"))
    (found,) = tunnels.ends_of(prefix(INNER), lambda it: 2, lambda it: device, lambda it: peers)
    assert found.address == prefix("192.0.2.1")

    def untold(it: int) -> wireguard.Device:
        raise OSError(2, f"no such device: {it}")

    assert list(tunnels.ends_of(prefix(INNER), lambda it: 2, lambda it: device, untold)) == []
