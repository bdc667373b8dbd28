# SPDX-License-Identifier: GPL-2.0
"""From the text of a match to what it means: ``ip saddr 203.0.113.0/24 udp sport 53 meta length > 512``."""

from __future__ import annotations

import difflib

from xdpguard.policy.matching.assembly import assembled
from xdpguard.policy.matching.model import Base, Bytes, Field, ListTest, Match
from xdpguard.policy.matching.ranges import Ranges, common, masked, without
from xdpguard.policy.matching.raw import raw, tested
from xdpguard.policy.matching.relations import Relation, relation
from xdpguard.policy.matching.selectors import FIRST_WORDS, SELECTORS, TCP, UDP, Selector, domain, second_words
from xdpguard.policy.matching.tokens import Token, Tokens, shown

MOST_RANGES = 1024  # that a mask may make of a field's values
# What other tools call it.
_ELSEWHERE = {
    **dict.fromkeys(("src", "source", "from", "host", "net"), "ip saddr or ip6 saddr"),
    **dict.fromkeys(("dst", "destination", "to"), "ip daddr or ip6 daddr"),
    **dict.fromkeys(("port", "ports"), "tcp dport, udp dport or th dport; where it comes from: sport"),
    **dict.fromkeys(("proto", "protocol"), "tcp, udp, icmp, icmpv6 or meta l4proto"),
}
_VERDICTS = ("drop", "accept", "pass", "reject", "counter", "count", "limit", "log", "return", "queue", "continue")
_ALL = "all tests must hold at once: use a set for one of several values, or a second filter"
_PORTS = (Field.SPORT, Field.DPORT)
_OF_TRANSPORT = (*_PORTS, Field.TCP_FLAGS, Field.ICMP_TYPE, Field.ICMP_CODE)
_WITH_PORTS: Ranges = ((TCP, TCP), (UDP, UDP))
_LATER: Ranges = ((2, 2),)
# Where an address stands in the network header, bytes: RFC 791, 3.1, and RFC 8200, 3.
_PLACES = {Field.IP_SADDR: 12, Field.IP_DADDR: 16, Field.IP6_SADDR: 8, Field.IP6_DADDR: 24}


def parse(text: str) -> Match:
    """Parse a match; raise MatchError, which names the place, for what is not one."""
    tokens = Tokens(text)
    if not tokens.next.text:
        tokens.fail(
            "a match says what a packet must be, and this one is empty",
            "write a field and its value, such as tcp dport 80; every IP packet is: meta nfproto { ipv4, ipv6 }",
        )
    found = _Conjunction(tokens)
    while tokens.next.text:
        found.take()
        if tokens.next.text == "and":
            tokens.take()
            if not tokens.next.text:
                tokens.fail("expected a field behind 'and', found the end", _fields())
    return found.match()


class _Conjunction:
    """What a packet must be, as far as it is read: at most one test a field."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._tests: dict[Field, Ranges] = {}
        self._lists: set[ListTest] = set()
        self._bytes: set[Bytes] = set()
        self._places: dict[Field, Token] = {}

    def take(self) -> None:
        """Take one expression: a field and what it is compared with."""
        sign = self._tokens.taken("@")
        if sign:
            for test in raw(self._tokens, sign):
                self._add_bytes(test, sign)
            return
        place = self._tokens.next
        selector = _selector(self._tokens)
        for field, number in selector.implied:
            self._narrow(field, ((number, number),), selector.operand.words, place)
        self._add(selector, relation(self._tokens, selector.operand), place)

    def match(self) -> Match:
        """Return all of it, in the order of the fields."""
        self._refuse_what_no_packet_has()
        return assembled(self._tests, self._lists, self._bytes)

    def _add(self, selector: Selector, found: Relation, place: Token) -> None:
        field, words = selector.field, selector.operand.words
        if found.list_name:
            test = ListTest(field, found.list_name, found.negated)
            if test._replace(negated=not found.negated) in self._lists:
                self._contradiction(words, place)
            self._lists.add(test)
        elif found.mask is None:
            self._narrow(field, common(domain(field), found.wanted), words, place)
        elif field in _PLACES:
            self._masked_address(selector, found.mask, found.wanted, place)
        else:
            ranges = masked(field.bits, found.mask, found.wanted)
            if len(ranges) > MOST_RANGES:
                self._tokens.fail(
                    f"the mask leaves {len(ranges):,} separate ranges of {words}",
                    "use the bytes themselves: @th,16,16 & MASK == VALUE is the destination port",
                    place,
                )
            self._narrow(field, common(domain(field), ranges), words, place)

    def _masked_address(self, selector: Selector, mask: int, wanted: Ranges, place: Token) -> None:
        """A mask that is a prefix leaves ranges; under any other one the bytes of the header are compared."""
        field, words = selector.field, selector.operand.words
        size = (1 << field.bits) - mask
        if size & (size - 1) == 0:
            ends = ((-(first // -size) * size, last // size * size + size - 1) for first, last in wanted)
            self._narrow(field, tuple(it for it in ends if it[0] <= it[1]), words, place)
            return
        where = Bytes(Base.NETWORK, _PLACES[field], field.bits // 8, 0, 0)
        single = without(selector.operand.everything, wanted) if len(wanted) > 1 else wanted
        tests = tested(where, 0, mask, wanted, field.bits) if single[0][0] == single[0][1] else None
        if not tests:
            self._tokens.fail(
                f"{words} under this mask takes == or != and one address", "write & MASK == ADDRESS", place
            )
        for test in tests:
            self._add_bytes(test, place)

    def _add_bytes(self, test: Bytes, place: Token) -> None:
        if test._replace(negated=not test.negated) in self._bytes:
            self._contradiction(f"@{test.base.value}", place)
        self._bytes.add(test)

    def _narrow(self, field: Field, ranges: Ranges, words: str, place: Token) -> None:
        before = self._tests.get(field)
        if not ranges:
            self._tokens.fail(
                f"no packet can match this: {words} has no such value", "compare with another value", place
            )
        self._places[field] = place
        self._tests[field] = ranges if before is None else common(before, ranges)
        if not self._tests[field]:
            self._contradiction(words, place)

    def _refuse_what_no_packet_has(self) -> None:
        """Fields that only some packets have, and a test that those packets do not pass."""
        protocols = self._tests.get(Field.PROTOCOL, domain(Field.PROTOCOL))
        later = self._tests.get(Field.FRAGMENT) == _LATER
        for field in _OF_TRANSPORT:
            if field not in self._tests:
                continue
            if later:
                problem = f"later fragments have no {field.words}"
            elif field in _PORTS and not common(_WITH_PORTS, protocols):
                problem = "only TCP and UDP have ports here"
            else:
                continue
            self._tokens.fail(f"no packet can match: {problem}", _ALL, self._places[field])

    def _contradiction(self, words: str, place: Token) -> None:
        self._tokens.fail(
            f"no packet can match {words} here and what stands before it",
            _ALL,
            place,
        )


def _selector(tokens: Tokens) -> Selector:
    first = tokens.take()
    if first.text in SELECTORS:
        return SELECTORS[first.text]
    seconds = second_words(first.text)
    if not seconds:
        return tokens.fail(f"{shown(first.text)} is not a field", _instead(first.text), first)
    second = tokens.next
    if second.text not in seconds:
        found = tokens.found()
        return tokens.fail(f"expected a field of {first.text}, found {found}", f"write {_listed(first.text, seconds)}")
    tokens.take()
    return SELECTORS[f"{first.text} {second.text}"]


def _listed(first: str, seconds: tuple[str, ...]) -> str:
    words = [f"{first} {it}" for it in seconds]
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def _instead(text: str) -> str:
    if text in _VERDICTS:
        return "the action is an option of its own: --drop, --pass, --count or --limit RATE"
    if text in _ELSEWHERE:
        return f"write {_ELSEWHERE[text]}"
    whole = [it for it in SELECTORS if it.endswith(f" {text}")]
    if whole:
        return f"write {' or '.join(whole)}"
    close = difflib.get_close_matches(text, FIRST_WORDS, 1)
    return f"did you mean {close[0]}?" if close else _fields()


def _fields() -> str:
    return f"write one of {', '.join(FIRST_WORDS)}, @nh, @th or @ih"
