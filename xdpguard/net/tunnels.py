# SPDX-License-Identifier: GPL-2.0
"""The outer ends of the tunnels through which addresses are reached: what is blocked there is cut off inside as well.

A session through a tunnel arrives from its inner address, while the packets that carry it come from the outer one.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from xdpguard.net import linkinfo, netlink, wireguard
from xdpguard.net.netlink import attribute, attributes, number, text
from xdpguard.policy.target import Port, Prefix

_GET_ROUTE = 26  # RTM_GETROUTE
_ROUTE = struct.Struct("=8BI")  # struct rtmsg
_DESTINATION, _OUT = 1, 4  # RTA_DST, RTA_OIF
_DEEPEST = 8  # tunnels within tunnels, and devices on top of each other
_WIREGUARD = "wireguard"


class _Kind(NamedTuple):
    """The attributes of a kind of tunnel: its remote ends, IPv4 or IPv6, and its UDP port (0: it has none)."""

    remotes: tuple[int, ...]
    port: int = 0


# linux/if_tunnel.h and linux/if_link.h: IFLA_IPTUN_REMOTE, IFLA_GRE_REMOTE, IFLA_VTI_REMOTE, IFLA_VXLAN_GROUP and
# _GROUP6, IFLA_GENEVE_REMOTE and _REMOTE6.
_KINDS = {
    **dict.fromkeys(("ipip", "sit", "ip6tnl"), _Kind((3,))),
    **dict.fromkeys(("gre", "gretap", "ip6gre", "ip6gretap", "erspan", "ip6erspan"), _Kind((7,))),
    **dict.fromkeys(("vti", "vti6"), _Kind((5,))),
    "vxlan": _Kind((2, 16), 15),
    "geneve": _Kind((2, 7), 5),
}


class Outer(NamedTuple):
    """The outer end of a tunnel: its address, the tunnel's name, and the UDP port on which its packets arrive."""

    address: Prefix
    tunnel: str
    port: Port | None = None


class Device(NamedTuple):
    """A device: ``below``: the index of the one it is stacked on in the same namespace, 0 for none."""

    ifindex: int
    name: str
    kind: str
    below: int
    data: dict[int, bytes]


def outer_ends(inner: Iterable[Prefix]) -> list[Outer]:
    """Return the outer ends of the tunnels through which this network namespace reaches some addresses.

    What the kernel does not tell is left out.
    """
    found: dict[Prefix, Outer] = {}
    route, device, peers = functools.cache(_route), functools.cache(_device), functools.cache(wireguard.read)
    for address in inner:
        for its in ends_of(address, route, device, peers):
            found.setdefault(its.address, its)
    return list(found.values())


def ends_of(
    inner: Prefix,
    route: Callable[[Prefix], int],
    device: Callable[[int], Device],
    peers: Callable[[int], wireguard.Device],
) -> Iterator[Outer]:
    """Yield the outer ends of the tunnels on the way to an address, the innermost first.

    ``route`` returns the index of the device that an address is reached through; ``device`` what that is; ``peers``
    the WireGuard device of an index. Each may raise OSError.
    """
    seen = {inner}
    while len(seen) <= _DEEPEST:
        outer: Outer | None = None
        with contextlib.suppress(OSError):
            for its in _stacked(route(inner), device):
                outer = _of_wireguard(its, peers(its.ifindex), inner) if its.kind == _WIREGUARD else of_device(its)
                if outer:
                    break
        if outer is None or outer.address in seen:
            return
        yield outer
        inner = outer.address
        seen.add(inner)


def of_device(its: Device) -> Outer | None:
    """Return the outer end of a tunnel that has a single one; None for any other device."""
    kind = _KINDS.get(its.kind)
    if kind is None:
        return None
    for remote in (its.data.get(it, b"") for it in kind.remotes):
        if len(remote) in (4, 16) and any(remote) and not _is_group(remote):
            port = int.from_bytes(its.data.get(kind.port, b"")[:2], "big") if kind.port else 0
            return Outer(Prefix(remote, 8 * len(remote)), its.name, Port(port, "udp") if port else None)
    return None


def parse(message: bytes) -> Device:
    """Parse a device from an RTM_NEWLINK message."""
    _, _, ifindex, _, _ = linkinfo.HEADER.unpack_from(message)
    found = attributes(message, linkinfo.HEADER.size)
    info = attributes(found.get(linkinfo.LINKINFO, b""))
    below = 0 if linkinfo.LINK_NETNSID in found else number(found.get(linkinfo.LINK))
    kind, data = text(info.get(linkinfo.INFO_KIND)), attributes(info.get(linkinfo.INFO_DATA, b""))
    return Device(ifindex, text(found.get(linkinfo.NAME)), kind, below if below != ifindex else 0, data)


def _stacked(ifindex: int, device: Callable[[int], Device]) -> Iterator[Device]:
    """Yield a device and those that it is stacked on."""
    for _ in range(_DEEPEST):
        if not ifindex:
            return
        its = device(ifindex)
        yield its
        ifindex = its.below


def _of_wireguard(its: Device, found: wireguard.Device, inner: Prefix) -> Outer | None:
    address = found.endpoint(inner)
    return Outer(address, its.name, found.port) if address else None


def _is_group(address: bytes) -> bool:
    """Return whether an address is a multicast group: one of VXLAN, whose remote ends are learnt."""
    return address[0] == 0xFF if len(address) == 16 else address[0] >> 4 == 0xE


def _route(address: Prefix) -> int:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    request = _ROUTE.pack(family, address.length, 0, 0, 0, 0, 0, 0, 0) + attribute(_DESTINATION, address.network)
    (answer,) = netlink.ask(netlink.ROUTE, _GET_ROUTE, request)
    return number(attributes(answer, _ROUTE.size).get(_OUT))


def _device(ifindex: int) -> Device:
    request = linkinfo.HEADER.pack(socket.AF_UNSPEC, 0, ifindex, 0, 0)
    (answer,) = netlink.ask(netlink.ROUTE, linkinfo.GET_LINK, request)
    return parse(answer)
