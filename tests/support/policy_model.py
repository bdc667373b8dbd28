# SPDX-License-Identifier: GPL-2.0
"""What an instance should do by the commands it was given: a model in plain Python that shares nothing with xdpguard.

A policy is one flat mapping of entries: a change is what differs between two of them, and an undo puts that back.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple

Key = tuple[str, str]  # kind, and name of a target, port, list or filter; "shadow block" is a kind, too
KEPT = 10  # changes that can be undone


class Entry(NamedTuple):
    """An entry: when it ends at the earliest and the latest (monotonic), what a list holds, where a filter stands."""

    ends: tuple[float, float] | None = None
    holds: tuple[str, ...] = ()
    place: int = 0


Policy = Mapping[Key, Entry]
# The filters that a walk uses: the port and the prefix that each matches, and whether it drops.
FILTERS = {
    "port": ("udp dport 5001", 5001, "", True),
    "some": ("ip saddr 198.51.100.192/26", 0, "198.51.100.192/26", False),
    "both": ("ip saddr 198.51.100.0/24 udp dport 5002", 5002, "198.51.100.0/24", True),
}
_FAST, _SLOW = 0.3, 0.8  # seconds before and after an end in which nobody can tell


class Probe(NamedTuple):
    """A UDP packet of a source to a port of the host."""

    source: str
    port: int


def ended(entry: Entry, now: float) -> bool:
    """Whether its end has passed for certain."""
    return entry.ends is not None and now > entry.ends[1] + _SLOW


def unsure(policy: Policy, now: float) -> float:
    """For how many seconds nobody can tell what is in force; 0 if it is known now."""
    near = [it.ends[1] for it in policy.values() if it.ends and it.ends[0] - _FAST < now <= it.ends[1] + _SLOW]
    return max(near) + _SLOW - now + 0.01 if near else 0.0


def live(policy: Policy, now: float | None = None) -> dict[Key, Entry]:
    """What has not ended."""
    now = time.monotonic() if now is None else now
    return {key: entry for key, entry in policy.items() if not ended(entry, now)}


def drops(policy: Policy, probe: Probe) -> bool:
    """Whether a packet is dropped. The caller knows that no end is near."""
    source, its = ip_address(probe.source), live(policy)

    def named(kind: str) -> Iterable[str]:
        return [name for (what, name) in its if what == kind]

    if _among(source, named("allow")):
        return False
    if _among(source, named("block")) or f"{probe.port}/udp" in named("port"):
        return True
    if any(_among(source, its["list", name].holds) for name in named("list")):
        return True
    for name in sorted(named("filter"), key=lambda it: its["filter", it].place):
        _, port, prefix, drop = FILTERS[name]
        if (not port or port == probe.port) and (not prefix or _among(source, [prefix])):
            return drop
    return False


def _among(source: IPv4Address | IPv6Address, prefixes: Iterable[str]) -> bool:
    return any(source in ip_network(it) for it in prefixes)


class Change(NamedTuple):
    """A change that can be undone: its words, and the entries that it touched as they were before; None: absent."""

    words: str
    before: Mapping[Key, Entry | None]


def touched(before: Policy, after: Policy) -> dict[Key, Entry | None]:
    """What a change has touched, as it was before."""
    keys = before.keys() | after.keys()
    return {key: before.get(key) for key in keys if before.get(key) != after.get(key)}


def restored(policy: Policy, change: Change) -> dict[Key, Entry]:
    """A policy after an undo of the change."""
    made = dict(policy)
    for key, entry in change.before.items():
        made.pop(key, None)
        if entry is not None:
            made[key] = entry
    return live(made)


def later(entry: Entry | None, new: Entry) -> Entry:
    """What is there when an entry is added that may be there already: the later end stays."""
    if entry is None or new.ends is None:
        return new if entry is None or entry.ends is not None else entry
    if entry.ends is None or entry.ends[1] >= new.ends[1]:
        return entry
    return new
