# SPDX-License-Identifier: GPL-2.0
"""What the SYN guard must know about the host behind an interface, read in one snapshot of a few milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from xdpguard.net import devices, locals, owners
from xdpguard.policy.target import Prefix

MOST = 16_384  # prefixes of one IP version that fit in the kernel's tables: XG_MAX_LOCALS


class Around(NamedTuple):
    """``macs``: of the devices above, and of those that share their frames. ``locals``: LOCAL or BROADCAST by prefix;
    empty means unknown, so every destination counts. ``others``: why a segment without a socket may belong to someone
    else. ``vlans``: names of the devices above that take tagged frames. ``receivers``: the devices whose drivers
    receive. ``notes``: what could not be determined, in words. ``ports``: of UDP sockets bound to devices above.
    """

    macs: frozenset[bytes]
    locals: Mapping[Prefix, int]
    others: tuple[str, ...]
    vlans: tuple[str, ...]
    receivers: tuple[devices.Device, ...]
    notes: tuple[str, ...]
    ports: frozenset[int] = frozenset()


def read(index: int, netns: str) -> Around:
    """Take the snapshot. Raise NoSuchNamespace if the namespace does not exist; the notes list what was unreadable."""
    notes = []
    there: devices.Devices = {}
    others: list[str] = []
    own: dict[Prefix, int] = {}
    ports: frozenset[int] = frozenset()
    try:
        there = devices.read(netns)
        others = owners.reasons(there, index, netns)
        ports = owners.bound_ports(there, index, netns)
    except OSError as error:
        others = ["the kernel does not report the devices"]
        notes.append(f"devices and owners of connections cannot be read: {error.strerror or error}")
    try:
        own = locals.read(netns, devices.tables(there, index, locals.TABLE))
    except OSError as error:
        notes.append(f"local addresses cannot be read, so every destination counts as one: {error.strerror or error}")
    for version in (4, 6):
        count = sum(prefix.version == version for prefix in own)
        if count > MOST:
            own = {}
            notes.append(
                f"{count:,} local IPv{version} prefixes exceed the {MOST:,} that the guard can hold:"
                " every destination counts as local"
            )
    vlans = tuple(it.name for it in devices.vlans(there, index))
    receivers = tuple(devices.receivers(there, index))
    return Around(
        devices.addresses(there, index),
        own,
        tuple(others),
        vlans,
        receivers,
        tuple(notes),
        ports,
    )
