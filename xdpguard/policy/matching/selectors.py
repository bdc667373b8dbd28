# SPDX-License-Identifier: GPL-2.0
"""The words that name a field: what its values are, and what the word implies of the packet, as in nftables."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple

from xdpguard.policy.matching import names
from xdpguard.policy.matching.model import Field
from xdpguard.policy.matching.ranges import Ranges

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58  # IPPROTO_*, linux/in.h, linux/in6.h
V4, V6 = 4, 6


class Kind(enum.Enum):
    """How the values of a field are written."""

    NUMBER = "a number"
    FLAGS = "flags"
    ADDRESS4 = "an IPv4 address"
    ADDRESS6 = "an IPv6 address"
    PORT = "a port or the name of a service"
    PROTOCOL = "a protocol"
    NAME = "a name"


class Operand(NamedTuple):
    """What values are compared with: how they are written, and their bits. ``transport``: whose services name ports."""

    words: str
    kind: Kind
    bits: int
    names: Mapping[str, int] = {}
    transport: str = "tcp"

    @property
    def everything(self) -> Ranges:
        """All numbers of so many bits."""
        return ((0, (1 << self.bits) - 1),)


class Selector(NamedTuple):
    """A field under one of its names, and the tests that the name implies."""

    field: Field
    operand: Operand
    implied: tuple[tuple[Field, int], ...]


def domain(field: Field) -> Ranges:
    """Return the values that a field can have."""
    return _DOMAINS.get(field, ((0, (1 << field.bits) - 1),))


def _selector(
    words: str,
    field: Field,
    kind: Kind,
    known: Mapping[str, int] | None = None,
    implied: tuple[tuple[Field, int], ...] = (),
    transport: str = "tcp",
) -> Selector:
    return Selector(field, Operand(words, kind, field.bits, known or {}, transport), implied)


_DOMAINS: dict[Field, Ranges] = {Field.VERSION: ((V4, V4), (V6, V6)), Field.FRAGMENT: ((0, 2),)}
_IP4, _IP6 = ((Field.VERSION, V4),), ((Field.VERSION, V6),)
_TCP, _UDP = ((Field.PROTOCOL, TCP),), ((Field.PROTOCOL, UDP),)
_ICMP, _ICMPV6 = (*_IP4, (Field.PROTOCOL, ICMP)), (*_IP6, (Field.PROTOCOL, ICMPV6))
_VERSIONS = {"ipv4": V4, "ipv6": V6}
ANY_FRAGMENT = "yes"  # the first or a later one
FRAGMENTS = {"no": 0, "first": 1, "later": 2}
STATES = {"established": 1}

_ALL = (
    _selector("ip saddr", Field.IP_SADDR, Kind.ADDRESS4, implied=_IP4),
    _selector("ip daddr", Field.IP_DADDR, Kind.ADDRESS4, implied=_IP4),
    _selector("ip protocol", Field.PROTOCOL, Kind.PROTOCOL, implied=_IP4),
    _selector("ip length", Field.LENGTH, Kind.NUMBER, implied=_IP4),
    _selector("ip dscp", Field.DSCP, Kind.NUMBER, names.DSCP, _IP4),
    _selector("ip ttl", Field.TTL, Kind.NUMBER, implied=_IP4),
    _selector("ip frag-off", Field.FRAG_OFF, Kind.NUMBER, implied=_IP4),
    _selector("ip6 saddr", Field.IP6_SADDR, Kind.ADDRESS6, implied=_IP6),
    _selector("ip6 daddr", Field.IP6_DADDR, Kind.ADDRESS6, implied=_IP6),
    _selector("ip6 nexthdr", Field.PROTOCOL, Kind.PROTOCOL, implied=_IP6),
    _selector("ip6 dscp", Field.DSCP, Kind.NUMBER, names.DSCP, _IP6),
    _selector("ip6 hoplimit", Field.TTL, Kind.NUMBER, implied=_IP6),
    _selector("meta nfproto", Field.VERSION, Kind.NAME, _VERSIONS),
    _selector("meta protocol", Field.VERSION, Kind.NAME, {"ip": V4, "ip6": V6}),
    _selector("meta l4proto", Field.PROTOCOL, Kind.PROTOCOL),
    _selector("meta length", Field.LENGTH, Kind.NUMBER),
    _selector("th sport", Field.SPORT, Kind.PORT),
    _selector("th dport", Field.DPORT, Kind.PORT),
    _selector("tcp sport", Field.SPORT, Kind.PORT, implied=_TCP),
    _selector("tcp dport", Field.DPORT, Kind.PORT, implied=_TCP),
    _selector("tcp flags", Field.TCP_FLAGS, Kind.FLAGS, names.TCP_FLAGS, _TCP),
    _selector("udp sport", Field.SPORT, Kind.PORT, implied=_UDP, transport="udp"),
    _selector("udp dport", Field.DPORT, Kind.PORT, implied=_UDP, transport="udp"),
    _selector("icmp type", Field.ICMP_TYPE, Kind.NUMBER, names.ICMP_TYPES, _ICMP),
    _selector("icmp code", Field.ICMP_CODE, Kind.NUMBER, names.ICMP_CODES, _ICMP),
    _selector("icmpv6 type", Field.ICMP_TYPE, Kind.NUMBER, names.ICMPV6_TYPES, _ICMPV6),
    _selector("icmpv6 code", Field.ICMP_CODE, Kind.NUMBER, names.ICMPV6_CODES, _ICMPV6),
    _selector("vlan id", Field.VLAN_ID, Kind.NUMBER),
    _selector("fragment", Field.FRAGMENT, Kind.NAME, {**FRAGMENTS, ANY_FRAGMENT: 3}),
    _selector("state", Field.ESTABLISHED, Kind.NAME, STATES),
    _selector("ct state", Field.ESTABLISHED, Kind.NAME, STATES),
)
SELECTORS: dict[str, Selector] = {it.operand.words: it for it in _ALL}
FIRST_WORDS = tuple(dict.fromkeys(it.partition(" ")[0] for it in SELECTORS))


def second_words(first: str) -> tuple[str, ...]:
    """Return what can follow the first word of a field; nothing where the word stands alone."""
    return tuple(it.partition(" ")[2] for it in SELECTORS if it.startswith(f"{first} "))
