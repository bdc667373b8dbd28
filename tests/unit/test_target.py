# SPDX-License-Identifier: GPL-2.0
"""Targets and durations as users write them."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpguard.errors import UsageError
from xdpguard.policy.duration import parse_duration
from xdpguard.policy.sources import parse_sources
from xdpguard.policy.target import Port, Prefix, parse_ports, parse_prefix


@given(
    st.ip_addresses() | st.integers(0, (1 << 32) - 1).map(lambda host: ipaddress.IPv6Address((0xFFFF << 32) | host)),
    st.integers(0, 128),
)
def test_prefixes_agree_with_ipaddress(address: ipaddress.IPv4Address | ipaddress.IPv6Address, bits: int) -> None:
    length = min(bits, address.max_prefixlen)
    expected = ipaddress.ip_network(f"{address}/{length}", strict=False)
    if address.version == 6 and address.ipv4_mapped and length < 96:
        with pytest.raises(UsageError, match="not a prefix length") as caught:
            parse_prefix(f"{address}/{length}")
        assert "192.0.2.0/24" in caught.value.remedy
        return
    if address.version == 6 and address.ipv4_mapped:
        expected = ipaddress.ip_network(f"{address.ipv4_mapped}/{length - 96}", strict=False)
    written = int(address) & ((1 << (address.max_prefixlen - length)) - 1)
    if written and expected.prefixlen < (8 if expected.version == 4 else 16):
        with pytest.raises(UsageError, match=f"has host bits set, and stands for {expected}: ") as caught:
            parse_prefix(f"{address}/{length}")
        assert f"or {expected} if that is meant" in caught.value.remedy
        return
    prefix, cleared = parse_prefix(f"{address}/{length}")
    assert (prefix.network, prefix.length) == (expected.network_address.packed, expected.prefixlen)
    assert cleared == bool(written)


@given(st.ip_addresses(v=4), st.integers(0, 32), st.ip_addresses(v=4), st.integers(0, 32))
def test_covers_agrees_with_ipaddress(a: ipaddress.IPv4Address, m: int, b: ipaddress.IPv4Address, n: int) -> None:
    outer, inner = (ipaddress.ip_network(f"{x}/{y}", strict=False) for x, y in ((a, m), (b, n)))
    mine = Prefix(outer.network_address.packed, m).covers(Prefix(inner.network_address.packed, n))
    assert mine == inner.subnet_of(outer)  # type: ignore[arg-type]


@given(st.text(max_size=30))
def test_no_text_gets_past_as_anything_but_an_address_or_an_error(text: str) -> None:
    try:
        prefix, _ = parse_prefix(text)
    except UsageError as error:
        assert error.remedy
    else:
        assert ipaddress.ip_network(str(prefix))


@pytest.mark.parametrize(
    ("text", "share", "remedy"),
    [
        ("8.8.8.8/1", "0.0.0.0/1: one in 2 of all IPv4 addresses", "write 8.8.8.8 for the address alone, or 0.0.0.0/1"),
        ("8.8.8.8/0", "0.0.0.0/0: every one of the IPv4 addresses", "write 8.8.8.8 for the address alone"),
        ("2001:db8::1/12", "2000::/12: one in 4,096 of all IPv6 addresses", "or 2000::/12 if that is meant"),
        ("::ffff:8.8.8.8/97", "0.0.0.0/1: one in 2 of all IPv4 addresses", "write 8.8.8.8"),
    ],
)
def test_a_short_prefix_with_host_bits_is_taken_for_a_slip(text: str, share: str, remedy: str) -> None:
    with pytest.raises(UsageError, match=f"has host bits set, and stands for {share}") as caught:
        parse_prefix(text)
    assert remedy in caught.value.remedy


def test_a_short_prefix_without_host_bits_is_taken_as_it_is() -> None:
    for text in ("0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/7", "10.1.2.3/8", "2000::/3", "2001:db8::1/16"):
        assert parse_prefix(text)[0].length == int(text.partition("/")[2])


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("22", "--port 22"),
        ("22/tcp", "--port 22/tcp"),
        ("5m", "--for 5m"),
        ("198.51.100.07", "no leading zeros"),
        ("198.51.100.256/24", "0 to 255"),
        ("198.51.100.7:22", "leave out the port"),
        ("fe80::1%eth0", "leave out the zone"),
        ("example.com", "names are not looked up"),
        ("10.1", "write 10.1.0.0/16 for all that begin with 10.1"),
    ],
)
def test_what_is_said_of_something_else(text: str, remedy: str) -> None:
    with pytest.raises(UsageError, match="not an address or prefix") as caught:
        parse_sources(text)
    assert remedy in caught.value.remedy


def test_how_prefixes_are_shown() -> None:
    assert str(parse_prefix("198.51.100.7/32")[0]) == "198.51.100.7"
    assert str(parse_prefix("2001:0db8:0::/32")[0]) == "2001:db8::/32"
    assert str(parse_prefix("::ffff:198.51.100.7")[0]) == "198.51.100.7"
    assert str(parse_prefix("198.51.100.0/255.255.255.0")[0]) == "198.51.100.0/24"


@pytest.mark.parametrize("text", ["198.51.100.0/0.0.0.255", "198.51.100.0/255.0.255.0", "2001:db8::/255.255.0.0"])
def test_what_is_no_netmask(text: str) -> None:
    with pytest.raises(UsageError, match="not a prefix length"):
        parse_prefix(text)


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("8080/tcp", [Port(8080, "tcp")]),
        ("53/UDP", [Port(53, "udp")]),
        ("53", [Port(53, "tcp"), Port(53, "udp")]),
        ("1/tcp", [Port(1, "tcp")]),
        ("65535/udp", [Port(65535, "udp")]),
    ],
)
def test_ports(text: str, ports: list[Port]) -> None:
    assert parse_ports(text) == ports


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("7d", 604_800), ("1w", 604_800), (" 1s ", 1)]
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "1", "1.5h", "0m", "-1s", "1 x", "1M", "\u0661s", "99999999999999999999d"])
def test_invalid_durations(text: str) -> None:
    with pytest.raises(UsageError):
        parse_duration(text)
