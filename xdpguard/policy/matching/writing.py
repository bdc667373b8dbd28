# SPDX-License-Identifier: GPL-2.0
"""From what a match means to its canonical text, which parses to the same match again."""

from __future__ import annotations

from collections.abc import Callable

from xdpguard.policy.matching import names
from xdpguard.policy.matching.masks import cube, flags
from xdpguard.policy.matching.model import Bytes, Field, Match, Range
from xdpguard.policy.matching.ranges import Ranges, prefixes, without
from xdpguard.policy.matching.selectors import ANY_FRAGMENT, FRAGMENTS, ICMP, ICMPV6, STATES, TCP, UDP, V4, V6, domain
from xdpguard.policy.matching.values import address_text

EVERYTHING = "meta nfproto { ipv4, ipv6 }"  # every IP packet
_ADDRESSES = (Field.IP_SADDR, Field.IP_DADDR, Field.IP6_SADDR, Field.IP6_DADDR)
_PORTS = (Field.SPORT, Field.DPORT)
_OF_VERSION = (*_ADDRESSES, Field.DSCP, Field.TTL, Field.FRAG_OFF, Field.ICMP_TYPE, Field.ICMP_CODE)
_OF_ICMP = (Field.ICMP_TYPE, Field.ICMP_CODE)


def written(match: Match) -> str:
    """Return the canonical text of a match that `parse` made."""
    context = _Context(match)
    tests = [
        f"{context.words(it.field)} {context.values(it.field, it.ranges)}"
        # As nft 1.0.6 wants it: the tag before what is inside.
        for it in sorted(match.tests, key=lambda it: it.field is not Field.VLAN_ID)
        if context.says(it.field)
    ]
    lists = [f"{it.field.words} {'!= ' if it.negated else ''}@{it.name}" for it in match.lists]
    return " ".join([*tests, *lists, *(_bytes(it) for it in match.bytes)]) or EVERYTHING


class _Context:
    """What the version and the protocol of a match make of its other fields' names."""

    def __init__(self, match: Match) -> None:
        ranges = {it.field: it.ranges for it in match.tests}
        self._fields = {*ranges, *(it.field for it in match.lists)}
        self._version = _single(ranges.get(Field.VERSION, ()))
        self._protocol = _single(ranges.get(Field.PROTOCOL, ()))

    def says(self, field: Field) -> bool:
        """Return whether a field needs words of its own: the names of others imply some."""
        if field is Field.VERSION:
            implied = any(it in self._fields for it in (*_OF_VERSION, Field.PROTOCOL))
            named = Field.PROTOCOL not in self._fields or self.says(Field.PROTOCOL)
            return not (implied and (named or any(it in self._fields for it in _OF_VERSION)))
        if field is Field.PROTOCOL:
            return not any(it in self._fields for it in self._implying())
        return True

    def words(self, field: Field) -> str:
        """Return the name of a field."""
        if field is Field.PROTOCOL and self._version is not None:
            return "ip protocol" if self._version == V4 else "ip6 nexthdr"
        if field in (Field.DSCP, Field.TTL) and self._version == V6:
            return "ip6 dscp" if field is Field.DSCP else "ip6 hoplimit"
        if field in _PORTS and self._protocol in (TCP, UDP):
            return field.words.replace("th", "tcp" if self._protocol == TCP else "udp")
        if field in _OF_ICMP and self._protocol == ICMPV6:
            return field.words.replace("icmp", "icmpv6")
        return field.words

    def values(self, field: Field, ranges: Ranges) -> str:
        """Return what a field is compared with."""
        if field in _ADDRESSES:
            return _compared(ranges, domain(field), lambda it: _addresses(it, field.bits))
        if field is Field.TCP_FLAGS:
            return flags(ranges)
        if field is Field.FRAG_OFF:
            return cube(ranges, field.bits, hex) or _compared(ranges, domain(field), _span(hex), hex)
        if field is Field.FRAGMENT and ranges == ((1, 2),):
            return ANY_FRAGMENT
        spelled = self._spelled(field)
        if field in (Field.VERSION, Field.FRAGMENT, Field.ESTABLISHED):
            return _named(ranges, spelled)
        return _compared(ranges, domain(field), _span(str, lambda it: spelled.get(it, str(it))), str)

    def _spelled(self, field: Field) -> dict[int, str]:
        """Return the names of values, of several for one the first."""
        icmp = names.ICMPV6_TYPES if self._protocol == ICMPV6 else names.ICMP_TYPES
        known = {
            Field.VERSION: {"ipv4": V4, "ipv6": V6},
            Field.FRAGMENT: FRAGMENTS,
            Field.ESTABLISHED: STATES,
            Field.PROTOCOL: names.PROTOCOLS,
            Field.DSCP: names.DSCP,
            Field.ICMP_TYPE: icmp,
        }.get(field, {})
        return {number: name for name, number in reversed(known.items())}

    def _implying(self) -> tuple[Field, ...]:
        """Return the fields whose names imply the protocol there is."""
        if self._protocol == TCP:
            return (*_PORTS, Field.TCP_FLAGS)
        if self._protocol == UDP:
            return _PORTS
        return _OF_ICMP if self._protocol in (ICMP, ICMPV6) else ()


def _single(ranges: Ranges) -> int | None:
    return ranges[0][0] if len(ranges) == 1 and ranges[0][0] == ranges[0][1] else None


def _compared(
    ranges: Ranges, everything: Ranges, span: Callable[[Range], str], number: Callable[[int], str] | None = None
) -> str:
    """Write ranges with the comparison that says them in the fewest words; ``number`` writes the values of < and >."""
    least, most = everything[0]
    rest = without(everything, ranges)
    if rest and (len(rest) < len(ranges) or rest == ((0, 0),)):
        return f"!= {_braces(rest, span)}"
    first, last = ranges[0]
    if number and len(ranges) == 1 and first < last:
        if last == most:
            return f"> {number(first - 1)}" if first > least else f">= {number(first)}"
        if first == least:
            return f"< {number(last + 1)}"
    return _braces(ranges, span)


def _braces(ranges: Ranges, text: Callable[[Range], str]) -> str:
    return text(ranges[0]) if len(ranges) == 1 else f"{{ {', '.join(text(it) for it in ranges)} }}"


def _span(text: Callable[[int], str], single: Callable[[int], str] | None = None) -> Callable[[Range], str]:
    one = single or text
    return lambda it: one(it[0]) if it[0] == it[1] else f"{text(it[0])}-{text(it[1])}"


def _addresses(span: Range, bits: int) -> str:
    first, last = span
    whole = list(prefixes((span,), bits))
    if first == last:
        return address_text(first, bits)
    if len(whole) == 1:
        return f"{address_text(first, bits)}/{whole[0][1].bit_count()}"
    return f"{address_text(first, bits)}-{address_text(last, bits)}"


def _named(ranges: Ranges, spelled: dict[int, str]) -> str:
    inside = [name for number, name in sorted(spelled.items()) if any(it[0] <= number <= it[1] for it in ranges)]
    outside = [name for number, name in sorted(spelled.items()) if name not in inside]
    if not inside:
        return f"!= {outside[0]}"
    return inside[0] if len(inside) == 1 else f"{{ {', '.join(inside)} }}"


def _bytes(test: Bytes) -> str:
    place = f"@{test.base.value},{test.offset * 8},{test.size * 8}"
    sign = "!=" if test.negated else "=="
    digits = test.size * 2
    if test.mask == (1 << test.size * 8) - 1:
        return f"{place} {sign} 0x{test.value:0{digits}x}"
    return f"{place} & 0x{test.mask:0{digits}x} {sign} 0x{test.value:0{digits}x}"
