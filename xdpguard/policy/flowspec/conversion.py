# SPDX-License-Identifier: GPL-2.0
"""From a match and what is done to FlowSpec rules, and back."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from xdpguard.errors import UsageError
from xdpguard.policy.flowspec.fragments import as_frag_off, frag_off_ranges, fragment_ranges, of_frag_off, of_fragment
from xdpguard.policy.flowspec.operators import bitmask, holds, numeric, ranges_of
from xdpguard.policy.flowspec.rule import Actions, Component, Does, Op, Prefix, Rule, Value
from xdpguard.policy.matching.assembly import assembled
from xdpguard.policy.matching.model import Base, Bytes, Field, Match
from xdpguard.policy.matching.ranges import Ranges, common, joined, prefixes
from xdpguard.policy.matching.raw import tested
from xdpguard.policy.matching.selectors import ICMP, ICMPV6, TCP, V4, V6, domain

MOST = 64  # rules that a filter may become
_NUMERIC = {
    Field.PROTOCOL: Component.PROTOCOL,
    Field.DPORT: Component.DESTINATION_PORT,
    Field.SPORT: Component.SOURCE_PORT,
    Field.ICMP_TYPE: Component.ICMP_TYPE,
    Field.ICMP_CODE: Component.ICMP_CODE,
    Field.LENGTH: Component.LENGTH,
    Field.DSCP: Component.DSCP,
}
_FIELDS = {component: field for field, component in _NUMERIC.items()}
_ADDRESSES = {
    Field.IP_DADDR: Component.DESTINATION,
    Field.IP6_DADDR: Component.DESTINATION,
    Field.IP_SADDR: Component.SOURCE,
    Field.IP6_SADDR: Component.SOURCE,
}
_BY_VERSION = {V4: (Field.IP_DADDR, Field.IP_SADDR, 32), V6: (Field.IP6_DADDR, Field.IP6_SADDR, 128)}
_PLACES = {Component.SOURCE: 8, Component.DESTINATION: 24}  # of addresses in IPv6's header, bytes
_LABEL = Bytes(Base.NETWORK, 1, 3, 0, 0)  # the flow label is in the last 20 of these 24 bits


def rules_of(match: Match, does: Does) -> list[Rule]:
    """Return the rules that together say what a filter does; raise UsageError for what FlowSpec cannot say."""
    if match.lists:
        raise _unsaid(f"the list @{match.lists[0].name}", "announce its addresses as routes or rules of their own")
    if match.bytes:
        raise _unsaid("bytes at a fixed place", "compare with fields alone")
    if not does.shared:
        raise _unsaid("a limit per source", "use a limit that all packets share: --per filter")
    tests = {it.field: it.ranges for it in match.tests}
    if Field.FRAG_OFF in tests and Field.FRAGMENT in tests:
        tests[Field.FRAG_OFF] = common(tests[Field.FRAG_OFF], as_frag_off(tests.pop(Field.FRAGMENT)))
        if not tests[Field.FRAG_OFF]:
            raise UsageError("no packet can match both fragment and ip frag-off here", "leave one of them out")
    versions = [first for first, _ in tests.pop(Field.VERSION, domain(Field.VERSION))]
    spans = {it: list(_prefixes(it, tests.pop(it))) for it in _ADDRESSES if it in tests}
    others = [_component(field, ranges) for field, ranges in tests.items()]
    found = []
    kinds = [_ADDRESSES[it] for it in spans]
    for version, chosen in product(versions, product(*spans.values())):
        parts: list[tuple[Component, Value]] = [*zip(kinds, chosen, strict=True), *(it for it in others if it[1])]
        # A rule without a component cannot be written; a prefix of no bits has every packet.
        parts = parts or [(Component.DESTINATION, Prefix(0, 0))]
        found.append(Rule(version, tuple(sorted(parts, key=lambda it: it[0])), actions_of(does)))
        if len(found) > MOST:
            raise _unsaid("so many addresses in one filter", f"a filter becomes at most {MOST} rules")
    if does.action == "limit" and len(found) > 1:
        raise _unsaid(
            f"one limit for {len(found)} rules, which this filter would be",
            "a limit is of one rule: one prefix, and one IP version, such as meta nfproto ipv4",
        )
    return found


def actions_of(does: Does) -> Actions:
    """Return the actions of a rule; counted and limited packets go on with further rules, as they do with filters."""
    if does.action == "limit":
        in_packets = does.unit == "packets"
        return Actions(None if in_packets else does.rate, does.rate if in_packets else None, further=True)
    if does.action == "count":
        return Actions(sample=True, further=True)
    return Actions(rate=0) if does.action == "drop" else Actions()


def does_of(actions: Actions) -> list[Does]:
    """Return what a filter does for a rule; two of them where a limit that is kept ends the rules."""
    rates = [it for it in (actions.rate, actions.packets) if it is not None]
    if 0 in rates:
        return [Does("drop")]
    found = []
    if actions.packets is not None:
        found.append(Does("limit", actions.packets, "packets"))
    if actions.rate is not None:
        found.append(Does("limit", actions.rate, "bytes"))
    if not actions.further:
        found.append(Does("pass"))
    return found or [Does("count")]


def matches_of(rule: Rule) -> list[Match]:
    """Return the matches of a rule: two if it asks for a port of either side. Raise UsageError if none can match."""
    either: tuple[Op, ...] | None = None
    tests: dict[Field, Ranges] = {Field.VERSION: ((rule.version, rule.version),)}
    looks: list[Bytes] = []
    for component, value in rule.components:
        if component is Component.PORT and not isinstance(value, Prefix):
            either = value
        elif isinstance(value, Prefix):
            looks += _narrow_address(tests, rule.version, component, value)
        elif component is Component.FLOW_LABEL:
            looks += _label(value)
        else:
            _narrow(tests, rule.version, component, value)
    if either is None:
        return [_match(tests, looks)]
    ports = ranges_of(either, domain(Field.SPORT))
    sides = ({**tests, side: common(ports, tests.get(side, ports))} for side in (Field.SPORT, Field.DPORT))
    found = [_match(it, looks) for it in sides if all(it.values())]
    return found or [_match({Field.SPORT: ()}, looks)]


def _match(tests: dict[Field, Ranges], looks: list[Bytes]) -> Match:
    empty = next((field for field, ranges in tests.items() if not ranges), None)
    if empty:
        raise UsageError(f"no packet can match this rule: {empty.words} has no such value", "leave the rule out")
    return assembled(tests, (), looks)


def _narrow(tests: dict[Field, Ranges], version: int, component: Component, ops: tuple[Op, ...]) -> None:
    if component is Component.TCP_FLAGS:
        _put(tests, Field.PROTOCOL, ((TCP, TCP),))
        if any(op.value > 0xFF for op in ops):
            raise UsageError("flags beyond the eight of TCP cannot be matched", "leave out the bits above 0xff")
        _put(tests, Field.TCP_FLAGS, joined((it, it) for it in range(256) if holds(ops, it)))
    elif component is Component.FRAGMENT:
        ranges = fragment_ranges(ops)
        if ranges is not None:
            _put(tests, Field.FRAGMENT, ranges)
        elif version == V4:
            _put(tests, Field.FRAG_OFF, frag_off_ranges(ops))
        else:
            raise UsageError(
                "the last fragment and dont-fragment cannot be told from others in IPv6", "write is-fragment"
            )
    else:
        field = _FIELDS[component]
        _put(tests, field, ranges_of(ops, domain(field)))
    if component in (Component.ICMP_TYPE, Component.ICMP_CODE):
        icmp = ICMP if version == V4 else ICMPV6
        _put(tests, Field.PROTOCOL, ((icmp, icmp),))


def _put(tests: dict[Field, Ranges], field: Field, ranges: Ranges) -> None:
    tests[field] = common(tests.get(field, domain(field)), ranges)


def _narrow_address(tests: dict[Field, Ranges], version: int, component: Component, prefix: Prefix) -> list[Bytes]:
    if prefix.length == 0:
        return []
    destination, source, width = _BY_VERSION[version]
    mask = (1 << width) - (1 << width - prefix.length)
    number = prefix.number & mask
    if prefix.offset:
        mask &= (1 << width - prefix.offset) - 1
        return [Bytes(Base.NETWORK, _PLACES[component], 16, mask, number & mask)]
    field = destination if component is Component.DESTINATION else source
    _put(tests, field, ((number, number | (1 << width - prefix.length) - 1),))
    return []


def _label(ops: tuple[Op, ...]) -> list[Bytes]:
    found = tested(_LABEL, 0, (1 << 20) - 1, ranges_of(ops, ((0, (1 << 20) - 1),)), 24)
    if not found:
        raise UsageError("these values of a flow label are too many separate ones", "compare with one value")
    return found


def _prefixes(field: Field, ranges: Ranges) -> Iterator[Prefix]:
    for number, mask in prefixes(ranges, field.bits):
        yield Prefix(number, mask.bit_count())


def _component(field: Field, ranges: Ranges) -> tuple[Component, Value]:
    everything = domain(field)
    if field in _NUMERIC:
        component, ops = _NUMERIC[field], numeric(ranges, everything)
    elif field is Field.TCP_FLAGS:
        component = Component.TCP_FLAGS
        ops = bitmask(lambda number: any(first <= number <= last for first, last in ranges), 8)
    elif field in (Field.FRAGMENT, Field.FRAG_OFF):
        component = Component.FRAGMENT
        ops = of_fragment(ranges) if field is Field.FRAGMENT else of_frag_off(ranges)
    else:
        raise _unsaid(field.words, "leave it out, or keep the filter on this host")
    if ops is None:
        raise _unsaid(f"these values of {field.words}", "compare with fewer values")
    return component, ops


def _unsaid(what: str, remedy: str) -> UsageError:
    return UsageError(f"FlowSpec cannot say {what}", remedy)
