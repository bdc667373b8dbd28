# SPDX-License-Identifier: GPL-2.0
"""What is taken over from connection tracking, from messages as the kernel sends them."""

from __future__ import annotations

import socket
import struct

import pytest

from xdpguard.net.conntrack import Flow, parse
from xdpguard.net.netlink import attribute

REMOTE, OWN, INSIDE = (socket.inet_aton(it) for it in ("198.51.100.9", "192.0.2.1", "10.0.0.2"))
TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP
ANSWERED, SOURCE_NAT, DESTINATION_NAT = 2, 16, 32


def ends(kind: int, protocol: int, source: tuple[bytes, int], to: tuple[bytes, int]) -> bytes:
    ip = attribute(1, attribute(1, source[0]) + attribute(2, to[0]))
    ports = b"".join(attribute(it, struct.pack("!H", port)) for it, port in ((2, source[1]), (3, to[1])))
    return attribute(kind, ip + attribute(2, attribute(1, bytes([protocol])) + ports))


def message(protocol: int, status: int, state: int, original: bytes, reply: bytes) -> bytes:
    state_ = attribute(4, attribute(1, attribute(1, bytes([state])))) if protocol == TCP else b""
    return bytes(4) + original + reply + attribute(3, struct.pack("!I", status)) + state_


def begun_inside(protocol: int, status: int, state: int = 3) -> bytes:
    """By a container, whose address is translated to this host's."""
    original = ends(1, protocol, (INSIDE, 40_000), (REMOTE, 443))
    return message(protocol, status, state, original, ends(2, protocol, (REMOTE, 443), (OWN, 40_001)))


def begun_outside(protocol: int, status: int, state: int = 3) -> bytes:
    """With a port of this host's that is passed on to a container."""
    original = ends(1, protocol, (REMOTE, 5000), (OWN, 80))
    return message(protocol, status, state, original, ends(2, protocol, (INSIDE, 8080), (REMOTE, 5000)))


@pytest.mark.parametrize(
    ("what", "found"),
    [
        (begun_inside(TCP, ANSWERED | SOURCE_NAT), [Flow(TCP, REMOTE, 443, 40_001)]),
        (begun_inside(UDP, ANSWERED | SOURCE_NAT), [Flow(UDP, REMOTE, 443, 40_001)]),
        (begun_inside(UDP, ANSWERED), [Flow(UDP, REMOTE, 443, 40_001)]),
        (begun_inside(TCP, ANSWERED), []),  # its socket is found, or it is forwarded
        (begun_inside(TCP, SOURCE_NAT), []),
        (begun_inside(TCP, ANSWERED | SOURCE_NAT, state=2), []),
        (begun_outside(TCP, ANSWERED | DESTINATION_NAT), [Flow(TCP, INSIDE, 8080, 5000), Flow(TCP, REMOTE, 5000, 80)]),
        (begun_outside(TCP, DESTINATION_NAT, state=1), []),  # a SYN of a flood
        (bytes(4), []),
    ],
)
def test_what_is_taken_over(what: bytes, found: list[Flow]) -> None:
    assert list(parse(what)) == found
