# SPDX-License-Identifier: GPL-2.0
"""Links and the XDP program on them, through rtnetlink: read by requests of our own, attached to by pyroute2."""

from __future__ import annotations

import contextlib
import os
import struct
from typing import Literal, NamedTuple

from xdpguard.closeable import opened
from xdpguard.errors import UsageError
from xdpguard.net import hsr, linkinfo, netlink, netns, refusals
from xdpguard.net.iproute import rtnetlink
from xdpguard.net.netlink import attribute, attributes, elements, number, text

Mode = Literal["native", "generic"]
WantedMode = Literal["auto", "native", "generic"]

_IFF_LOOPBACK = 0x8  # linux/if.h
_ARPHRD_ETHER, _ARPHRD_LOOPBACK = 1, 772  # linux/if_arp.h
# XDP_FLAGS_*, linux/if_link.h
_IF_NOEXIST, _SKB_MODE, _DRV_MODE, _REPLACE = 1 << 0, 1 << 1, 1 << 2, 1 << 4
_GET_NSID = 90  # RTM_GETNSID, linux/rtnetlink.h
_NSID, _NETNS_FD, _UNASSIGNED = 1, 3, -1  # NETNSA_*, linux/net_namespace.h
# IFLA_XDP_*_PROG_ID, linux/if_link.h
_PROGRAM_IDS: dict[int, Literal["native", "generic", "offload"]] = {5: "native", 6: "generic", 7: "offload"}
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
        try:
            found = _read(namespace)
        except netns.NoSuchNamespace as error:
            raise NoSuchLink(str(error), error.remedy) from error
        for link in found:
            if link.name == name:
                return link
        for link in found:
            if altnames and name in link.altnames:
                return link
        where = f" in network namespace {namespace}" if namespace else ""
        raise NoSuchLink(f"no interface {name!r}{where}", _remedy(name, sorted(link.name for link in found), namespace))

    def all(self, namespace: str = "") -> list[Link]:
        """Return every interface of a namespace; none if it no longer exists."""
        try:
            return _read(namespace)
        except netns.NoSuchNamespace:
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
    pyroute2 = rtnetlink()
    try:
        with netns.entered(link.netns), pyroute2.IPRoute(ext_ack=True) as route:
            route.link("set", index=link.ifindex, IFLA_XDP={"attrs": attributes})
    except netns.NoSuchNamespace as error:
        raise NoSuchLink(str(error), error.remedy) from error
    except pyroute2.NetlinkError as error:
        # Without a reason of the kernel's, pyroute2 puts the errno's name there.
        words = "" if error.args[1] == os.strerror(error.code) else str(error.args[1])
        raise refusals.refused(what, error.code, words) from error


def _read(namespace: str) -> list[Link]:
    return [parse(message, namespace) for message in linkinfo.messages(namespace)]


def parse(message: bytes, namespace: str) -> Link:
    """Parse a link from an RTM_NEWLINK message."""
    _, hardware, ifindex, flags, _ = linkinfo.HEADER.unpack_from(message)
    found = attributes(message, linkinfo.HEADER.size)
    info = attributes(found.get(linkinfo.LINKINFO, b""))
    kind, members = hsr.members_of(text(info.get(linkinfo.INFO_KIND)), info.get(linkinfo.INFO_DATA, b""))
    return Link(
        name=text(found.get(linkinfo.NAME)),
        netns=namespace,
        ifindex=ifindex,
        mtu=number(found.get(linkinfo.MTU)),
        loopback=bool(flags & _IFF_LOOPBACK),
        ethernet=hardware in (_ARPHRD_ETHER, _ARPHRD_LOOPBACK),
        kind=kind,
        xdp=_xdp(attributes(found.get(linkinfo.XDP, b""))),
        master=number(found.get(linkinfo.MASTER)),
        lower=0 if kind in _PAIRED else number(found.get(linkinfo.LINK)),
        lower_nsid=_signed(found.get(linkinfo.LINK_NETNSID)),
        members=members,
        altnames=tuple(map(text, elements(found.get(linkinfo.PROP_LIST, b"")))),
        mac=found.get(linkinfo.ADDRESS, b""),
    )


def _xdp(found: dict[int, bytes]) -> Xdp | None:
    return next((Xdp(number(found[it]), mode) for it, mode in _PROGRAM_IDS.items() if number(found.get(it))), None)


def _nsid(namespace: str, seen_from: str) -> int | None:
    """Return the id that one namespace has in another, None if it has none."""
    with opened(os.open(netns.place(namespace).path, os.O_RDONLY | os.O_CLOEXEC)) as target, netns.entered(seen_from):
        request = bytes(4) + attribute(_NETNS_FD, struct.pack("=I", target))
        (answer,) = netlink.ask(netlink.ROUTE, _GET_NSID, request)
    found = _signed(attributes(answer, 4).get(_NSID))
    return None if found == _UNASSIGNED else found


def _signed(value: bytes | None) -> int | None:
    return int(struct.unpack("=i", value)[0]) if value else None


def _remedy(name: str, there: list[str], namespace: str) -> str:
    """Return what to write instead of a name that no interface has."""
    before = name.partition("@")[0]
    if before != name and before in there:
        return f"ip link shows the other end after the @; the name is {before}"
    if like := next((it for it in there if it.lower() == name.strip().lower()), ""):
        return f"write {like}"
    hint = "" if namespace else "; for another network namespace use --netns"
    return f"there are: {', '.join(there)}{hint}"
