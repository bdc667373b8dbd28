# SPDX-License-Identifier: GPL-2.0
"""Which filter cuts off an address, judged by what is known of its packets: where they come from, to which port.

Of a login the segments are known rather well, so that a filter that may match some of them counts. Of an address that
is needed as a whole only the source is known: a filter counts if it matches whatever comes from there. Of a server that
this host asks, one counts as well that matches all answers of an ordinary size.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum

from xdpguard.control.filter_lists import FilterLists
from xdpguard.policy.filter import Filter
from xdpguard.policy.matching.model import Field, Range, Test
from xdpguard.policy.target import PROTOCOL_NUMBERS, Port, Prefix

Known = Mapping[Field, Sequence[Range] | None]  # what a field may be; None: lacking; not in it: anything, or lacking

_ANY_PORT, _ONE = (1, 65_535), (1, 1)
_ACK, _PSH_ACK = (0x10, 0x11), (0x18, 0x19)  # of a connection that stands, with or without FIN
_LENGTHS = (40, 1500)  # bytes of an IP packet on an Ethernet
_ANSWERS = (60, 512)  # bytes of an IP packet with an answer that fits in any
_TTLS = (30, 255)  # nobody is further away than that
_DONT_FRAGMENT = (0x4000, 0x4000)


class Fit(Enum):
    """Whether packets of which something is known match."""

    NO = 0
    SOME = 1
    ALL = 2


def cutting(
    filters: Iterable[Filter], lists: FilterLists, address: Prefix, ports: Iterable[Port], service: Port | None = None
) -> Iterator[Filter]:
    """Yield the enforced filters, in order, of which each alone cuts off an address, or a login from there over
    ``ports``; one that passes the packets before it, and lasts as long, protects from it. ``service``: the port from
    which this host gets answers.
    """
    logins = [_login(address, port) for port in ports]
    others = [_whatever(address), *([_answer(address, service)] if service else [])]
    enforced = [it for it in filters if it.mode == "enforce" and it.action != "count"]
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
                yield it


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
        Field.ESTABLISHED: [_ONE],
    }
    if address.version == 4:
        known[Field.FRAG_OFF] = [(0, 0), _DONT_FRAGMENT]
    return known


def _answer(address: Prefix, service: Port) -> Known:
    """Return what is known of the answers of a server that this host asks."""
    return {
        **_login(address, service),
        Field.SPORT: [(service.number, service.number)],
        Field.DPORT: [_ANY_PORT],
        Field.LENGTH: [_ANSWERS],
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
