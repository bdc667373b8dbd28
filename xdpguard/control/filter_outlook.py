# SPDX-License-Identifier: GPL-2.0
"""Which filter cuts off an address, judged by what is known of its packets: where they come from, to which port.

Of a login the segments are known rather well, so that a filter that may match some of them counts. Of an address that
is needed as a whole only the source is known: a filter counts if it matches whatever comes from there. Of a server that
this host asks, one counts as well that matches all answers of an ordinary size to sockets that are connected, or to
those that are not: which the resolver of this host has is not known.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from xdpguard.control.filter_lists import FilterLists
from xdpguard.policy.filter import Filter
from xdpguard.policy.limit import PREFIX4, PREFIX6, Limit
from xdpguard.policy.matching.model import Field, Range, Test
from xdpguard.policy.target import PROTOCOL_NUMBERS, Port, Prefix

if TYPE_CHECKING:
    from xdpguard.net.sockets import Service

Known = Mapping[Field, Sequence[Range] | None]  # what a field may be; None: lacking; not in it: anything, or lacking

_ANY_PORT, _ONE = (1, 65_535), (1, 1)
_ACK, _PSH_ACK = (0x10, 0x11), (0x18, 0x19)  # of a connection that stands, with or without FIN
_SYN, _ECN_SYN, _NONE = (0x02, 0x02), (0xC2, 0xC2), (0, 0)
_OPENING = (40, 100)  # bytes of an IP packet with a SYN and its options
_LENGTHS = (40, 1500)  # bytes of an IP packet on an Ethernet
_ANSWERS = (60, 512)  # bytes of an IP packet with an answer that fits in any
_TTLS = (30, 255)  # nobody is further away than that
_DONT_FRAGMENT = (0x4000, 0x4000)
_ENOUGH = {"packets": 20, "bits": 100_000}  # a second: a login, or asking a server, is slow with that and works


class Fit(Enum):
    """Whether packets of which something is known match."""

    NO = 0
    SOME = 1
    ALL = 2


class Cut(NamedTuple):
    """A filter that cuts off an address; ``does``: what it would do there, as text that fits after its name."""

    filter: Filter
    does: str


def cutting(
    filters: Iterable[Filter],
    lists: FilterLists,
    address: Prefix,
    ports: Iterable[Port],
    service: Service | None = None,
) -> Iterator[Cut]:
    """Yield the enforced filters, in order, of which each alone cuts off an address, or a login from there over
    ``ports``; one that passes the packets before it, and lasts as long, protects from it. ``service``: where this host
    gets answers from.
    """
    logins = [_login(address, port) for port in ports]
    others = [_whatever(address), *(_answers(address, service) if service else [])]
    enforced = [it for it in filters if it.mode == "enforce" and it.action != "count" and not _spares(it.limit)]
    seen = set()
    for known in logins or others:
        passing: list[Filter] = []
        for it in enforced:
            fit = _fit(it, known, lists)
            if it.action == "pass":
                passing += [it] * (fit is Fit.ALL)
                continue
            hits = fit is Fit.ALL or (fit is Fit.SOME and bool(logins))
            if hits and it.name not in seen and not any(_outlasts(one, it) for one in passing):
                seen.add(it.name)
                yield Cut(it, _does(it.limit, fit))


def passes(filters: Iterable[Filter], lists: FilterLists, address: Prefix, port: Port) -> bool:
    """Return whether the first packet of a connection from an address to a port is decided about by filters for good,
    so that the default is not asked: by one without an end that surely matches it.
    """
    opening = _opening(address, port)
    enforced = (it for it in filters if it.mode == "enforce" and it.action in ("pass", "drop") and it.expires is None)
    return any(_fit(it, opening, lists) is Fit.ALL for it in enforced)


def _alone(limit: Limit) -> bool:
    """Return whether a source shares the rate with nobody."""
    return limit.per != "filter" and limit.prefix4 >= PREFIX4 and limit.prefix6 >= PREFIX6


def _spares(limit: Limit | None) -> bool:
    """Return whether a limit leaves each source enough, whatever others send."""
    return limit is not None and _alone(limit) and limit.per_second >= _ENOUGH[limit.unit]


def _does(limit: Limit | None, fit: Fit) -> str:
    verb = "would drop" if fit is Fit.ALL else "may drop"
    if limit is None:
        return f"{verb} its packets"
    if _alone(limit):
        return f"{verb} its packets above {limit.rate}"
    shared = "all that it matches" if limit.per == "filter" else "the network of that address"
    return f"{verb} some of its packets once {shared} exceeds {limit.rate}"


def _outlasts(one: Filter, other: Filter) -> bool:
    return one.expires is None or (other.expires is not None and one.expires >= other.expires)


def _whatever(address: Prefix) -> Known:
    four = address.version == 4
    first = int.from_bytes(address.network, "big")
    last = first | (1 << len(address.network) * 8 - address.length) - 1
    mine, other = (Field.IP_SADDR, Field.IP6_SADDR) if four else (Field.IP6_SADDR, Field.IP_SADDR)
    lacking = [other, Field.IP6_DADDR if four else Field.IP_DADDR, *([] if four else [Field.FRAG_OFF])]
    version = address.version
    return {mine: [(first, last)], Field.VERSION: [(version, version)], **dict.fromkeys(lacking)}


def _login(address: Prefix, port: Port) -> Known:
    """Return what is known of the segments of a TCP connection, or of the packets of a tunnel, that stands."""
    protocol = PROTOCOL_NUMBERS[port.protocol]
    known = {
        **_whatever(address),
        Field.PROTOCOL: [(protocol, protocol)],
        Field.SPORT: [_ANY_PORT],
        Field.DPORT: [(port.number, port.number)],
        Field.TCP_FLAGS: [_ACK, _PSH_ACK] if port.protocol == "tcp" else None,
        Field.LENGTH: [_LENGTHS],
        Field.TTL: [_TTLS],
        Field.FRAGMENT: [(0, 0)],
        Field.ICMP_TYPE: None,
        Field.ICMP_CODE: None,
        # Of UDP: a connected socket. Those of tunnels are not.
        Field.ESTABLISHED: [_ONE if port.protocol == "tcp" else _NONE],
    }
    if address.version == 4:
        known[Field.FRAG_OFF] = [(0, 0), _DONT_FRAGMENT]
    return known


def _opening(address: Prefix, port: Port) -> Known:
    """Return what is known of the first packet of a connection."""
    return {
        **_login(address, port),
        Field.TCP_FLAGS: [_SYN, _ECN_SYN] if port.protocol == "tcp" else None,
        Field.LENGTH: [_OPENING],
        Field.ESTABLISHED: [_NONE],
    }


def _answers(address: Prefix, service: Service) -> Iterator[Known]:
    """Yield what is known of the answers of a server that this host asks, to sockets of either kind."""
    for state in (_ONE, _NONE):
        yield {
            **_login(address, service.port),
            Field.SPORT: [(service.port.number, service.port.number)],
            Field.DPORT: [service.answers],
            Field.LENGTH: [_ANSWERS],
            Field.ESTABLISHED: [state],
        }


def _fit(its: Filter, known: Known, lists: FilterLists) -> Fit:
    whole = not its.match.bytes
    tests = itertools.chain(its.match.tests, (lists.test(it) for it in its.match.lists))
    for test in tests:
        found = _tested(test, known)
        if found is Fit.NO:  # as most of many filters
            return found
        whole = whole and found is Fit.ALL
    return Fit.ALL if whole else Fit.SOME


def _tested(test: Test, known: Known) -> Fit:
    if test.field not in known:
        return Fit.SOME
    may_be = known[test.field]
    if may_be is None:
        return Fit.NO
    inside = [any(low <= first and last <= high for low, high in test.ranges) for first, last in may_be]
    if all(inside):
        return Fit.ALL
    touched = any(low <= last and first <= high for low, high in test.ranges for first, last in may_be)
    return Fit.SOME if touched else Fit.NO
