# SPDX-License-Identifier: GPL-2.0
"""What the SYN guard must know of the host an interface belongs to, read at one moment. Takes a few milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from xdpguard.net import devices, locals, owners
from xdpguard.policy.target import Prefix

MOST = 16_384  # prefixes of one IP version that the kernel's tables take: XG_MAX_LOCALS


class Around(NamedTuple):
    """``macs``: of the devices above, and of what shares their frames. ``locals``: LOCAL or BROADCAST by prefix; empty:
    not known, so every destination counts. ``others``: why a segment without a socket may be somebody else's.
    ``vlans``: names of the devices above that take tagged frames. ``receivers``: the devices whose drivers receive.
    ``notes``: what could not be found out, in words.
    """

    macs: frozenset[bytes]
    locals: Mapping[Prefix, int]
    others: tuple[str, ...]
    vlans: tuple[str, ...]
    receivers: tuple[devices.Device, ...]
    notes: tuple[str, ...]


def look(index: int, netns: str) -> Around:
    """As it is now. NoSuchNamespace when the namespace does not exist; what cannot be read is told in the notes."""
    notes = []
    there: devices.Devices = {}
    others: list[str] = []
    own: dict[Prefix, int] = {}
    try:
        there = devices.read(netns)
        others = owners.reasons(there, index, netns)
    except OSError as error:
        others = ["the kernel does not say what there is"]
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
                f"{count:,} local IPv{version} prefixes, of which the guard can know {MOST:,}:"
                " every destination counts as local"
            )
    vlans = tuple(it.name for it in devices.vlans(there, index))
    receivers = tuple(devices.receivers(there, index))
    return Around(devices.addresses(there, index), own, tuple(others), vlans, receivers, tuple(notes))
