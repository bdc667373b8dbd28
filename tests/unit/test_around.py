# SPDX-License-Identifier: GPL-2.0
"""What the guard must know about its host: devices, routes, sockets, rules, parsed from the kernel's messages."""

from __future__ import annotations

import socket
import struct

import pytest

from xdpguard.net import devices, locals, owners, ruleset
from xdpguard.net.devices import Device
from xdpguard.net.firewall import conflicts_of
from xdpguard.net.netlink import attribute, attributes
from xdpguard.net.ruleset import Rule
from xdpguard.policy.target import Prefix


def mac(number: int) -> bytes:
    return bytes([2, 0, 0, 0, 0, number])


def stack(*made: Device) -> dict[int, Device]:
    return {it.ifindex: it for it in made}


def numbers(found: frozenset[bytes]) -> set[int]:
    return {it[5] for it in found}


BOND = stack(
    Device(1, "eth0", "", mac(1), master=3),
    Device(2, "eth1", "", mac(2), master=3),
    Device(3, "bond0", "bond", mac(3)),
    Device(4, "bond0.5", "vlan", mac(4), lower=3),
    Device(5, "mac0", "macvlan", mac(5), master=6, lower=4),
    Device(6, "blue", "vrf", mac(6), table=10),
    Device(7, "br0", "bridge", mac(7), filters_vlans=True),
    Device(8, "vnet0", "tun", mac(8), master=7),
    Device(9, "eth2", "", mac(9), master=7),
)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (1, {2, 3, 4, 5}),  # a member's own address is not repeated; that of the VRF never is in a frame
        (3, {1, 2, 4, 5}),  # the bond itself gets what its members take
        (4, {5}),
        (5, set()),
        (9, {7, 8}),  # what is for another port of the bridge is the bridge's
        (99, set()),
    ],
)
def test_addresses_above(index: int, expected: set[int]) -> None:
    assert numbers(devices.addresses(BOND, index)) == expected


def test_what_is_above() -> None:
    assert [it.name for it in devices.above(BOND, 1)] == ["bond0", "bond0.5", "mac0", "blue"]
    assert [it.name for it in devices.vlans(BOND, 1)] == ["bond0.5"]
    assert [it.name for it in devices.vlans(BOND, 9)] == ["br0"]
    assert [it.name for it in devices.receivers(BOND, 3)] == ["eth0", "eth1"]
    assert [it.name for it in devices.receivers(BOND, 1)] == ["eth0"]
    assert [it.name for it in devices.vrfs(BOND, 1)] == ["blue"]
    assert devices.vrfs(BOND, 9) == []


def test_whose_addresses_count() -> None:
    """Of a VRF alone where the interface is in it, of both where only a device above is."""
    assert devices.tables(BOND, 1, 255) == {255, 10}
    assert devices.tables(BOND, 4, 255) == {255, 10}
    assert devices.tables(BOND, 5, 255) == {10}
    assert devices.tables(BOND, 9, 255) == {255}
    assert devices.tables(BOND, 99, 255) == {255}


def test_a_bridge_with_more_ports_than_there_is_room_for() -> None:
    ports = [Device(10 + n, f"v{n}", "veth", struct.pack("!HI", 0x0200, n), master=2) for n in range(devices.MOST + 1)]
    there = stack(Device(1, "eth0", "", mac(1), master=2), Device(2, "br0", "bridge", mac(2)), *ports)
    assert numbers(devices.addresses(there, 1)) == {2}, "the bridge's own address is the one that counts"


def test_open_vswitch_hands_over_to_its_internal_ports() -> None:
    there = stack(
        Device(1, "eth0", "", mac(1), master=2),
        Device(2, "ovs-system", "openvswitch", mac(2)),
        Device(3, "br-ext", "openvswitch", mac(3)),
        Device(4, "dummy0", "dummy", mac(4)),
    )
    assert numbers(devices.addresses(there, 1)) == {2, 3}


def newlink(kind: str, data: bytes = b"", **words: int) -> bytes:
    """RTM_NEWLINK of device 7."""
    info = attribute(1, kind.encode() + b"\0") + attribute(2, data)
    found = struct.pack("=BxHiII", 0, 1, 7, 0, 0)
    found += attribute(3, b"it\0") + attribute(1, mac(7)) + attribute(18 | 0x8000, info)
    places = {"link": 5, "master": 10, "netnsid": 37}
    return found + b"".join(attribute(places[name], struct.pack("=I", value)) for name, value in words.items())


def test_a_device_is_parsed() -> None:
    assert devices.parse(newlink("vlan", link=3)) == Device(7, "it", "vlan", mac(7), lower=3)
    assert devices.parse(newlink("vlan", link=3, netnsid=0)).lower == 0, "what it stands on is in another namespace"
    assert devices.parse(newlink("veth", link=3, master=4)) == Device(7, "it", "veth", mac(7), master=4)
    assert devices.parse(newlink("macvtap", link=3)).lower == 0, "its frames are its reader's"
    assert devices.parse(newlink("vrf", attribute(1, struct.pack("=I", 1010)))).table == 1010
    assert devices.parse(newlink("bridge", attribute(7, b"\1"))).filters_vlans
    assert not devices.parse(newlink("bridge", attribute(7, b"\0"))).filters_vlans


def newroute(kind: int, destination: bytes, length: int, table: int) -> bytes:
    family = socket.AF_INET if len(destination) == 4 else socket.AF_INET6
    head = struct.pack("=8BI", family, length, 0, 0, table if table <= 255 else 252, 0, 0, kind, 0)
    return head + attribute(15, struct.pack("=I", table)) + (attribute(1, destination) if any(destination) else b"")


@pytest.mark.parametrize(
    ("kind", "expected"), [(2, locals.LOCAL), (3, locals.BROADCAST), (4, locals.BROADCAST), (1, None), (5, None)]
)
def test_a_route_is_parsed(kind: int, expected: int | None) -> None:
    """Local, broadcast, anycast; unicast and multicast are not the host's own."""
    found = locals.parse(newroute(kind, b"\n\1\2\3", 32, 255), 255)
    assert found == (None if expected is None else (Prefix(b"\n\1\2\3", 32), expected))
    assert locals.parse(newroute(kind, b"\n\1\2\3", 32, 254), 255) is None, "of another table"


def test_routes_of_a_vrf_and_of_everything() -> None:
    assert locals.parse(newroute(2, bytes(15) + b"\1", 128, 1010), 1010) == (Prefix(bytes(15) + b"\1", 128), 1)
    assert locals.parse(newroute(2, bytes(16), 0, 255), 255) == (Prefix(bytes(16), 0), 1)


def accepts(code: bytes, bound: int) -> bool:
    """The kernel's inet_diag_bc_run(), for the operations that are used."""
    at = 0
    while at < len(code):
        operation, yes, no = struct.unpack_from("=BBH", code, at)
        taken = operation == 9 and struct.unpack_from("=I", code, at + 4)[0] == bound
        at += yes if taken else no
    return at == len(code)


def test_the_filter_for_sockets() -> None:
    for indices in ([3], [3, 4], [3, 4, 5, 1000]):
        code = owners.bytecode(indices)
        assert all(accepts(code, it) for it in indices)
        assert not accepts(code, 7)
        # The kernel refuses a filter in which a place is not reached by way of "yes".
        reached, at = {0}, 0
        while at < len(code):
            at += code[at + 1]
            reached.add(at)
        assert at == len(code)
        for at in reached - {len(code)}:
            assert at + struct.unpack_from("=H", code, at + 2)[0] in reached | {len(code) + 4}


def mirred(action: int, target: int) -> bytes:
    """As a filter's message holds it."""
    return attribute(1, b"mirred\0") + attribute(
        2 | 0x8000, attribute(2, struct.pack("=5iiI", *[0] * 5, action, target))
    )


def test_filters_of_traffic_control() -> None:
    there = stack(Device(5, "ifb0", "ifb", mac(5)), Device(6, "eth1", "", mac(6)))
    assert owners.redirects(mirred(1, 6), there)
    assert not owners.redirects(mirred(1, 5), there), "comes back from there"
    assert not owners.redirects(mirred(2, 6), there), "a copy"
    assert owners.redirects(mirred(1, 5) + mirred(3, 6), there), "the second of two"
    assert owners.redirects(attribute(1, b"bpf\0"), there)
    assert owners.redirects(attribute(1, b"ct\0"), there)
    assert not owners.redirects(attribute(1, b"u32\0"), there)


def test_attributes_that_end_too_early() -> None:
    assert attributes(b"\xff\xff\1\0") == {1: b""}
    assert attributes(b"\0\0\1\0rest") == {}
    assert attributes(b"\1") == {}


def be(value: int) -> bytes:
    return struct.pack("!I", value)


def expression(name: str, *data: tuple[int, bytes]) -> bytes:
    inside = b"".join(attribute(kind, value) for kind, value in data)
    return attribute(1, attribute(1, name.encode() + b"\0") + attribute(2, inside))


def verdict(code: int, chain: str = "") -> bytes:
    inside = attribute(1, struct.pack("!i", code)) + (attribute(2, chain.encode() + b"\0") if chain else b"")
    return expression("immediate", (1, be(0)), (2, attribute(2, inside)))


DPORT = expression("payload", (1, be(1)), (2, be(2)), (3, be(2)), (4, be(2)))


def compared(operator: int, port: int) -> bytes:
    return expression("cmp", (1, be(1)), (2, be(operator)), (3, attribute(1, struct.pack("!H", port))))


def parsed(*expressions: bytes) -> Rule:
    return ruleset.parse(b"".join(expressions), lambda name: [])


def test_rules_and_their_ports() -> None:
    assert parsed(DPORT, compared(0, 22), verdict(1)).accepts == (range(22, 23),)
    assert parsed(DPORT, compared(5, 10), compared(3, 20), verdict(0)).drops == (range(10, 21),)
    assert parsed(DPORT, compared(1, 22), verdict(0)).drops == (range(22), range(23, 65_536))
    assert parsed(verdict(0)).drops_all
    assert parsed(verdict(1)).accepts_all
    assert not parsed(expression("ct"), verdict(0)).drops_all, "something that is not understood"
    assert parsed(expression("counter"), expression("reject")).drops_all
    assert parsed(verdict(-3, "more")).jumps == {"more"}
    protocol = expression("meta", (1, be(1)), (2, be(16)))
    udp = protocol + expression("cmp", (1, be(1)), (2, be(0)), (3, attribute(1, b"\x11")))
    assert parsed(udp, verdict(0)) == Rule()


def test_matches_of_iptables() -> None:
    """As iptables-nft keeps them: the struct of the match."""
    tcp = struct.pack("=4H4B", 0, 65_535, 80, 90, 0, 0, 0, 0)
    assert parsed(expression("match", (1, b"tcp\0"), (3, tcp)), verdict(0)).drops == (range(80, 91),)
    many = struct.pack("=BB15H15BB", 1, 3, 22, 80, 90, *[0] * 12, 0, 1, 0, *[0] * 12, 0)
    found = parsed(expression("match", (1, b"multiport\0"), (3, many)), expression("target", (1, b"REJECT\0")))
    assert found.drops == (range(22, 23), range(80, 91))


def test_what_a_chain_may_drop() -> None:
    place = (1, "filter", "input")
    rules = {place: [Rule(accepts=(range(22, 23),)), Rule(jumps=frozenset({"more"}))]}
    rules[1, "filter", "more"] = [Rule(drops=(range(80, 81),)), Rule(jumps=frozenset({"more"}))]
    found = [(it.ports, it.why) for it in conflicts_of(place, ruleset.DROP, rules, [22, 80, 443])]
    assert found[0] == ((80,), "a rule drops or rejects it")
    assert found[1][0] == (443,)
    assert [it.ports for it in conflicts_of(place, ruleset.ACCEPT, rules, [22, 80, 443])] == [(80,)]
