# SPDX-License-Identifier: GPL-2.0
"""The devices of a network namespace and how they are stacked: what is above an interface, with which addresses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from xdpguard.net import linkinfo
from xdpguard.net.netlink import attributes, number, text

_VRF_TABLE = 1
_BRIDGE_VLAN_FILTERING = 7

# Kinds whose IFLA_LINK names the device below, and that receive what arrives there. A veth's IFLA_LINK names its peer,
# a tunnel's the device its outer packets take. Frames for a macvtap go to its reader, usually a virtual machine.
_STACKED = frozenset({"vlan", "macvlan", "ipvlan"})
_BUNDLES = frozenset({"bridge", "bond", "team"})  # a frame for any member's address is for them
OVS = "openvswitch"
MOST = 1024  # addresses besides its own that one interface can have: XG_MACS


class Device(NamedTuple):
    """A device: ``lower`` is the ``ifindex`` of the one it is stacked on, ``master`` of the one it belongs to; 0: none.

    ``table``: a VRF's routing table. ``filters_vlans``: whether it is a bridge that filters by VLAN.
    """

    ifindex: int
    name: str
    kind: str
    mac: bytes
    master: int = 0
    lower: int = 0
    table: int = 0
    filters_vlans: bool = False


Devices = Mapping[int, Device]  # by index


def read(netns: str = "") -> Devices:
    """Return every device of a namespace. Raise NoSuchNamespace if it does not exist."""
    return {it.ifindex: it for it in map(parse, linkinfo.messages(netns))}


def parse(message: bytes) -> Device:
    """Parse a device from an RTM_NEWLINK message."""
    index = linkinfo.HEADER.unpack_from(message)[2]
    found = attributes(message, linkinfo.HEADER.size)
    info = attributes(found.get(linkinfo.LINKINFO, b""))
    kind = text(info.get(linkinfo.INFO_KIND))
    data = attributes(info.get(linkinfo.INFO_DATA, b"")) if kind in ("vrf", "bridge") else {}
    # With IFLA_LINK_NETNSID the device below is in another namespace, where the index means another device.
    lower = number(found.get(linkinfo.LINK)) if kind in _STACKED and linkinfo.LINK_NETNSID not in found else 0
    return Device(
        index,
        text(found.get(linkinfo.NAME)),
        kind,
        found.get(linkinfo.ADDRESS, b""),
        number(found.get(linkinfo.MASTER)),
        lower,
        number(data.get(_VRF_TABLE)) if kind == "vrf" else 0,
        kind == "bridge" and any(data.get(_BRIDGE_VLAN_FILTERING, b"")),
    )


def above(devices: Devices, index: int) -> list[Device]:
    """Return the devices above one in its namespace, nearest first: its master, what is stacked on it, and so on up."""
    found: dict[int, Device] = {}
    waiting = [index]
    while waiting:
        at = waiting.pop(0)
        master = devices[at].master if at in devices else 0
        for it in devices.values():
            if it.ifindex not in found and it.ifindex != index and (it.lower == at or it.ifindex == master):
                found[it.ifindex] = it
                waiting.append(it.ifindex)
    return list(found.values())


def addresses(devices: Devices, index: int) -> frozenset[bytes]:
    """Return the MAC addresses, besides its own, whose frames on a device are for this namespace's stack."""
    if index not in devices:
        return frozenset()
    stack = [devices[index], *above(devices, index)]
    bundles = {it.ifindex for it in stack if it.kind in _BUNDLES}
    # An Open vSwitch datapath passes frames to its internal ports, which are devices of the same kind.
    switched = any(it.kind == OVS for it in stack)
    found = _macs(it for it in stack if it.kind != "vrf")
    beside = _macs(it for it in devices.values() if it.master in bundles or (switched and it.kind == OVS))
    # For a bridge with so many ports, only its own address counts.
    found |= beside if len(found | beside) <= MOST else set()
    return frozenset(found - {devices[index].mac})


def _macs(devices: Iterable[Device]) -> set[bytes]:
    return {it.mac for it in devices if len(it.mac) == 6 and any(it.mac)}


def vrfs(devices: Devices, index: int) -> list[Device]:
    """Return the VRFs that some of the traffic of a device belongs to."""
    return [it for it in above(devices, index) if it.kind == "vrf"]


def tables(devices: Devices, index: int, default: int) -> set[int]:
    """Return the routing tables that decide which destinations are local for traffic that arrives at a device.

    These are the tables of the VRFs of those devices in its stack that have addresses, and ``default`` for a device in
    no VRF. A member of a bridge or a bond has no table of its own.
    """
    found = set()
    for it in (*filter(None, [devices.get(index)]), *above(devices, index)):
        master = devices.get(it.master)
        if it.kind != "vrf" and (master is None or master.kind == "vrf"):
            found.add(master.table if master else default)
    return found or {default}


def receivers(devices: Devices, index: int) -> list[Device]:
    """Return the devices whose drivers receive an interface's frames: a bond's members, or the interface itself."""
    if index in devices and devices[index].kind in ("bond", "team"):
        return [it for it in devices.values() if it.master == index]
    return [*filter(None, [devices.get(index)])]


def vlans(devices: Devices, index: int) -> list[Device]:
    """Return the devices above one that take tagged frames: VLAN devices, and bridges that filter by VLAN."""
    return [it for it in above(devices, index) if it.kind == "vlan" or it.filters_vlans]
