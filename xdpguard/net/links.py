# SPDX-License-Identifier: GPL-2.0
"""Links and the XDP program on each, through rtnetlink."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

from xdpguard.errors import UsageError
from xdpguard.net import hsr, netns, refusals
from xdpguard.net.iproute import rtnetlink

Mode = Literal["native", "generic"]
WantedMode = Literal["auto", "native", "generic"]

_IFF_LOOPBACK = 0x8  # linux/if.h
_ARPHRD_ETHER, _ARPHRD_LOOPBACK = 1, 772  # linux/if_arp.h
# XDP_FLAGS_*, linux/if_link.h
_IF_NOEXIST, _SKB_MODE, _DRV_MODE, _REPLACE = 1 << 0, 1 << 1, 1 << 2, 1 << 4
_PAIRED = ("veth", "netkit")  # kinds whose IFLA_LINK is the other end, not the device below
_MODE_FLAGS: dict[Mode, int] = {"native": _DRV_MODE, "generic": _SKB_MODE}


class Xdp(NamedTuple):
    """The program on a link: its id and mode (``offload`` is never used here, but may be found)."""

    prog_id: int
    mode: Literal["native", "generic", "offload"]


class Link(NamedTuple):
    """A network interface. ``netns`` is its namespace's recorded name (net/netns.py); ``mtu`` in bytes.

    ``master`` is the ifindex of the bridge, bond or VRF it belongs to; ``lower`` that of the device it is stacked on
    (VLAN, macvlan, VXLAN), in the namespace with the id ``lower_nsid`` (None: the same one). 0: none.
    ``members``: the ifindexes of an HSR or PRP device's two links; ``kind`` of the latter is prp.
    """

    name: str
    netns: str
    ifindex: int
    mtu: int
    loopback: bool
    ethernet: bool  # frames begin with an Ethernet header
    kind: str
    xdp: Xdp | None
    mac: bytes = b""
    master: int = 0
    lower: int = 0
    lower_nsid: int | None = None
    members: tuple[int, ...] = ()
    altnames: tuple[str, ...] = ()


class NoSuchLink(UsageError):
    """There is no such interface, or no such namespace."""


class Links:
    """rtnetlink in this or another network namespace, given by its recorded name."""

    def get(self, name: str, namespace: str = "") -> Link:
        """Return an interface by its name. Raise NoSuchLink, with the existing names, if there is none."""
        return self._look(name, namespace, altnames=False)

    def find(self, name: str, namespace: str = "") -> Link:
        """Return an interface by its name or an alternative name. Raise NoSuchLink if there is none."""
        return self._look(name, namespace, altnames=True)

    def _look(self, name: str, namespace: str, altnames: bool) -> Link:
        with _route(namespace) as route:
            found = [_link(message, namespace) for message in route.get_links()]
        for link in found:
            if link.name == name:
                return link
        for link in found:
            if altnames and name in link.altnames:
                return link
        where = f" in network namespace {namespace}" if namespace else ""
        names = ", ".join(sorted(link.name for link in found))
        hint = "" if namespace else "; for another network namespace use --netns"
        raise NoSuchLink(f"no interface {name!r}{where}", f"there are: {names}{hint}")

    def all(self, namespace: str = "") -> list[Link]:
        """Return every interface of a namespace; none if it no longer exists."""
        try:
            with _route(namespace) as route:
                return [_link(message, namespace) for message in route.get_links()]
        except NoSuchLink:
            return []  # the namespace no longer exists, nor do its interfaces

    def namespaces(self) -> list[str]:
        """Return the named network namespaces."""
        return netns.names()

    def is_above(self, upper: Link, lower: Link) -> bool:
        """Return whether one interface is directly above another: a bridge, bond or VRF, a VLAN or a macvlan."""
        if upper.netns == lower.netns and lower.master == upper.ifindex:
            return True
        if upper.lower != lower.ifindex:
            return False
        if upper.lower_nsid is None:
            return upper.netns == lower.netns
        with contextlib.suppress(NoSuchLink, netns.NoSuchNamespace, OSError):
            return upper.netns != lower.netns and _nsid(lower.netns, upper.netns) == upper.lower_nsid
        return False

    def attach(self, link: Link, program: int, mode: Mode, expected: int | None) -> None:
        """Attach a program atomically.

        ``expected`` is the descriptor of the program to replace; None attaches only if there is none.
        Raises AttachRefused if the kernel refuses.
        """
        if expected is None:
            attributes = [("IFLA_XDP_FD", program), ("IFLA_XDP_FLAGS", _MODE_FLAGS[mode] | _IF_NOEXIST)]
        else:
            attributes = [
                ("IFLA_XDP_FD", program),
                ("IFLA_XDP_FLAGS", _MODE_FLAGS[mode] | _REPLACE),
                ("IFLA_XDP_EXPECTED_FD", expected),
            ]
        _set_xdp(link, attributes, f"attach to {link.name} in {mode} mode")

    def detach(self, link: Link, mode: Mode, expected: int) -> None:
        """Detach the program of the descriptor ``expected``, and no other."""
        attributes = [
            ("IFLA_XDP_FD", -1),
            ("IFLA_XDP_FLAGS", _MODE_FLAGS[mode] | _REPLACE),
            ("IFLA_XDP_EXPECTED_FD", expected),
        ]
        _set_xdp(link, attributes, f"detach from {link.name}")


def _set_xdp(link: Link, attributes: list[tuple[str, int]], what: str) -> None:
    with _route(link.netns) as route:
        try:
            route.link("set", index=link.ifindex, IFLA_XDP={"attrs": attributes})
        except rtnetlink().NetlinkError as error:
            # Where the kernel gave no reason, pyroute2 puts the errno's text there.
            words = "" if error.args[1] == os.strerror(error.code) else str(error.args[1])
            raise refusals.refused(what, error.code, words) from error


@contextmanager
def _route(namespace: str) -> Iterator[Any]:
    try:
        with netns.entered(namespace), rtnetlink().IPRoute(ext_ack=True) as route:
            yield route
    except netns.NoSuchNamespace as error:
        raise NoSuchLink(str(error), error.remedy) from error


def _link(message: Any, namespace: str) -> Link:
    kind = message.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or ""
    kind, members = hsr.members_of(kind, message.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA"))
    return Link(
        name=_text(message.get_attr("IFLA_IFNAME")),
        netns=namespace,
        ifindex=message["index"],
        mtu=message.get_attr("IFLA_MTU") or 0,
        loopback=bool(message["flags"] & _IFF_LOOPBACK),
        ethernet=message["ifi_type"] in (_ARPHRD_ETHER, _ARPHRD_LOOPBACK),
        kind=kind,
        xdp=_xdp(message),
        master=message.get_attr("IFLA_MASTER") or 0,
        lower=0 if kind in _PAIRED else message.get_attr("IFLA_LINK") or 0,
        lower_nsid=message.get_attr("IFLA_LINK_NETNSID"),
        members=members,
        altnames=tuple(_text(name) for key, name in _properties(message) if key == "IFLA_ALT_IFNAME"),
        mac=bytes.fromhex((message.get_attr("IFLA_ADDRESS") or "").replace(":", "")),
    )


def _properties(message: Any) -> list[tuple[str, str | bytes]]:
    found = message.get_attr("IFLA_PROP_LIST")
    return [tuple(it) for it in found["attrs"]] if found else []


def _nsid(namespace: str, seen_from: str) -> int | None:
    """Return the id that one namespace has in another, None if it has none."""
    target = os.open(netns.place(namespace).path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with _route(seen_from) as route:
            found = route.get_netnsid(fd=target)
            return found["nsid"] if found else None
    finally:
        os.close(target)


def _text(name: str | bytes) -> str:
    """Decode a name; pyroute2 returns one that is not UTF-8 as bytes."""
    return os.fsdecode(name) if isinstance(name, bytes) else name


def _xdp(message: Any) -> Xdp | None:
    modes: dict[str, Literal["native", "generic", "offload"]] = {
        "IFLA_XDP_DRV_PROG_ID": "native",
        "IFLA_XDP_SKB_PROG_ID": "generic",
        "IFLA_XDP_HW_PROG_ID": "offload",
    }
    for attribute, mode in modes.items():
        number = message.get_nested("IFLA_XDP", attribute)
        if number:
            return Xdp(int(number), mode)
    return None
