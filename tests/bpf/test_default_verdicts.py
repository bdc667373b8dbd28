# SPDX-License-Identifier: GPL-2.0
"""The default: what belongs to a socket or answers what was sent passes, all else is cut."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import pytest
from scapy.layers.dhcp import BOOTP
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import GRE, Dot1Q, Ether
from scapy.packet import Packet, Raw
from support.bench import Bench
from support.guard import AROUND, ETHER, PORT, QUIET, GuardBench, guarding, segment, syn, sysctls
from topology import CLIENTS4, CLIENTS6, OUTSIDE_MAC, SERVER4, SERVER6, Lab

from xdpguard.closeable import opened
from xdpguard.dataplane.build import egress
from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.tables import default, guard
from xdpguard.dataplane.tables.default import InForce
from xdpguard.net.netns import entered
from xdpguard.policy.rule import SAFETY
from xdpguard.policy.target import parse_prefix

CLIENT = {4: CLIENTS4[0], 6: CLIENTS6[0]}
SERVER = {4: SERVER4, 6: SERVER6}
OPEN, CLOSED, UNANSWERED = 5300, 5301, 5302  # UDP ports
REMOTE = {4: "16.9.9.9", 6: "2001:db8:9::9"}
LOCALS = {
    parse_prefix(text)[0]: kind
    for text, kind in ((SERVER4, guard.LOCAL), ("198.18.0.255", guard.BROADCAST), (SERVER6, guard.LOCAL))
}
FAMILIES = [4, 6]
REMEMBERED = ("connections", "sent", "served")
CLIENTS = 32_768  # XG_SENT_CLIENTS


class Denying:
    """A bench under a default, with a listener on PORT, a UDP socket on OPEN, and a connection of each family."""

    def __init__(self, its: GuardBench, lab: Lab, held: ExitStack) -> None:
        self.its, self.pins = its, its.bench.pins
        self.around()
        self.enforce()
        self.clients = {family: held.enter_context(connected(lab, family)) for family in FAMILIES}
        with entered(lab.server):
            udp = held.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            udp.bind(("::", OPEN))

    def around(self, **fields: Any) -> None:
        self.its.policy(active=False, around=AROUND._replace(**{"locals": LOCALS, **fields}), mode="off")

    def enforce(self, strict: bool = False) -> None:
        default.write(self.pins, InForce("enforce", strict))

    def reason(self, frame: bytes | Packet) -> str:
        return self.its.reason(bytes(frame))

    def sent(self, protocol: int, address: str, remote: int, local: int, ago: float = 0) -> None:
        """Remembers that something was sent, at so many seconds before the fake clock's 100."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        key = abi.SENT_KEY.pack(
            socket.inet_pton(family, address), remote.to_bytes(2, "big"), local.to_bytes(2, "big"), protocol,
            6 if ":" in address else 4,
        )  # fmt: skip
        held = "connections" if protocol == 6 else "served" if protocol == 17 and local < CLIENTS else "sent"
        with_map(self.pins, held, lambda it: kernel.update(it, key, int((100 - ago) * 1e9).to_bytes(8, "little")))


def with_map(pins: object, name: str, do: object) -> None:
    descriptor = kernel.open_pin(str(pins.folder / name))  # type: ignore[attr-defined]
    try:
        do(descriptor)  # type: ignore[operator]
    finally:
        os.close(descriptor)


def connected(lab: Lab, family: int) -> socket.socket:
    """A connection to the listener, which nobody accepts."""
    with entered(lab.outside):
        made = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6)
    made.bind((CLIENT[family], 0))
    made.connect((SERVER[family], PORT))
    return made


@pytest.fixture(scope="module")
def _bench() -> Iterator[Bench]:
    made = Bench("default", fake_clock=True)
    yield made
    made.close()


@pytest.fixture
def denying(_bench: Bench, lab: Lab) -> Iterator[Denying]:
    """An enforced default, at second 100 of the clock, with nothing sent and the guard off."""

    def clear(descriptor: int, size: int) -> None:
        for key in kernel.pairs(descriptor, abi.SENT_KEY.size, size):
            kernel.delete(descriptor, key)

    with guarding(_bench, lab) as its, ExitStack() as held:
        for name in REMEMBERED:
            with_map(_bench.pins, name, lambda it: clear(it, 8))
        with_map(_bench.pins, "cuts", lambda it: clear(it, abi.CUT.size))
        yield Denying(its, lab, held)
        default.write(_bench.pins, InForce("pass", False))


def ip(family: int, source: str = "", **fields: Any) -> Packet:
    layer = IP if family == 4 else IPv6
    return ETHER / layer(src=source or REMOTE[family], dst=SERVER[family], **fields)


def udp(family: int, port: int, sport: int = 4000, source: str = "") -> Packet:
    return ip(family, source) / UDP(sport=sport, dport=port) / Raw(b"x" * 20)


@pytest.mark.parametrize("family", FAMILIES)
def test_tcp_belongs_to_a_connection_not_to_a_listener(denying: Denying, family: int) -> None:
    port = denying.clients[family].getsockname()[1]
    own = {"source": CLIENT[family], "sport": port}
    for frame, reason in (
        (segment("A", family, **own), "pass"),
        (segment("PA", family, **own), "pass"),
        (segment("R", family, **own), "pass"),
        (segment("A", family, CLIENT[family], sport=port + 1), "default_deny"),
        (segment("A", family, REMOTE[family], sport=port), "default_deny"),
        (syn(family, REMOTE[family]), "default_deny"),
        (syn(family, REMOTE[family], port=PORT + 1), "default_deny"),
        (segment("A", family, REMOTE[family], port=PORT + 1), "default_deny"),
        (segment("SA", family, REMOTE[family]), "default_deny"),
    ):
        assert denying.reason(frame) == reason, frame
    default.write(denying.pins, InForce("pass", False))
    assert denying.reason(syn(family, REMOTE[family])) == "pass"


def test_a_connection_that_the_host_opens(denying: Denying, lab: Lab) -> None:
    nobody = "198.18.0.250"  # it does not answer ARP either
    with entered(lab.server):
        waiting = socket.socket(socket.AF_INET)
    with waiting:
        waiting.setblocking(False)
        waiting.connect_ex((nobody, 9))
        port = waiting.getsockname()[1]
        assert denying.reason(segment("SA", 4, nobody, port=port, sport=9)) == "pass"
        assert denying.reason(segment("SA", 4, nobody, port=port, sport=10)) == "default_deny"
    assert denying.reason(segment("SA", 4, nobody, port=port, sport=9)) == "default_deny", "it is closed"


@pytest.mark.parametrize("family", FAMILIES)
def test_udp(denying: Denying, family: int) -> None:
    assert denying.reason(udp(family, OPEN)) == "pass"
    assert denying.reason(udp(family, CLOSED)) == "default_deny"
    denying.enforce(strict=True)
    assert denying.reason(udp(family, OPEN)) == "default_deny"
    denying.sent(17, REMOTE[family], 4000, OPEN)
    assert denying.reason(udp(family, OPEN)) == "pass"
    assert denying.reason(udp(family, OPEN, sport=4001)) == "default_deny"
    assert denying.reason(udp(family, CLOSED)) == "default_deny"
    assert denying.reason(udp(family, OPEN, source=CLIENT[family])) == "default_deny"


def test_an_answer_is_not_waited_for_forever(denying: Denying) -> None:
    for protocol, age, reason in (
        (17, 90, "pass"),
        (17, 301, "default_deny"),
        (6, 301, "pass"),
        (6, 7441, "default_deny"),
    ):
        denying.its.clock(100)
        denying.sent(protocol, REMOTE[4], 4000, CLOSED)
        denying.its.clock(100 + age)
        frame = udp(4, CLOSED) if protocol == 17 else ip(4) / TCP(sport=4000, dport=CLOSED, flags="A")
        assert denying.reason(frame) == reason, (protocol, age)


def test_connections_of_others_behind_this_host(denying: Denying) -> None:
    """Their sockets are elsewhere: what they sent is known from the egress, and a SYN still needs a filter."""
    frame = ip(4) / TCP(sport=4000, dport=50_000, flags="A")
    assert denying.reason(frame) == "default_deny"
    denying.sent(6, REMOTE[4], 4000, 50_000)
    assert denying.reason(frame) == "pass"
    frame[TCP].flags = "S"
    assert denying.reason(frame) == "default_deny"


class Message(NamedTuple):
    id: str
    frame: Packet
    reason: str


def _quoted(family: int, below: Packet, source: str = "") -> Packet:
    layer = (IP if family == 4 else IPv6)(src=source or SERVER[family], dst=REMOTE[family]) / below
    if family == 4:
        return ip(4, "16.0.0.1") / ICMP(type=3, code=4) / layer
    return ip(6, "2001:db8::1") / ICMPv6PacketTooBig(mtu=1280) / layer


def _first(port: int) -> Packet:
    return ip(4, flags="MF") / UDP(sport=1, dport=port, len=100) / Raw(bytes(24))


def _to(group: str, port: int) -> Packet:
    return ETHER / IP(src=REMOTE[4], dst=group) / UDP(dport=port)


GROUP6 = ETHER / IPv6(src="fe80::1", dst="ff02::1", hlim=255)
MESSAGES = [
    Message("echo request", ip(4) / ICMP(type=8, id=7), "default_deny"),
    Message("echo reply nobody asked for", ip(4) / ICMP(type=0, id=7), "default_deny"),
    Message("echo reply", ip(4) / ICMP(type=0, id=77), "pass"),
    Message("echo reply of another host", ip(4, "16.9.9.8") / ICMP(type=0, id=77), "default_deny"),
    Message("redirect", ip(4) / ICMP(type=5) / IP(src=SERVER4, dst=REMOTE[4]) / UDP(sport=OPEN), "default_deny"),
    Message("timestamp", ip(4) / ICMP(type=13), "default_deny"),
    Message("error about UDP of a socket", _quoted(4, UDP(sport=OPEN, dport=53)), "pass"),
    Message("error about UDP of nobody", _quoted(4, UDP(sport=CLOSED, dport=53)), "default_deny"),
    Message("error about UDP that was sent", _quoted(4, UDP(sport=UNANSWERED, dport=53)), "pass"),
    Message("error about another host's packet", _quoted(4, UDP(sport=OPEN), "198.18.0.77"), "default_deny"),
    Message("error about an echo request", _quoted(4, ICMP(type=8, id=77)), "pass"),
    Message("error about an echo request of nobody", _quoted(4, ICMP(type=8, id=78)), "default_deny"),
    Message("error about TCP of nobody", _quoted(4, TCP(sport=4, dport=9)), "default_deny"),
    Message("error about TCP of a listener", _quoted(4, TCP(sport=PORT, dport=9)), "default_deny"),
    Message("error about a later fragment", _quoted(4, Raw(bytes(8))), "default_deny"),
    Message("error that quotes too little", ip(4) / ICMP(type=3) / Raw(b"E" * 19), "default_deny"),
    Message("v6 echo request", ip(6) / ICMPv6EchoRequest(id=7), "default_deny"),
    Message("v6 echo reply nobody asked for", ip(6) / ICMPv6EchoReply(id=7), "default_deny"),
    Message("v6 echo reply", ip(6) / ICMPv6EchoReply(id=77), "pass"),
    Message("v6 too big, UDP of a socket", _quoted(6, UDP(sport=OPEN, dport=53)), "pass"),
    Message("v6 too big, a fragment", _quoted(6, IPv6ExtHdrFragment(m=1) / UDP(sport=OPEN, dport=53)), "pass"),
    Message("v6 too big, UDP of nobody", _quoted(6, UDP(sport=CLOSED, dport=53)), "default_deny"),
    Message("v6 too big, an echo request", _quoted(6, ICMPv6EchoRequest(id=77)), "pass"),
    Message(
        "v6 unreachable, another host's",
        ip(6) / ICMPv6DestUnreach() / IPv6(src="2001:db8::5", dst=REMOTE[6]) / UDP(sport=OPEN),
        "default_deny",
    ),
    Message("neighbour solicitation", GROUP6 / ICMPv6ND_NS(tgt=SERVER6), "non_ip"),
    Message("router advertisement", GROUP6 / ICMPv6ND_RA(), "non_ip"),
    Message("one from beyond the link", ip(6, hlim=64) / ICMPv6ND_RA(), "default_deny"),
    Message("MLD report", ETHER / IPv6(src="fe80::1", dst="ff02::16", hlim=1) / ICMPv6MLReport2(), "pass"),
    Message("IGMP", ETHER / IP(src="198.18.0.7", dst="224.0.0.1", proto=2) / Raw(bytes(8)), "pass"),
    Message("IGMP to this host alone", ip(4, proto=2) / Raw(bytes(8)), "default_deny"),
    Message("DHCP offer", ip(4) / UDP(sport=67, dport=68) / BOOTP(), "pass"),
    Message(
        "DHCP offer, broadcast",
        Ether(src=OUTSIDE_MAC, dst="ff:ff:ff:ff:ff:ff")
        / IP(src="198.18.0.7", dst="255.255.255.255")
        / UDP(sport=67, dport=68)
        / BOOTP(),
        "pass",
    ),
    Message("not from a DHCP server", udp(4, 68, sport=1067), "default_deny"),
    Message("DHCPv6", udp(6, 546, sport=547), "pass"),
    Message("DHCP request: a server's", udp(4, 67, sport=68), "default_deny"),
    Message("GRE", ip(4) / GRE() / IP(), "pass"),
    Message("GRE of another host", ip(4, "16.9.9.8") / GRE() / IP(), "default_deny"),
    Message("another protocol", ip(4, proto=132) / Raw(bytes(20)), "default_deny"),
    Message("later fragment", ip(4, frag=40, proto=17) / Raw(bytes(24)), "fragment"),
    Message("first fragment", _first(CLOSED), "default_deny"),
    Message("first fragment to a socket", _first(OPEN), "pass"),
    Message("UDP to a group without a socket", _to("224.0.0.251", CLOSED), "default_deny"),
    Message("UDP to a group with a socket", _to("224.0.0.251", OPEN), "pass"),
    Message("broadcast without a socket", _to("198.18.0.255", CLOSED), "default_deny"),
]


@pytest.mark.parametrize("case", MESSAGES, ids=[it.id for it in MESSAGES])
def test_messages(denying: Denying, case: Message) -> None:
    for family, protocol in ((4, 1), (6, 58)):
        denying.sent(protocol, REMOTE[family], 0, 77)
    denying.sent(17, REMOTE[4], 53, UNANSWERED)
    denying.sent(47, REMOTE[4], 0, 0)
    assert denying.reason(case.frame) == case.reason
    default.write(denying.pins, InForce("pass", False))
    assert denying.reason(case.frame) in ("pass", "non_ip", "fragment"), "positive control"


def test_errors_about_connections(denying: Denying) -> None:
    for family in FAMILIES:
        port = denying.clients[family].getsockname()[1]
        layer = IP if family == 4 else IPv6
        about = layer(src=SERVER[family], dst=CLIENT[family]) / TCP(sport=PORT, dport=port)
        error = ICMP(type=3, code=4) if family == 4 else ICMPv6PacketTooBig(mtu=1280)
        assert denying.reason(ip(family) / error / about) == "pass"
        about[TCP].dport = port + 1
        assert denying.reason(ip(family) / error / about) == "default_deny"


def test_what_is_not_for_this_host_is_left_alone(denying: Denying, lab: Lab) -> None:
    elsewhere = ETHER / IP(src=REMOTE[4], dst="198.18.0.99") / UDP(dport=9)
    guest = Ether(src=OUTSIDE_MAC, dst="02:00:00:00:0c:01") / IP(src=REMOTE[4], dst=SERVER4) / UDP(dport=9)
    assert denying.reason(elsewhere) == "default_deny", "an address that may have been added just now"
    denying.around(pass_unknown=True)
    assert denying.reason(elsewhere) == "pass"
    denying.around()
    assert denying.reason(guest) == "pass"
    with sysctls(lab, **{"conf/all/forwarding": 1}):
        assert denying.reason(elsewhere) == "pass", "it would be forwarded"
        assert denying.reason(udp(4, CLOSED)) == "default_deny"


def test_what_stands_above_decides_first(denying: Denying) -> None:
    rule = denying.its.bench.rule("allow", REMOTE[4])
    assert denying.reason(udp(4, CLOSED)) == "allow"
    denying.its.bench.remove(rule)
    assert denying.reason(udp(4, CLOSED)) == "default_deny"
    rule = denying.its.bench.rule("block", REMOTE[4])
    assert denying.reason(udp(4, OPEN)) == "deny"
    denying.its.bench.remove(rule)
    rule = denying.its.bench.rule("allow", REMOTE[4], source=SAFETY)
    assert denying.reason(udp(4, CLOSED)) == "pass", "the host needs the source"
    denying.its.bench.remove(rule)


def test_tagged_frames_are_judged_alike(denying: Denying) -> None:
    tagged = Ether(src=OUTSIDE_MAC, dst=ETHER.dst) / Dot1Q(vlan=5)
    for port, reason in ((OPEN, "pass"), (CLOSED, "default_deny")):
        assert denying.reason(tagged / udp(4, port)[IP]) == reason


def test_a_shadow_counts_and_cuts_nothing(denying: Denying) -> None:
    default.write(denying.pins, InForce("shadow", False))
    for frame, reason in ((udp(4, CLOSED), "default_deny"), (udp(4, OPEN), "pass"), (syn(), "default_deny")):
        answer, _ = denying.its.send_raw(bytes(frame))
        assert (answer.verdict, answer.reason, answer.observed) == ("PASS", reason, reason != "pass")
    found = {(it.protocol, it.port): it.packets for it in default.cuts(denying.pins)}
    assert found == {(17, CLOSED): 1, (6, PORT): 1}


def test_a_shadow_takes_nothing_from_the_guard(denying: Denying) -> None:
    default.write(denying.pins, InForce("shadow", False))
    denying.its.policy(around=AROUND._replace(locals=LOCALS), **QUIET)
    assert denying.reason(syn()) == "cookie_sent"
    answer, _ = denying.its.send_raw(syn(port=PORT + 1))
    assert (answer.reason, answer.observed) == ("default_deny", True)
    denying.enforce()
    answer, _ = denying.its.send_raw(syn())
    assert (answer.verdict, answer.reason) == ("DROP", "default_deny")


def test_what_is_cut_is_counted(denying: Denying) -> None:
    for _ in range(3):
        denying.reason(udp(4, CLOSED))
    denying.reason(udp(6, CLOSED))
    denying.reason(ip(4) / ICMP(type=8))
    denying.reason(ip(4, proto=132) / Raw(bytes(20)))
    found = {(socket.inet_ntop(socket.AF_INET if len(it.source) == 4 else socket.AF_INET6, it.source), it.protocol,
              it.port): it.packets for it in default.cuts(denying.pins)}  # fmt: skip
    assert found == {
        (REMOTE[4], 17, CLOSED): 3,
        (REMOTE[6], 17, CLOSED): 1,
        (REMOTE[4], 1, 8): 1,
        (REMOTE[4], 132, 0): 1,
    }
    default.clear_cuts(denying.pins)
    assert default.cuts(denying.pins) == []


def test_forged_sources_cost_few_entries(denying: Denying) -> None:
    """In one tick of the clock; what is known already is counted all the same."""
    denying.reason(udp(4, CLOSED))
    for number in range(100):
        denying.reason(udp(4, CLOSED, source=f"16.8.0.{number}"))
    denying.reason(udp(4, CLOSED))
    found = default.cuts(denying.pins)
    assert len(found) == 8
    assert max(it.packets for it in found) == 2


@pytest.mark.parametrize("active", [False, True])
def test_handshakes_by_cookie(denying: Denying, active: bool) -> None:
    """The ACK has no socket yet, nor have the segments of the same first flight; whether the guard acts or rests."""
    default.write(denying.pins, InForce("pass", False))
    denying.its.policy(around=AROUND._replace(locals=LOCALS), **QUIET)
    answer, data = denying.its.send_raw(syn())
    assert answer.verdict == "TX"
    cookie = int.from_bytes(data[38:42], "big")
    if not active:
        denying.around()
    denying.enforce()
    acknowledged = segment("A", seq=1001, ack=(cookie + 1) % (1 << 32))
    forged = segment("A", seq=1001, ack=(cookie + 1000) % (1 << 32))
    assert denying.reason(forged) == "default_deny"
    assert denying.reason(segment("PA", seq=1002, ack=1)) == "default_deny", "before the ACK"
    assert denying.reason(acknowledged) == "pass"
    assert denying.reason(segment("PA", seq=1101, ack=(cookie + 1) % (1 << 32))) == "pass"
    assert denying.reason(segment("PA", sport=4001, seq=1101, ack=(cookie + 1) % (1 << 32))) == "default_deny"
    assert denying.its.bench.counters().cookies_valid == int(active)
    denying.its.clock(102)
    assert denying.reason(segment("PA", seq=1201, ack=1)) == "default_deny", "the socket should be there by now"


def _out(below: Packet, family: int = 4, tags: Packet | None = None) -> bytes:
    frame = Ether(src=ETHER.dst, dst=OUTSIDE_MAC)
    layer = (IP if family == 4 else IPv6)(src=SERVER[family], dst=REMOTE[family])
    return bytes((frame / tags if tags else frame) / layer / below)


Sent = tuple[str, int, int, int]  # map, protocol, remote and local port
SENT: list[tuple[str, bytes, Sent | None]] = [
    ("UDP of a client", _out(UDP(sport=40_000, dport=53)), ("sent", 17, 53, 40_000)),
    ("UDP of a service", _out(UDP(sport=53, dport=40_000)), ("served", 17, 40_000, 53)),
    ("UDP, v6", _out(UDP(sport=40_000, dport=53), 6), ("sent", 17, 53, 40_000)),
    ("tagged", _out(UDP(sport=40_000, dport=53), 4, Dot1Q(vlan=5)), ("sent", 17, 53, 40_000)),
    ("first fragment, v6", _out(IPv6ExtHdrFragment(m=1) / UDP(sport=5, dport=53), 6), ("served", 17, 53, 5)),
    ("later fragment, v6", _out(IPv6ExtHdrFragment(offset=9) / Raw(bytes(30)), 6), None),
    ("echo request", _out(ICMP(type=8, id=7)), ("sent", 1, 0, 7)),
    ("echo reply", _out(ICMP(type=0, id=7)), None),
    ("v6 echo request", _out(ICMPv6EchoRequest(id=7), 6), ("sent", 58, 0, 7)),
    ("v6 echo reply", _out(ICMPv6EchoReply(id=7), 6), None),
    ("GRE", _out(GRE() / IP()), ("sent", 47, 0, 0)),
    ("TCP without a socket here", _out(TCP(sport=5, dport=80)), ("connections", 6, 80, 5)),
    ("TCP without a socket here, v6", _out(TCP(sport=5, dport=80), 6), ("connections", 6, 80, 5)),
    ("SYN-ACK without a socket here", _out(TCP(sport=5, dport=80, flags="SA")), ("served", 6, 80, 5)),
    ("RST of TCP", _out(TCP(sport=5, dport=80, flags="R")), None),
]


@pytest.mark.parametrize(("what", "frame", "key"), SENT, ids=[it[0] for it in SENT])
def test_what_was_sent_is_remembered(denying: Denying, what: str, frame: bytes, key: Sent | None) -> None:
    descriptor = egress.load(denying.pins)
    try:
        run = kernel.test_run(descriptor, frame)
        assert run.data == frame
        assert run.verdict == 0xFFFFFFFF, "TC_ACT_UNSPEC: others decide"
    finally:
        os.close(descriptor)
    found = remembered(denying)
    assert [it[:4] for it in found] == ([key] if key else [])
    assert {it[4] for it in found} <= set(REMOTE.values()), what


def remembered(denying: Denying) -> list[tuple[str, int, int, int, str]]:
    """Map, protocol, remote and local port, remote address of all that was sent."""
    found = []

    def read(its: int) -> None:
        for raw in kernel.pairs(its, abi.SENT_KEY.size, 8):
            address, remote, local, protocol, version = abi.SENT_KEY.unpack(raw)
            own = socket.AF_INET if version == 4 else socket.AF_INET6
            text = socket.inet_ntop(own, address[: 4 if version == 4 else 16])
            found.append((name, protocol, int.from_bytes(remote, "big"), int.from_bytes(local, "big"), text))

    for name in REMEMBERED:
        with_map(denying.pins, name, read)
    return found


@contextmanager
def sending(denying: Denying) -> Iterator[Callable[[Packet | bytes], None]]:
    """A function that runs the program at egress on a frame."""
    with opened(egress.load(denying.pins)) as descriptor:
        yield lambda frame: [kernel.test_run(descriptor, bytes(frame))].clear()


@pytest.mark.parametrize(
    ("family", "group", "mac"),
    [
        (4, "239.255.255.250", "01:00:5e:7f:ff:fa"),
        (4, "198.18.0.255", "ff:ff:ff:ff:ff:ff"),
        (6, "ff02::fb", "33:33:00:00:00:fb"),
    ],
)
def test_answers_to_what_was_sent_to_a_group(denying: Denying, family: int, group: str, mac: str) -> None:
    """They come from addresses, and from ports, that nothing was sent to (SSDP, mDNS), and soon."""
    denying.enforce(strict=True)
    answer = udp(family, 40_000, sport=50_000)
    assert denying.reason(answer) == "default_deny"
    layer = (IP if family == 4 else IPv6)(src=SERVER[family], dst=group)
    with sending(denying) as send:
        send(Ether(src=ETHER.dst, dst=mac) / layer / UDP(sport=40_000, dport=1900))
    (sent,) = remembered(denying)
    assert sent[:4] == ("sent", 17, 0, 40_000)
    denying.its.clock(100)
    denying.sent(17, "0.0.0.0" if family == 4 else "::", 0, 40_000)
    assert denying.reason(answer) == "pass"
    assert denying.reason(udp(family, 40_001, sport=50_000)) == "default_deny"
    denying.its.clock(111)
    assert denying.reason(answer) == "default_deny", "too late"
    denying.its.clock(100)


def test_a_flood_that_a_service_answers_evicts_no_client(denying: Denying) -> None:
    """Nor do SYNs that a container answers, nor this host's own questions, evict connections."""
    denying.sent(6, REMOTE[4], 4000, 50_000)
    denying.sent(17, REMOTE[4], 53, 50_000)
    frame = bytearray(_out(UDP(sport=53, dport=4000)))
    with opened(egress.load(denying.pins)) as descriptor:
        for number in range(20_000):
            frame[30:34] = (0x10000000 + number).to_bytes(4, "big")
            kernel.test_run(descriptor, bytes(frame))
    found = remembered(denying)
    assert sum(it[0] == "served" for it in found) > 10_000, "positive control"
    assert [it[:4] for it in found if it[0] != "served"] == [
        ("connections", 6, 4000, 50_000),
        ("sent", 17, 53, 50_000),
    ]
    assert denying.reason(ip(4) / TCP(sport=4000, dport=50_000, flags="A")) == "pass"


def test_a_handshake_that_somebody_behind_answers(denying: Denying) -> None:
    frame = ip(4) / TCP(sport=4000, dport=80, flags="A")
    assert denying.reason(frame) == "default_deny"
    with_map(denying.pins, "served", lambda it: kernel.update(it, _key(6, 4000, 80), int(99e9).to_bytes(8, "little")))
    assert denying.reason(frame) == "pass"
    frame[TCP].flags = "S"
    assert denying.reason(frame) == "default_deny"


def _key(protocol: int, remote: int, local: int) -> bytes:
    address = socket.inet_pton(socket.AF_INET, REMOTE[4])
    return abi.SENT_KEY.pack(address, remote.to_bytes(2, "big"), local.to_bytes(2, "big"), protocol, 4)


def test_sockets_bound_to_a_device_above(denying: Denying) -> None:
    assert denying.reason(udp(4, CLOSED)) == "default_deny"
    denying.around(ports=frozenset({CLOSED}))
    assert denying.reason(udp(4, CLOSED)) == "pass"
    assert denying.reason(udp(4, CLOSED + 10)) == "default_deny"
    denying.enforce(strict=True)
    assert denying.reason(udp(4, CLOSED)) == "default_deny"


def test_devices_of_other_namespaces_share_the_interface(denying: Denying) -> None:
    """Their addresses are unknown here, so what is for such is theirs; this host's own stay guarded."""
    elsewhere = ETHER / IP(src=REMOTE[4], dst="198.18.0.99") / UDP(dport=9)
    frames = (elsewhere, _to("198.18.0.255", CLOSED), _to("224.0.0.251", CLOSED))
    assert [denying.reason(it) for it in frames] == ["default_deny"] * 3
    denying.around(shared=True)
    assert [denying.reason(it) for it in frames] == ["pass"] * 3
    assert denying.reason(udp(4, CLOSED)) == "default_deny"
