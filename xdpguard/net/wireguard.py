# SPDX-License-Identifier: GPL-2.0
"""Where the peers of a WireGuard device are, as the kernel's module tells: generic netlink, linux/wireguard.h."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterable
from typing import NamedTuple

from xdpguard.net import netlink
from xdpguard.net.netlink import attribute, attributes, elements
from xdpguard.policy.target import MAPPED, Port, Prefix

_GET_DEVICE = 0  # WG_CMD_GET_DEVICE
_IFINDEX, _LISTEN_PORT, _PEERS = 1, 6, 8  # WGDEVICE_A_*
_PUBLIC_KEY, _ENDPOINT, _ALLOWED = 1, 4, 9  # WGPEER_A_*
_ADDRESS, _LENGTH = 2, 3  # WGALLOWEDIP_A_*
_GENERIC = struct.Struct("=BBH")  # struct genlmsghdr


class Device(NamedTuple):
    """A device: the UDP port it listens on, if any, and its peers: what each may send from, and its outer address."""

    port: Port | None
    peers: list[tuple[list[Prefix], Prefix]]

    def endpoint(self, inner: Prefix) -> Prefix | None:
        """Return the outer address of the peer that an inner address belongs to, None if it is not known."""
        held = [(it.length, outer) for allowed, outer in self.peers for it in allowed if it.covers(inner)]
        return max(held)[1] if held else None


def read(ifindex: int) -> Device:
    """Return a device of the network namespace this thread is in. Raise OSError if the kernel does not tell."""
    family = netlink.family("wireguard")
    request = _GENERIC.pack(_GET_DEVICE, 1, 0) + attribute(_IFINDEX, struct.pack("=I", ifindex))
    return of_messages(netlink.ask(netlink.GENERIC, family, request, dump=True))


def of_messages(messages: Iterable[bytes]) -> Device:
    """Parse the answer to WG_CMD_GET_DEVICE; a peer may go on in the next message."""
    port = 0
    allowed: dict[bytes, list[Prefix]] = {}
    outer: dict[bytes, Prefix] = {}
    for message in messages:
        its = attributes(message, _GENERIC.size)
        port = int.from_bytes(its.get(_LISTEN_PORT, b"")[:2], sys.byteorder) or port
        for peer in map(attributes, elements(its.get(_PEERS, b""))):
            key = peer.get(_PUBLIC_KEY, b"")
            found = map(_allowed, map(attributes, elements(peer.get(_ALLOWED, b""))))
            allowed.setdefault(key, []).extend(it for it in found if it)
            address = _address(peer.get(_ENDPOINT, b""))
            if address:
                outer[key] = address
    peers = [(its, outer[key]) for key, its in allowed.items() if key in outer]
    return Device(Port(port, "udp") if port else None, peers)


def _allowed(its: dict[int, bytes]) -> Prefix | None:
    address, length = its.get(_ADDRESS, b""), its.get(_LENGTH, b"")
    return Prefix(address, length[0]) if len(address) in (4, 16) and length else None


def _address(endpoint: bytes) -> Prefix | None:
    """Return the address in a struct sockaddr_in or sockaddr_in6; None if there is none."""
    family = struct.unpack_from("=H", endpoint)[0] if len(endpoint) >= 16 else 0
    if family == socket.AF_INET:
        return Prefix(endpoint[4:8], 32)
    if family != socket.AF_INET6 or len(endpoint) < 24:
        return None
    address = endpoint[8:24]
    return Prefix(address[12:], 32) if address.startswith(MAPPED) else Prefix(address, 128)
