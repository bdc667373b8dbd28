# SPDX-License-Identifier: GPL-2.0
"""SYN cookies on the bench: the answer to every kind of SYN, and what becomes of the ACK that brings one back."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, IPOption_NOP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw
from support.bench import Bench, one_cpu
from support.guard import ETHER, PORT, GuardBench, ip, listen, segment, set_sysctl, syn, sysctls
from topology import INTERFACE, OUTSIDE_MAC, SERVER_MAC, Lab

MTU = 1500


@pytest.fixture(scope="module")
def _bench() -> Iterator[Bench]:
    made = Bench("cookies")
    yield made
    made.close()


@pytest.fixture(scope="module")
def listener(lab: Lab) -> Iterator[socket.socket]:
    with sysctls(lab, tcp_syncookies=2, tcp_timestamps=2), listen(lab) as made:
        yield made


@pytest.fixture
def guarded(_bench: Bench, lab: Lab, listener: socket.socket) -> Iterator[GuardBench]:
    """The guard, active, on one CPU, with a listener on PORT that cookies with every option work for."""
    del listener
    with one_cpu():
        _bench.reset()
        made = GuardBench(_bench, lab)
        made.policy()
        yield made


class Options(NamedTuple):
    """What a SYN offers, as the kernel reads it."""

    mss: int
    wscale: int | None
    sack: bool
    timestamp: int | None


def read_options(data: bytes) -> Options:
    """tcp_parse_options() of net/ipv4/tcp_input.c, for a SYN, written anew from its text."""
    mss, wscale, sack, timestamp, at = 0, None, False, None, 0
    while at < len(data):
        kind = data[at]
        if kind == 0:
            break
        if kind == 1:
            at += 1
            continue
        if at + 1 >= len(data) or data[at + 1] < 2 or at + data[at + 1] > len(data):
            break
        size, body = data[at + 1], data[at + 2 : at + data[at + 1]]
        if kind == 2 and size == 4 and body != b"\0\0":
            mss = int.from_bytes(body, "big")
        elif kind == 3 and size == 3:
            wscale = min(body[0], 14)
        elif kind == 4 and size == 2:
            sack = True
        elif kind == 8 and size == 10:
            timestamp = int.from_bytes(body[:4], "big")
        at += size
    return Options(mss, wscale, sack, timestamp)


def check_answer(request: Packet, answer: Ether, offered: Options, wscale: int) -> int:
    """Holds a SYN-ACK against what it must be; returns the cookie."""
    asked, given_back = request[TCP], answer[TCP]
    assert (answer.src, answer.dst) == (request.dst, request.src)
    below, above = (request[IP], answer[IP]) if IP in request else (request[IPv6], answer[IPv6])
    assert (above.src, above.dst) == (below.dst, below.src)
    assert (given_back.sport, given_back.dport) == (asked.dport, asked.sport)
    assert given_back.ack == (asked.seq + 1) % (1 << 32)
    assert given_back.flags == "SA"
    checked = answer.copy()
    if IP in checked:
        assert (above.ihl, above.ttl, above.flags, above.id) == (5, 64, "DF", 0)
        del checked[IP].chksum
        length = above.len - 20
    else:
        assert (above.hlim, above.nh) == (64, 6)
        length = above.plen
    del checked[TCP].chksum
    rebuilt = Ether(bytes(checked))
    assert rebuilt[TCP].chksum == given_back.chksum
    if IP in rebuilt:
        assert rebuilt[IP].chksum == above.chksum
    assert length == given_back.dataofs * 4
    options = dict(given_back.options)
    assert options["MSS"] == MTU - (40 if IP in request else 60)
    if offered.timestamp is None:
        assert set(options) == {"MSS"}
        return int(given_back.seq)
    sent, echoed = options["Timestamp"]
    assert echoed == offered.timestamp
    assert sent & 15 == (15 if offered.wscale is None else offered.wscale)
    assert bool(sent & 16) == offered.sack == ("SAckOK" in options)
    assert options.get("WScale") == (None if offered.wscale is None else wscale)
    return int(given_back.seq)


def window_scale(lab: Lab) -> int:
    """What the kernel computes for a listener without limits: tcp_select_initial_window()."""
    space = int(Path("/proc/sys/net/core/rmem_max").read_text())
    space = max(space, int(lab.run(lab.server, ["cat", "/proc/sys/net/ipv4/tcp_rmem"]).stdout.split()[2]))
    return max(0, min(14, space.bit_length() - 1 - 15))


LINUX = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (77, 0)), ("NOP", None), ("WScale", 7)]
WINDOWS = [("MSS", 1460), ("NOP", None), ("WScale", 8), ("NOP", None), ("NOP", None), ("SAckOK", b"")]


def tagged(frame: Packet) -> Iterator[Packet]:
    yield ETHER / frame
    yield ETHER / Dot1Q(vlan=5) / frame
    yield ETHER / Dot1AD(vlan=6) / Dot1Q(vlan=5) / frame


@pytest.mark.parametrize("options", [[], LINUX, WINDOWS, LINUX[:3], LINUX[2:], [("MSS", 536)]], ids=str)
@pytest.mark.parametrize("family", [4, 6])
def test_the_answer(guarded: GuardBench, lab: Lab, family: int, options: list[Any]) -> None:
    for request in tagged(ip(family) / TCP(sport=4000, dport=PORT, flags="S", seq=2**32 - 1, options=options)):
        raw = bytes(request)
        seen, answer = guarded.send(raw)
        assert (seen.reason, seen.verdict) == ("cookie_sent", "TX")
        parsed = Ether(raw)
        header = bytes(parsed[TCP])
        offered = read_options(header[20 : parsed[TCP].dataofs * 4])
        check_answer(parsed, answer, offered, window_scale(lab))
        assert [tag.vlan for tag in layers(answer)] == [tag.vlan for tag in layers(request)]


def layers(frame: Packet) -> list[Packet]:
    above = (frame.getlayer(number) for number in range(1, 3))
    return [layer for layer in above if isinstance(layer, (Dot1Q, Dot1AD))]


@pytest.mark.parametrize(
    "frame",
    [
        IP(src="16.1.2.3", dst="198.18.0.1", options=[IPOption_NOP()] * 8) / TCP(dport=PORT, flags="S"),
        IPv6(src="2001:db8::7", dst="2001:2:0:18::1") / IPv6ExtHdrDestOpt() / TCP(dport=PORT, flags="S"),
        IP(src="16.1.2.3", dst="198.18.0.1") / TCP(dport=PORT, flags="S") / Raw(b"early data" * 100),
        IP(src="16.1.2.3", dst="198.18.0.1") / TCP(dport=PORT, flags="SEC"),
    ],
    ids=["IPv4 options", "IPv6 extension", "data", "ECN"],
)
def test_more_than_a_plain_syn(guarded: GuardBench, lab: Lab, frame: Packet) -> None:
    request = Ether(bytes(ETHER / frame))
    seen, answer = guarded.send(bytes(request))
    assert seen.reason == "cookie_sent"
    check_answer(request, answer, Options(0, None, False, None), window_scale(lab))
    assert len(answer) <= 60 + 18


KINDS = st.sampled_from([0, 1, 1, 2, 3, 4, 5, 8, 8, 34, 254])


@st.composite
def option_octets(draw: st.DrawFn) -> bytes:
    """Options in any order, some well formed, some not."""
    data = b""
    for _ in range(draw(st.integers(0, 12))):
        kind = draw(KINDS)
        if kind in (0, 1):
            data += bytes([kind])
            continue
        right = {2: 4, 3: 3, 4: 2, 8: 10}.get(kind, draw(st.integers(2, 12)))
        size = right if draw(st.integers(0, 4)) else draw(st.integers(0, 40))
        data += bytes([kind, size]) + draw(st.binary(min_size=max(0, right - 2), max_size=max(0, right - 2)))
    data = data[:40]
    return data + draw(st.sampled_from([b"\0", b"\1"])) * (-len(data) % 4)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(family=st.sampled_from([4, 6]), options=option_octets())
@example(family=4, options=bytes([1]) * 40)
@example(family=4, options=bytes([1]) * 37 + bytes([3, 3, 9]))
@example(family=6, options=bytes([8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 200, 1, 1]) + bytes([4, 2] * 12))
@example(family=4, options=bytes([2, 4, 5, 180, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 2, 4]))
def test_any_options(guarded: GuardBench, lab: Lab, family: int, options: bytes) -> None:
    """Against the kernel's rules, written anew: any doff, any order, and nonsense."""
    header = bytearray(bytes(TCP(sport=4000, dport=PORT, flags="S", seq=7)) + options)
    header[12] = (5 + len(options) // 4) << 4
    raw = bytes(ETHER / ip(family) / Raw(bytes(header)))
    at = 23 if family == 4 else 20
    frame = bytearray(raw)
    frame[at] = 6  # the protocol, which scapy does not know of Raw
    request = Ether(bytes(frame))
    seen, answer = guarded.send(bytes(frame))
    assert (seen.reason, seen.verdict) == ("cookie_sent", "TX")
    check_answer(request, answer, read_options(options), window_scale(lab))


@pytest.mark.parametrize("family", [4, 6])
def test_the_cookie_comes_back(guarded: GuardBench, family: int) -> None:
    _, answer = guarded.send(syn(family))
    cookie = answer[TCP].seq
    good = {"seq": 1001, "ack": (cookie + 1) % (1 << 32)}
    wrong = {
        "another ACK": {**good, "ack": (cookie + (1 << 20)) % (1 << 32)},
        "another sequence": {**good, "seq": 1002},
        "another port": {**good, "sport": 4001},
    }
    for fields in wrong.values():
        assert guarded.reason(segment("A", family, **fields)) == "cookie_bad"
    other = "16.1.2.4" if family == 4 else "2001:db8::78"
    assert guarded.reason(segment("A", family, source=other, **good)) == "cookie_bad"
    assert guarded.reason(segment("A", family, port=PORT + 1, **good)) == "ack_unknown", "nobody listens there"
    for flags in ("R", "RA", "SA"):
        assert guarded.reason(segment(flags, family, **good)) == "ack_unknown"
    assert guarded.bench.counters().cookies_valid == 0
    assert guarded.reason(segment("A", family, **good)) == "pass"
    assert guarded.reason(segment("PA", family, **good)) == "pass"
    assert guarded.bench.counters().cookies_valid == 1, "a handshake is proved once"


def test_a_cookie_for_another_listener(guarded: GuardBench, lab: Lab) -> None:
    with listen(lab, PORT + 7):
        _, other = guarded.send(syn(port=PORT + 7))
        _, mine = guarded.send(syn())
        ack = {"seq": 1001, "ack": (mine[TCP].seq + 1) % (1 << 32)}
        assert guarded.reason(segment("A", port=PORT + 7, **ack)) == "cookie_bad"
        ack["ack"] = (other[TCP].seq + 1) % (1 << 32)
        assert guarded.reason(segment("A", port=PORT + 7, **ack)) == "pass"


@pytest.mark.timeout(300)
@pytest.mark.long_wait
def test_a_cookie_is_refused_when_it_is_old(guarded: GuardBench) -> None:
    """Cookies count minutes and live for two: the only way to an old one is to wait."""
    _, answer = guarded.send(syn())
    ack = segment("A", seq=1001, ack=(answer[TCP].seq + 1) % (1 << 32))
    assert guarded.reason(ack) == "pass"
    threading.Event().wait(121)
    guarded.send(syn(sport=4001))  # the listener goes on sending cookies
    assert guarded.reason(ack) == "cookie_bad"


@pytest.mark.parametrize(
    ("value", "reason", "verdict"), [(0, "pass", "PASS"), (1, "pass", "PASS"), (2, "cookie_sent", "TX")]
)
def test_the_kernel_says_whether_cookies_are_sent(
    guarded: GuardBench, lab: Lab, value: int, reason: str, verdict: str
) -> None:
    """With 1 the queue is not full here, so the kernel takes the SYN itself."""
    try:
        set_sysctl(lab, "tcp_syncookies", value)
        seen, _ = guarded.send(syn(options=LINUX))
        assert (seen.reason, seen.verdict) == (reason, verdict)
    finally:
        set_sysctl(lab, "tcp_syncookies", 2)


@pytest.mark.parametrize(
    ("name", "value", "left"),
    [
        ("tcp_timestamps", 1, {"MSS"}),
        ("tcp_timestamps", 0, {"MSS"}),
        ("tcp_sack", 0, {"MSS", "Timestamp", "NOP", "WScale"}),
        ("tcp_window_scaling", 0, {"MSS", "Timestamp", "SAckOK"}),
        ("tcp_timestamps", 2, {"MSS", "Timestamp", "SAckOK", "NOP", "WScale"}),
    ],
)
def test_options_follow_the_hosts_settings_at_once(
    guarded: GuardBench, lab: Lab, name: str, value: int, left: set[str]
) -> None:
    with sysctls(lab, **{name: value}):
        _, answer = guarded.send(syn(options=LINUX))
        assert {option for option, _ in answer[TCP].options} == left
        stamp = dict(answer[TCP].options).get("Timestamp")
        if stamp and name == "tcp_window_scaling":
            assert stamp[0] & 15 == 15


def test_without_options_when_the_policy_says_so(guarded: GuardBench) -> None:
    guarded.policy(options=False)
    _, answer = guarded.send(syn(options=LINUX))
    assert [option for option, _ in answer[TCP].options] == ["MSS"]


def test_the_mss_is_that_of_the_interface_and_of_the_listener(guarded: GuardBench, lab: Lab) -> None:
    lab.run(lab.server, ["ip", "link", "set", INTERFACE, "mtu", "1400"])
    try:
        _, answer = guarded.send(syn())
        assert dict(answer[TCP].options)["MSS"] == 1360
    finally:
        lab.run(lab.server, ["ip", "link", "set", INTERFACE, "mtu", str(MTU)])
    with listen(lab, PORT + 8) as clamped:
        clamped.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 900)
        _, answer = guarded.send(syn(port=PORT + 8))
        assert dict(answer[TCP].options)["MSS"] == 900


def test_frames_for_others_are_left_alone(guarded: GuardBench) -> None:
    assert guarded.reason(syn()) == "cookie_sent"
    foreign = Ether(syn())
    foreign.dst = OUTSIDE_MAC
    assert guarded.reason(bytes(foreign)) == "pass", "a guest behind a bridge"
    assert guarded.reason(bytes(Ether(src=OUTSIDE_MAC, dst=SERVER_MAC) / IP(bytes(Ether(syn())[IP])))) == "cookie_sent"


def test_forwarded_packets_are_left_alone(guarded: GuardBench, lab: Lab) -> None:
    """A wildcard listener is found for a packet that only passes through: it must not be answered."""
    elsewhere = bytes(ETHER / IP(src="16.1.2.3", dst="198.18.0.99") / TCP(sport=4000, dport=PORT, flags="S"))
    assert guarded.reason(elsewhere) == "cookie_sent", (
        "positive control: nothing is forwarded, so it is ours or nobody's"
    )
    with sysctls(lab, ip_forward=1):
        assert guarded.reason(elsewhere) == "pass"
        assert guarded.reason(bytes(ETHER / IP(src="16.1.2.3", dst="198.18.0.99") / TCP(dport=9, flags="A"))) == "pass"
        assert guarded.reason(syn()) == "cookie_sent"
        assert guarded.reason(segment("A", port=9)) == "ack_unknown"


def test_where_addresses_are_translated_only_listeners_are_guarded(guarded: GuardBench) -> None:
    assert guarded.reason(segment("A", port=9)) == "ack_unknown"
    guarded.policy(translated=True)
    assert guarded.reason(segment("A", port=9)) == "pass"
    assert guarded.reason(segment("SA", port=9)) == "pass"
    assert guarded.reason(syn()) == "cookie_sent"
    assert guarded.reason(segment("A")) == "pass", "the listener may be a proxy's, and the connection another's"


def test_behind_a_tag_the_socket_may_be_bound_elsewhere(guarded: GuardBench) -> None:
    tagged = Ether(src=OUTSIDE_MAC, dst=SERVER_MAC) / Dot1Q(vlan=5)
    nobody = tagged / ip(4) / TCP(sport=4000, dport=9, flags="A")
    assert guarded.reason(bytes(nobody)) == "pass"
    assert guarded.reason(bytes(tagged / ip(4) / TCP(sport=4000, dport=PORT, flags="A"))) == "cookie_bad"


def test_exempt_ports_are_left_alone(guarded: GuardBench) -> None:
    guarded.policy(exempt_ports=(str(PORT),))
    assert guarded.reason(syn()) == "pass"
    assert guarded.reason(segment("A")) == "pass"
    assert guarded.reason(segment("A", port=9)) == "ack_unknown"


def test_other_stages_come_first(guarded: GuardBench) -> None:
    rule = guarded.bench.rule("allow", "16.1.2.3")
    assert guarded.reason(syn()) == "allow"
    guarded.bench.remove(rule)
    guarded.bench.rule("block", "16.1.2.3")
    assert guarded.reason(syn()) == "deny"


def test_observing_counts_and_changes_nothing(guarded: GuardBench) -> None:
    guarded.policy(mode="observe")
    for frame, reason in ((syn(), "cookie_sent"), (segment("A", port=9), "ack_unknown"), (segment("R"), "ack_unknown")):
        seen, after = guarded.send(frame)
        assert (seen.verdict, seen.reason, seen.observed) == ("PASS", reason, True)
        assert bytes(after) == frame
