# SPDX-License-Identifier: GPL-2.0
"""Read rules and lists back from the kernel's maps, for a lost store: the inverse of entries.py and index.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.tables.entries import boot_offset
from xdpguard.dataplane.tables.rules import Tables
from xdpguard.dataplane.tables.shadow import ShadowTables
from xdpguard.policy.rule import SAFETY
from xdpguard.policy.target import PROTOCOL_NUMBERS, Kind, Port, Prefix, Target

if TYPE_CHECKING:
    from xdpguard.lists.addresses import AddressSet
from xdpguard.lists.ranges import U64

_PROTOCOLS = {number: name for name, number in PROTOCOL_NUMBERS.items()}


class Entry(NamedTuple):
    """A rule as its map holds it. ``expires``: Unix time or None; ``source``: safety, or empty as no map holds it."""

    kind: Kind
    target: Target
    expires: float | None
    slot: int
    source: str


def rules(tables: Tables | ShadowTables) -> Iterator[Entry]:
    """Yield every rule in the maps of a mode."""
    offset = boot_offset()
    for table, pairs in tables.all().items():
        for key, value in pairs.items():
            end, slot, length = abi.RULE.unpack(value)
            kind: Kind = "port" if table == "ports" else "allow" if table.startswith("allow") else "block"
            source = SAFETY if length & abi.RULE_NEEDED else ""
            yield Entry(kind, _target(table, key), end / 1e9 - offset if end else None, slot, source)


def _target(table: str, key: bytes) -> Target:
    if table == "ports":
        number, protocol = abi.PORT.unpack(key)
        return Port(number, _PROTOCOLS[protocol])
    if table in ("deny4", "deny6"):
        (network,) = (abi.ADDRESS4 if table == "deny4" else abi.ADDRESS6).unpack(key)
        return Prefix(network, len(network) * 8)
    length, network = (abi.PREFIX4 if table.endswith(("4", "4_prefix")) else abi.PREFIX6).unpack(key)
    return Prefix(network, length)


def sets(lines: U64) -> dict[int, AddressSet]:
    """Return the entries of each list by its number, from the lines of an index (bpf/stages/index.h).

    A prefix that several lists have is in one of them only: the one in which it lasts longest.
    """
    import numpy as np

    from xdpguard.dataplane.sys.layouts.rules import Index
    from xdpguard.dataplane.tables import endings
    from xdpguard.lists.addresses import aggregate
    from xdpguard.lists.timed import Given

    head = Index.from_buffer_copy(lines[0].tobytes())
    one, there = np.uint64(1), np.uint64(1 << 33)
    four = lines[head.table4 : head.table4 + head.lines4].ravel()
    four = four[(four & there) != 0]
    six = lines[head.table6 : head.table6 + head.lines6].reshape(-1, 4)
    six = six[(six[:, 2] & there) != 0]
    network = four & np.uint64(0xFFFFFFFF)
    # The lowest bit set stands for the length: the bits below it, and itself, are host bits.
    marker = np.where((four & np.uint64(1 << 32)) != 0, network & (~network + one), np.uint64(0))
    first = network ^ marker
    last = first | np.where(marker != 0, marker | (marker - one), np.uint64(0))
    kind, low = six[:, 2], six[:, 1]
    short, whole = (kind & np.uint64(2)) != 0, (kind & one) != 0
    marker6 = np.where(whole, np.uint64(0), low & (~low + one))
    free = np.where(whole, 0, np.log2(np.maximum(marker6, one).astype(np.float64)).astype(np.int64) + 1)
    low = low ^ marker6
    high6, low6 = np.where(short, low, six[:, 0]), np.where(short, np.uint64(0), low)
    length6 = (np.where(short, 64, 128) - free).astype(np.uint8)
    owner4, owner6 = four >> np.uint64(48), kind >> np.uint64(48)
    ends4, ends6 = (endings.read(words, lines[head.ends :], boot_offset()) for words in (four, kind))
    found = {}
    for number in np.unique(np.concatenate((owner4, owner6))):
        a, b = owner4 == number, owner6 == number
        given = (first[a].astype(np.uint32), last[a].astype(np.uint32), high6[b], low6[b], length6[b])
        found[int(number)] = aggregate(*given, ends=Given(ends4[a], ends6[b]))[0]
    return found
