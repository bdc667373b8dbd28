# SPDX-License-Identifier: GPL-2.0
"""The match language: what a text means, how it is written, and where and why one is refused."""

from __future__ import annotations

import ipaddress
import itertools
import operator
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdpguard.policy.matching import model
from xdpguard.policy.matching.error import MatchError
from xdpguard.policy.matching.model import Base, Bytes, Field, ListTest, Match, Range
from xdpguard.policy.matching.parsing import parse
from xdpguard.policy.matching.ranges import common, joined, masked, prefixes, without
from xdpguard.policy.matching.writing import written
from xdpguard.units import visible

# A text, and how it is written.
TEXTS = [
    ("tcp dport 80", "tcp dport 80"),
    ("tcp dport 80 and tcp sport > 1023", "tcp sport > 1023 tcp dport 80"),
    ("  udp\tsport\n53 ", "udp sport 53"),
    ("udp sport domain udp dport != { ntp, 1900 }", "udp sport 53 udp dport != { 123, 1900 }"),
    ("tcp dport { 80, 443, 8000-8010, }", "tcp dport { 80, 443, 8000-8010 }"),
    ("tcp dport { 80, 81, 82-90 }", "tcp dport 80-90"),
    ("tcp dport ssh - http", "tcp dport 22-80"),
    ("tcp dport ge 1024", "tcp dport > 1023"),
    ("tcp dport 0x50", "tcp dport 80"),
    ("meta l4proto { tcp, udp } th dport 53", "meta l4proto { tcp, udp } th dport 53"),
    ("meta l4proto udp th dport 53", "udp dport 53"),
    ("meta l4proto != tcp", "meta l4proto != tcp"),
    ("ip protocol 47", "ip protocol gre"),
    ("ip protocol tcp tcp dport 22", "meta nfproto ipv4 tcp dport 22"),
    ("ip6 nexthdr tcp", "ip6 nexthdr tcp"),
    ("meta protocol ip6 udp dport 53", "meta nfproto ipv6 udp dport 53"),
    ("meta nfproto { ipv4, ipv6 }", "meta nfproto { ipv4, ipv6 }"),
    ("ip saddr 198.51.100.7/24", "ip saddr 198.51.100.0/24"),
    ("ip saddr { 198.51.100.1-198.51.100.9, 192.0.2.0/25, 192.0.2.128/25 }",
     "ip saddr { 192.0.2.0/24, 198.51.100.1-198.51.100.9 }"),
    ("ip saddr != 10.0.0.0/8 ip daddr 192.0.2.1", "ip saddr != 10.0.0.0/8 ip daddr 192.0.2.1"),
    ("ip saddr & 255.255.0.0 == 198.51.0.0", "ip saddr 198.51.0.0/16"),
    ("ip saddr & 255.255.0.0 != 198.51.0.0", "ip saddr != 198.51.0.0/16"),
    ("ip saddr & 0.0.0.255 == 0.0.0.7", "meta nfproto ipv4 @nh,96,32 & 0x000000ff == 0x00000007"),
    ("ip6 saddr { fe80::/10, ::1 }", "ip6 saddr { ::1, fe80::/10 }"),
    ("ip6 daddr 2001:db8::1-2001:db8::ffff", "ip6 daddr 2001:db8::1-2001:db8::ffff"),
    ("ip6 saddr ::ffff:192.0.2.1", "ip6 saddr ::ffff:192.0.2.1"),
    ("ip saddr @3rd.list-1 udp dport 53", "udp dport 53 ip saddr @3rd.list-1"),
    ("ip6 saddr != @bogons", "ip6 saddr != @bogons"),
    ("tcp flags syn", "tcp flags & syn == syn"),
    ("tcp flags syn,ack", "tcp flags & (syn | ack) != 0"),
    ("tcp flags == syn", "tcp flags == syn"),
    ("tcp flags & (syn | ack) == syn", "tcp flags & (syn | ack) == syn"),
    ("tcp flags syn / syn,ack", "tcp flags & (syn | ack) == syn"),
    ("tcp flags != syn / fin,syn,rst,ack", "tcp flags & (fin | syn | rst | ack) != syn"),
    ("tcp flags ! fin,syn", "tcp flags & (fin | syn) == 0"),
    ("tcp flags { syn, psh|ack }", "tcp flags == { syn, psh | ack }"),
    ("tcp flags and (fin or syn) == { fin, syn }", "tcp flags & (fin | syn) == { fin, syn }"),
    ("tcp flags == 0x0", "tcp flags == 0"),
    ("meta length > 512", "meta length > 512"),
    ("ip length 100-200", "meta nfproto ipv4 meta length 100-200"),
    ("ip dscp { cs1, af11 }", "ip dscp { cs1, af11 }"),
    ("ip6 dscp ef", "ip6 dscp ef"),
    ("ip ttl < 5", "ip ttl < 5"),
    ("ip6 hoplimit != 255", "ip6 hoplimit < 255"),
    ("ip frag-off & 0x1fff != 0", "ip frag-off & 0x1fff != 0x0"),
    ("ip frag-off != 0", "ip frag-off != 0x0"),
    ("fragment yes", "fragment yes"),
    ("fragment != later", "fragment { no, first }"),
    ("ip6 saddr ::1 fragment first udp dport 53", "ip6 saddr ::1 udp dport 53 fragment first"),
    ("icmp type echo-request", "icmp type echo-request"),
    ("icmp type destination-unreachable icmp code frag-needed", "icmp type destination-unreachable icmp code 4"),
    ("icmp type { echo-reply, 3-5 }", "icmp type { echo-reply, 3-5 }"),
    ("icmpv6 type { nd-neighbor-solicit, 1 }", "icmpv6 type { destination-unreachable, nd-neighbor-solicit }"),
    ("vlan id { 5, 7-9 } tcp dport 22", "vlan id { 5, 7-9 } tcp dport 22"),
    ("@th,16,16 53", "@th,16,16 == 0x0035"),
    ("@nh,4,4 5", "@nh,0,8 & 0x0f == 0x05"),
    ("@ih,0,32 & 0xffff0000 != 0x01020000", "@ih,0,32 & 0xffff0000 != 0x01020000"),
    ("@th,16,16 >= 1024", "@th,16,16 & 0xfc00 != 0x0000"),
    ("@ih,0,8 0x40-0x7f", "@ih,0,8 & 0xc0 == 0x40"),
    ("@ll,0,48 0x020000000001 @ll,0,48 0x020000000001", "@ll,0,48 == 0x020000000001"),
    ("ct state established", "state established"),
    ("state != established tcp flags ack", "tcp flags & ack == ack state != established"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "canonical"), TEXTS, ids=[it[0] for it in TEXTS])
def test_a_text_and_how_it_is_written(text: str, canonical: str) -> None:
    assert written(parse(text)) == canonical
    assert parse(canonical) == parse(text)


# A text, the column of the error, a part of the message, and a part of the remedy.
WRONG = [
    ("", 1, "is empty", "tcp dport 80"),
    ("tcp", 4, "expected a field of tcp, found the end", "tcp sport, tcp dport or tcp flags"),
    ("tcp port 80", 5, "expected a field of tcp, found 'port'", "tcp dport"),
    ("tpc dport 80", 1, "'tpc' is not a field", "did you mean tcp?"),
    ("length > 5", 1, "'length' is not a field", "write ip length or meta length"),
    ("udp dport 53 drop", 14, "'drop' is not a field", "--drop"),
    ("udp dport 53 and", 17, "expected a field behind 'and'", "udp"),
    ("tcp dport", 10, "the end is not a port", "0 to 65535"),
    ("tcp dport 65536", 11, "'65536' is out of range", "0 to 65535"),
    ("tcp dport " + "9" * 5000, 11, "is out of range", "0 to 65535"),
    ("tcp dport 010", 11, "'010' is not a number", "leading zeros"),
    ("tcp dport nothing-like-it", 11, "is not a port or the name of a service", "/etc/services"),
    ("tcp dport ssh-http", 11, "'ssh-http'", "ssh - http"),
    ("tcp dport { }", 11, "the set is empty", "{ 80, 443 }"),
    ("tcp dport { 80", 11, "the set is not closed", "'}'"),
    ("tcp dport { 80 443 }", 16, "expected ',', found '443'", "commas"),
    ("tcp dport > { 80 }", 11, "a set cannot be compared by size", "=="),
    ("tcp dport < 80-90", 13, "'<' takes one value", "range"),
    ("tcp dport 90-80", 11, "the range ends before it begins", "smaller"),
    ("tcp dport ! 80", 11, "only flags are negated by '!'", "!="),
    ("tcp dport < 0", 1, "no packet can match", "another value"),
    ("tcp dport & 1 == 1", 1, "32,768 separate ranges", "@th,16,16"),
    ("tcp dport 80 tcp dport 90", 14, "no packet can match tcp dport here", "set"),
    ("ip saddr 192.0.2.1 ip6 daddr ::1", 20, "no packet can match ip6 daddr here", "second filter"),
    ("ip protocol udp tcp flags syn", 17, "no packet can match tcp flags here", "second filter"),
    ("ip saddr @a ip saddr != @a", 13, "no packet can match", "second filter"),
    ("@th,0,8 1 @th,0,8 != 1", 11, "no packet can match", "second filter"),
    ("meta l4proto gre th dport 5", 18, "only TCP and UDP have ports", "all tests"),
    ("fragment later udp dport 53", 16, "later fragments have no th dport", "all tests"),
    ("ip saddr localhost", 10, "'localhost' is not an IPv4 address", "names are not looked up"),
    ("ip saddr ::1", 10, "'::1' is not an IPv4 address", "matched by ip6"),
    ("ip6 saddr 192.0.2.1", 11, "is not an IPv6 address", "matched by ip"),
    ("ip saddr 192.0.2.1/33", 20, "33 is not a prefix length", "0 to 32"),
    ("ip saddr 192.0.2.1/0", 10, "host bits are set", "0.0.0.0/0"),
    ("ip saddr 192.0.2.0/24-192.0.3.0", 10, "a range runs between two single values", "FIRST-LAST"),
    ("ip saddr > @bogons", 10, "a list is compared by == or !=", "@NAME"),
    ("ip saddr @", 11, "expected the name of a list, found the end", "@NAME"),
    ("tcp dport @list", 11, "'@' is not a port", "0 to 65535"),
    ("tcp flags sin", 11, "'sin' is not a value of tcp flags", "did you mean syn?"),
    ("tcp flags & syn|ack == syn", 16, "needs parentheses", "(A | B)"),
    ("tcp flags & (syn,ack) == syn", 17, "expected ')', found ','", "|"),
    ("tcp flags & syn", 16, "the end is not a value of tcp flags", "fin, syn"),
    ("tcp flags 0", 1, "no packet can match", "another value"),
    ("ip dscp 64", 9, "'64' is out of range", "0 to 63"),
    ("icmp type echo", 11, "'echo' is not a value of icmp type", "did you mean echo-reply or echo-request?"),
    ("fragment 1", 10, "'1' is not a value of fragment", "no, first, later"),
    ("fragment & 1 first", 12, "takes no mask", "name"),
    ("ct state new", 10, "'new' is not a value of ct state", "established"),
    ("@xh,0,8 1", 2, "'xh' is not a base", "ll, nh, th or ih"),
    ("@th,0,0 1", 2, "0 bits from bit 0 on", "16 bytes"),
    ("@th,1,128 1", 2, "128 bits from bit 1 on", "16 bytes"),
    ("@th,2048,8 1", 2, "8 bits from bit 2048 on", "255 bytes"),
    ("@th,0,16 { 5, 77 }", 1, "too many separate ones", "several filters"),
    ("@th,0,8 & 0xf0 == 1", 1, "no packet can match", "a value that the bits can have"),
    ("@th;0", 4, "';' has no meaning here", "signs"),
    ("ip ttl | 1 == 5", 8, "'|' is not a value of ip ttl", "0 to 255"),
    ("tcp dport 80" + " " * 70_000, 65_536, "at most 65,536 characters", "@NAME"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "column", "message", "remedy"), WRONG, ids=[it[0][:40] for it in WRONG])
def test_what_is_refused_where_and_with_what_remedy(text: str, column: int, message: str, remedy: str) -> None:
    with pytest.raises(MatchError) as caught:
        parse(text)
    error = caught.value
    assert message in str(error)
    assert error.column == column
    assert remedy in error.remedy
    assert len(str(error).splitlines()) == 1
    assert len(error.remedy.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("tcp dport x!", "tcp dport x!\n          ^"),
        ("tcp\ndport x!", "tcp\\ndport x!\n           ^"),
        ("ip saddr @\uff21\uff21 x", "ip saddr @\uff21\uff21 x\n          ^"),
        ("tcp dport { " + "1, " * 100 + "x }" + "y" * 100,
         "..." + "1, " * 20 + "x }" + "y" * 37 + "...\n" + " " * 63 + "^"),
    ],
)  # fmt: skip
def test_the_caret_stands_below_the_place(text: str, shown: str) -> None:
    with pytest.raises(MatchError) as caught:
        parse(text)
    assert caught.value.shown() == shown


WORDS_OF_IT = """
    ip ip6 meta tcp udp th icmp icmpv6 vlan fragment state ct saddr daddr sport dport flags length l4proto
    nfproto protocol nexthdr type code id ttl hoplimit dscp frag-off established and or not eq ne lt syn ack
    ipv4 ipv6 first later yes no udp gre ssh cs1 echo-request @ @th @nh @ih @ll @list @1 0 1 5 80 443 0xff
    65535 65536 192.0.2.1 198.51.100.0 2001:db8:: ::1 fe80:: / 24 32 64 - , | & ( ) { } == != < > <= >= !
    @th,16,16 @nh,4,4 @ih,0,128
"""
WORDS = [*WORDS_OF_IT.split(), "=", "\u0663", "\x00", "\u202e", "'", "\n", "9" * 50, "{ 80, 443 }", "a" * 99]


@settings(max_examples=600)
@given(st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join) | st.text(max_size=40))
def test_any_text_is_a_match_or_an_error_with_its_place(text: str) -> None:
    try:
        match = parse(text)
    except MatchError as error:
        assert 1 <= error.column <= len(text) + 1
        assert error.remedy
        assert visible(str(error)) == str(error)
        assert len(error.shown().splitlines()) == 2
    else:
        assert parse(written(match)) == match


def _ranges(field: Field) -> st.SearchStrategy[tuple[Range, ...]]:
    if field is Field.ESTABLISHED:
        return st.sampled_from((((0, 0),), ((1, 1),)))
    most = 2 if field is Field.FRAGMENT else (1 << field.bits) - 1
    number = st.integers(0, most) | st.sampled_from((0, 1, most - 1, most))
    spans = st.lists(st.tuples(number, number), min_size=1, max_size=5)
    return spans.map(lambda them: joined((min(it), max(it)) for it in them))


@st.composite
def matches(draw: st.DrawFn) -> Match:
    """Anything that the language can say."""
    version = draw(st.sampled_from((None, 4, 6)))
    protocol = draw(st.sampled_from((None, 1, 6, 17, 47, 58)))
    fields = {Field.LENGTH, Field.VLAN_ID, Field.ESTABLISHED, Field.FRAGMENT}
    if version:
        fields |= {Field.DSCP, Field.TTL}
        fields |= {Field.IP_SADDR, Field.IP_DADDR} if version == 4 else {Field.IP6_SADDR, Field.IP6_DADDR}
    if version == 4:
        fields.add(Field.FRAG_OFF)
    if protocol in (None, 6, 17):
        fields |= {Field.SPORT, Field.DPORT}
    if protocol == 6:
        fields.add(Field.TCP_FLAGS)
    if (version, protocol) in ((4, 1), (6, 58)):
        fields |= {Field.ICMP_TYPE, Field.ICMP_CODE}
    tests = {it: draw(_ranges(it)) for it in draw(st.sets(st.sampled_from(sorted(fields, key=lambda it: it.words))))}
    later = tests.get(Field.FRAGMENT) == ((2, 2),)
    if later:
        tests = {it: tests[it] for it in tests if not it.words.startswith(("th ", "tcp", "icmp"))}
    if version:
        tests[Field.VERSION] = ((version, version),)
    if protocol:
        tests[Field.PROTOCOL] = ((protocol, protocol),)
    addresses = (Field.IP_SADDR, Field.IP_DADDR) if version == 4 else (Field.IP6_SADDR, Field.IP6_DADDR)
    lists = {it: draw(st.booleans()) for it in draw(st.sets(st.sampled_from(("a", "b-1.c")))) if version}
    return Match(
        tuple(model.Test(it, tests[it]) for it in Field if it in tests),
        tuple(ListTest(draw(st.sampled_from(addresses)), name, negated) for name, negated in sorted(lists.items())),
        draw(_bytes()),
    )


@st.composite
def _bytes(draw: st.DrawFn) -> tuple[Bytes, ...]:
    found = {}
    for base in draw(st.sets(st.sampled_from(Base), max_size=2)):
        size = draw(st.integers(1, 16))
        mask = draw(st.integers(0, (1 << size * 8) - 1))
        value = draw(st.integers(0, (1 << size * 8) - 1)) & mask
        found[base] = Bytes(
            base, draw(st.integers(0, 255)), size, mask, value, draw(st.booleans()) and mask.bit_count() > 1
        )
    return tuple(found[it] for it in Base if it in found)


def _in_order(match: Match) -> Match:
    order = list(Field)
    return match._replace(lists=tuple(sorted(match.lists, key=lambda it: (order.index(it.field), it.name))))


@settings(max_examples=400)
@given(matches().map(_in_order))
def test_whatever_is_written_parses_to_the_same(match: Match) -> None:
    assert parse(written(match)) == match


COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


@given(st.sampled_from(sorted(COMPARISONS)), st.integers(0, 255), st.none() | st.integers(0, 255))
def test_comparisons_and_masks_mean_what_they_say(sign: str, value: int, mask: int | None) -> None:
    under = 255 if mask is None else mask
    expected = {it for it in range(256) if COMPARISONS[sign](it & under, value)}
    text = f"ip ttl {'' if mask is None else f'& {mask} '}{sign} {value}"
    if not expected:
        with pytest.raises(MatchError, match="no packet can match"):
            parse(text)
        return
    ranges = next(it.ranges for it in parse(text).tests if it.field is Field.TTL)
    assert {it for first, last in ranges for it in range(first, last + 1)} == expected


@given(st.sampled_from(sorted(COMPARISONS)), st.integers(0, 255), st.integers(1, 255))
def test_comparisons_of_bytes_mean_what_they_say(sign: str, value: int, mask: int) -> None:
    expected = {it for it in range(256) if COMPARISONS[sign](it & mask, value)}
    try:
        tests = parse(f"@th,0,8 & {mask} {sign} {value}").bytes
    except MatchError as error:
        assert "too many" in str(error) or not expected
        return
    assert {it for it in range(256) if all((it & t.mask == t.value) != t.negated for t in tests)} == expected


@given(st.ip_addresses(v=4), st.integers(0, 32), st.ip_addresses(v=4))
def test_masks_of_addresses_are_prefixes(
    address: ipaddress.IPv4Address, length: int, other: ipaddress.IPv4Address
) -> None:
    network = ipaddress.ip_network(f"{address}/{length}", strict=False)
    text = f"ip saddr & {network.netmask} == {network.network_address}"
    assert parse(text) == parse(f"ip saddr {network}")
    first, last = next(it.ranges for it in parse(text).tests if it.field is Field.IP_SADDR)[0]
    assert (first <= int(other) <= last) == (other in network)


def test_sets_of_numbers() -> None:
    chosen = random.Random(1)
    for _ in range(300):
        one, other = ({chosen.randrange(64) for _ in range(chosen.randrange(1, 40))} for _ in range(2))
        left, right = (joined((it, it) for it in numbers) for numbers in (one, other))
        assert _numbers(common(left, right)) == one & other
        assert _numbers(without(((0, 63),), left)) == set(range(64)) - one
        mask = chosen.randrange(64)
        assert _numbers(masked(6, mask, left)) == {it for it in range(64) if it & mask in one}
        split = list(prefixes(left, 6))
        assert [it for it in range(64) if sum(it & bits == value for value, bits in split) == 1] == sorted(one)


def _numbers(ranges: tuple[Range, ...]) -> set[int]:
    assert all(first <= last for first, last in ranges)
    assert all(before[1] + 1 < after[0] for before, after in itertools.pairwise(ranges))
    return {it for first, last in ranges for it in range(first, last + 1)}
