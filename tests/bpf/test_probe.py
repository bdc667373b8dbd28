# SPDX-License-Identifier: GPL-2.0
"""The probe says of each frame what the program then does with it, and touches nothing: by every stage and reason."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest
from bpf.test_parse import FRAMES
from bpf.test_stages import CASES, ENDINGS, OBSERVED, Case, Ending, put, v4, v6
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw
from support.bench import KEPT, LINK, VERDICTS, Answer, Bench
from support.dumps import dump
from support.guard import PORT, GuardBench, guarding, segment, syn
from topology import INTERFACE, Lab

from xdpguard.dataplane.build.probe import LONGEST, RULE, Probe
from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.tables import guard
from xdpguard.dataplane.tables.classifier import ClassifierFilter, compiled
from xdpguard.dataplane.tables.filters import FilterTables
from xdpguard.net.netns import entered
from xdpguard.policy.limit import Limit, parse_limit
from xdpguard.policy.matching.model import Field, Match
from xdpguard.policy.matching.model import Test as FieldTest

ETHER = Ether(src="02:00:00:00:00:02", dst="02:00:00:00:00:01")
CLOSED = PORT + 1000
NAMES = {reason.number: reason.name for reason in abi.reasons()}


def ask(probe: Probe, bench: Bench, frame: bytes, namespace: str = "", checked: bool = False) -> Answer:
    """The probe's answer in the bench's form; nothing that is pinned may have changed."""
    before = dump(bench.pins) if checked else {}
    with entered(namespace):
        answer = probe.ask_one(frame, len(frame))[0]
    if checked:
        assert dump(bench.pins) == before
    segment = bool(answer["segment"])
    return Answer(
        VERDICTS[int(answer["verdict"])],
        NAMES[int(answer["reason"])],
        abi.PROTOCOLS[int(answer["protocol"])] if answer["ip_version"] else None,
        int(answer["tcp_flags"]) if segment else None,
        len(frame),
        bool(answer["observed"]),
    )


def agree(probe: Probe, bench: Bench, frame: bytes, checked: bool = False) -> Answer:
    """Asks, then does it, and compares."""
    said = ask(probe, bench, frame, checked=checked)
    done = bench.send(frame)
    assert said == done, frame.hex()
    return done


@pytest.fixture(scope="session")
def _probe(_bench: Bench) -> Iterator[Probe]:
    """One that was kept; that of the observing program is compiled."""
    Probe(_bench.switches, _bench.pins, LINK, KEPT).close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Probe, "_compile", None)
        probe = Probe(_bench.switches, _bench.pins, LINK, KEPT)
    with probe:
        yield probe


@pytest.fixture
def probe(_probe: Probe, bench: Bench) -> Probe:
    """The bench's own program as a probe."""
    del bench
    return _probe


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_lists_and_ports(probe: Probe, bench: Bench, case: Case) -> None:
    rules = [put(bench, text) for text in case.rules]
    answer = probe.ask_one(case.frame, len(case.frame))[0]
    done = agree(probe, bench, case.frame)
    assert done.reason == case.reason
    if case.hit is None:
        assert not answer["entry"]
        return
    assert (answer["entry"], answer["number"]) == (RULE, rules[case.hit].slot)
    without = probe.ask_one(case.frame, len(case.frame), (RULE, rules[case.hit].slot))[0]
    bench.remove(rules[case.hit])
    assert agree(probe, bench, case.frame).reason == NAMES[int(without["reason"])], "as it was said to be without it"


@pytest.mark.parametrize("case", ENDINGS, ids=[case.id for case in ENDINGS])
def test_rules_that_end(probe: Probe, bench: Bench, case: Ending) -> None:
    now = time.time()
    for text, life in case.rules:
        put(bench, text, now + life if life else None)
    assert agree(probe, bench, case.frame).reason == case.reason


FRAME_KINDS = {
    "arp": bytes(ETHER / ARP()),
    "nd": bytes(ETHER / IPv6(src="::", dst="ff02::1:ff00:1", hlim=255) / ICMPv6ND_NS()),
    "fragment": bytes(ETHER / IP(src="198.51.100.7", frag=40, proto=17) / Raw(bytes(24))),
    "icmp": bytes(ETHER / IP(src="198.51.100.7") / ICMP()),
    "udp": bytes(ETHER / IP(src="198.51.100.7") / UDP()),
    "bad source": v4("127.0.0.1"),
    "bad source v6": v6("ff02::1"),
    "three tags": bytes(ETHER / Dot1Q() / Dot1Q() / Dot1Q() / IP() / TCP()),
    "jumbo": bytes(ETHER / IP(src="198.51.100.7") / TCP(flags="A") / Raw(bytes(2900))),
}


@pytest.mark.parametrize("name", FRAME_KINDS)
def test_kinds_of_frames(probe: Probe, bench: Bench, name: str) -> None:
    agree(probe, bench, FRAME_KINDS[name], checked=True)


@pytest.mark.parametrize("name", [name for name in FRAMES if name.startswith(("plain", "qinq/ipv6"))])
def test_whole_and_truncated_at_every_byte(probe: Probe, bench: Bench, name: str) -> None:
    before = dump(bench.pins)
    lengths = range(14, len(FRAMES[name]) + 1)
    for length in lengths:
        ask(probe, bench, FRAMES[name][:length])
    assert dump(bench.pins) == before
    for length in lengths:
        agree(probe, bench, FRAMES[name][:length])


def test_every_flag_byte(probe: Probe, bench: Bench) -> None:
    for flags in range(256):
        for frame in (v4("198.51.100.7", flags=flags), v6("2001:db8::7", flags=flags)):
            assert agree(probe, bench, frame).flags == flags


@pytest.fixture(scope="module")
def observing_probe(_observing: Bench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    with Probe(_observing.switches, _observing.pins, LINK, tmp_path_factory.mktemp("none")) as probe:
        yield probe


@pytest.mark.parametrize(("reason", "rules", "frame"), OBSERVED, ids=[case[0] for case in OBSERVED])
def test_observing(observing_probe: Probe, observing: Bench, reason: str, rules: list[str], frame: bytes) -> None:
    for text in rules:
        put(observing, text)
    done = agree(observing_probe, observing, frame, checked=True)
    assert (done.reason, done.verdict, done.observed) == (reason, "PASS", True)


def test_a_cut_frame_counts_with_the_length_it_had(probe: Probe, bench: Bench) -> None:
    frame = bytes(ETHER / IP(src="198.51.100.7") / TCP(flags="SF") / Raw(bytes(1000)))
    bench.rule("block", "198.51.100.7")
    for cut in (54, 60, 500):
        answer = probe.ask_one(frame[:cut], len(frame))[0]
        assert NAMES[int(answer["reason"])] == "deny"
    answer = probe.ask_one(frame[:53], len(frame))[0]
    assert NAMES[int(answer["reason"])] == "malformed", "the TCP header is not whole"
    answer = probe.ask_one(frame[:54], 54)[0]
    assert NAMES[int(answer["reason"])] == "malformed", "positive control: it claims more than it has"


def test_a_frame_longer_than_the_buffer(probe: Probe, bench: Bench) -> None:
    bench.rule("block", "198.51.100.7")
    frame = bytes(ETHER / IP(src="198.51.100.7") / UDP() / Raw(bytes(40_000)))
    assert len(frame) > LONGEST
    assert NAMES[int(probe.ask_one(frame, len(frame))[0]["reason"])] == "deny"


def test_headers_that_reach_far_into_the_frame(probe: Probe, bench: Bench) -> None:
    packet = ETHER / IPv6(src="2001:db8::7")
    for _ in range(2):
        packet = packet / IPv6ExtHdrDestOpt(options=[], len=120) / Raw(bytes(960))
        packet[Raw].remove_payload()
    agree(probe, bench, bytes(packet) + bytes(200))


def test_answers_stand_in_the_order_of_asking(probe: Probe, bench: Bench) -> None:
    bench.rule("block", "198.51.100.7")
    frames = [v4("198.51.100.7"), v4("198.51.100.8"), v4("127.0.0.1"), FRAME_KINDS["arp"]] * 1000
    probe.take()
    for frame in frames:
        probe.ask(frame, len(frame))
    answers = probe.take()
    assert [NAMES[int(number)] for number in answers["reason"]] == ["deny", "pass", "bad_source", "non_ip"] * 1000
    assert bytes(answers["source"][0])[:4] == bytes([198, 51, 100, 7])
    probe.ask(FRAME_KINDS["arp"], len(FRAME_KINDS["arp"]))
    (answer,) = probe.take()
    assert not bytes(answer["source"]).strip(b"\0"), "nothing of the frame that was there before"
    assert not answer["entry"]
    assert probe.take().size == 0


# --- the guard


@pytest.fixture(scope="module")
def _guarded() -> Iterator[Bench]:
    made = Bench("probe-guard", fake_clock=True)
    yield made
    made.close()


@pytest.fixture(scope="module")
def _guard_probe(_guarded: Bench, lab: Lab) -> Iterator[Probe]:
    with entered(lab.server):
        ifindex = socket.if_nametoindex(INTERFACE)
    with Probe(_guarded.switches, _guarded.pins, LINK, KEPT, ifindex) as probe:
        yield probe


class Guarded:
    """The guard's bench, and its program as a probe that has the same guard."""

    def __init__(self, made: GuardBench, probe: Probe, lab: Lab) -> None:
        self.made, self._probe, self._lab = made, probe, lab

    def agree(self, frame: bytes, checked: bool = False) -> str:
        """Asks, does it, and compares; returns the reason."""
        self._probe.set_guard(self.made.state())
        said = ask(self._probe, self.made.bench, frame, self._lab.server, checked)
        done, _ = self.made.send(frame)
        assert said == done
        return done.reason


@pytest.fixture
def guarded(_guarded: Bench, _guard_probe: Probe, lab: Lab) -> Iterator[Guarded]:
    with guarding(_guarded, lab) as made:
        yield Guarded(made, _guard_probe, lab)


@pytest.mark.parametrize("family", [4, 6])
def test_cookies(guarded: Guarded, family: int) -> None:
    guarded.made.policy(scan_ports=0)
    assert guarded.agree(syn(family)) == "cookie_sent"
    _, answer = guarded.made.send(syn(family))
    ack = (answer[TCP].seq + 1) % (1 << 32)
    assert guarded.agree(segment("A", family, seq=1001, ack=ack ^ 1 << 20)) == "cookie_bad"
    assert guarded.agree(segment("A", family, seq=1001, ack=ack)) == "pass"
    for flags in ("R", "FA", "SA", "A"):
        assert guarded.agree(segment(flags, family, port=CLOSED)) == "ack_unknown"
    elsewhere = Ether(dst="02:00:00:00:00:77") / IP(src="16.1.2.3") / TCP(flags="R")
    assert guarded.agree(bytes(elsewhere)) == "pass", "for another MAC address"


@pytest.mark.parametrize("family", [4, 6])
def test_rates(guarded: Guarded, family: int) -> None:
    guarded.made.policy(syn_rate=10, reset_rate=14, burst="1s", scan_ports=0)
    one, other = ("16.1.1.1", "16.1.1.2") if family == 4 else ("2001:db8:1::1", "2001:db8:2::1")
    reasons = [guarded.agree(syn(family, one, CLOSED)) for _ in range(15)]
    reasons += [guarded.agree(syn(family, other, CLOSED)) for _ in range(15)]
    assert set(reasons) == {"pass", "syn_rate"}
    assert guarded.agree(syn(family, other, CLOSED)) == "syn_rate"
    guarded.made.clock(102)
    assert guarded.agree(syn(family, other, CLOSED)) == "pass"


def test_rates_of_answers_and_connections(guarded: Guarded) -> None:
    guarded.made.policy(answer_rate=5, connection_rate=5, burst="1s", scan_ports=0)
    acks = []
    for number in range(12):
        guarded.made.forget_buckets()
        _, answer = guarded.made.send(syn(source="16.1.1.3", sport=5000 + number))
        after = (answer[TCP].seq + 1) % (1 << 32)
        acks.append(segment("A", source="16.1.1.3", sport=5000 + number, seq=1001, ack=after))
    assert {guarded.agree(syn()) for _ in range(12)} == {"cookie_sent", "syn_rate"}
    assert {guarded.agree(ack) for ack in acks} == {"pass", "syn_rate"}


@pytest.mark.parametrize("family", [4, 6])
def test_scans(guarded: Guarded, family: int) -> None:
    """Asked before each SYN, the probe knows which one makes the source suspect; asked alone, it makes none so."""
    guarded.made.policy(active=False, scan_ports=10)
    source = "16.7.7.7" if family == 4 else "2001:db8:77::7"
    reasons = [guarded.agree(syn(family, source, CLOSED + number)) for number in range(9)]
    assert reasons[0] == "pass"
    assert reasons[-1] == "cookie_sent"
    _, answer = guarded.made.send(syn(family, source, CLOSED + 9))
    ack = (answer[TCP].seq + 1) % (1 << 32)
    proof = segment("A", family, source, CLOSED + 9, seq=1001, ack=ack)
    assert guarded.agree(proof, checked=True) == "pass", "and tells nobody of it"
    guarded.made.clock(165)
    assert guarded.agree(syn(family, source, CLOSED)) == "pass"


def test_an_observing_guard(guarded: Guarded) -> None:
    guarded.made.policy(mode="observe", scan_ports=0)
    assert guarded.agree(syn()) == "cookie_sent"
    assert guarded.agree(segment("R", port=CLOSED)) == "ack_unknown"


def test_asking_neither_begins_a_flood_nor_ends_one(guarded: Guarded, _guard_probe: Probe, lab: Lab) -> None:
    guarded.made.policy(active=False, flood_rate=10, window="1s", scan_ports=0)
    bench = guarded.made.bench
    _guard_probe.set_guard(guarded.made.state())
    before = dump(bench.pins)
    frame = syn()
    with entered(lab.server):
        for _ in range(3000):
            _guard_probe.ask(frame, len(frame))
        assert set(_guard_probe.take()["reason"].tolist()) == {0}
    assert dump(bench.pins) == before
    _guard_probe.set_guard(guarded.made.state()._replace(until=guard.ALWAYS - 1))
    with entered(lab.server):
        for second in range(3):
            guarded.made.clock(200 + 100 * second)
            _guard_probe.ask(frame, len(frame))
        assert {NAMES[number] for number in _guard_probe.take()["reason"].tolist()} == {"cookie_sent"}
    # As it is at this moment by the kernel's clock; by the program's, which is a fake one here, it would be otherwise.
    for until, clock, reason in ((time.monotonic_ns() + 10**11, 1e9, "cookie_sent"), (1000, 0, "pass")):
        _guard_probe.set_guard(guarded.made.state()._replace(until=until))
        guarded.made.clock(clock)
        with entered(lab.server):
            assert NAMES[int(_guard_probe.ask_one(frame, len(frame))[0]["reason"])] == reason
    guarded.made.clock(900)
    for _ in range(200):
        guarded.made.send(frame)
    assert guarded.made.state().floods == 1, "positive control: when they do come, they are a flood"


def test_every_reason(guarded: Guarded) -> None:
    """Each one: said, done, and no map changed by asking."""
    made = guarded.made
    made.policy(syn_rate=1, burst="100ms", scan_ports=0)
    for text in ("allow 16.1.0.0/24", "block 16.2.0.0/16", "port 81/tcp"):
        put(made.bench, text)
    _, answer = made.send(syn())
    ack = (answer[TCP].seq + 1) % (1 << 32)
    while made.reason(syn(port=CLOSED)) != "syn_rate":
        pass
    filters = filter_tables(made.bench, ("16.3.0.1", None), ("16.3.0.2", parse_limit("1/d", "1")))
    assert made.reason(segment("R", source="16.3.0.2")) != "filter_limit", "its burst"
    frames = {
        "pass": segment("A", seq=1001, ack=ack),
        "allow": segment("SF", source="16.1.0.1"),
        "non_ip": FRAME_KINDS["arp"],
        "malformed": syn()[:50],
        "deny": syn(source="16.2.0.1"),
        "closed_port": syn(port=81),
        "bad_flags": segment("SF"),
        "bad_source": syn(source="127.0.0.1"),
        "syn_rate": syn(port=CLOSED),
        "cookie_sent": syn(),
        "cookie_bad": segment("A", sport=4001, seq=1001, ack=ack),
        "ack_unknown": segment("R", port=CLOSED),
        "fragment": FRAME_KINDS["fragment"],
        "filter": syn(source="16.3.0.1"),
        "filter_limit": syn(source="16.3.0.2"),
    }
    assert set(frames) == set(NAMES.values())
    try:
        for reason, frame in frames.items():
            assert guarded.agree(frame, checked=True) == reason
    finally:
        filters.empty()
        filters.close()


def filter_tables(bench: Bench, *sources: tuple[str, Limit | None]) -> FilterTables:
    """Filters in force that drop or limit these sources; to be emptied and closed."""
    tables = FilterTables(bench.pins)
    made = []
    for slot, (source, limit) in enumerate(sources):
        address = int(IPv4Address(source))
        match = Match((FieldTest(Field.IP_SADDR, ((address, address),)),))
        made.append(ClassifierFilter(match, "limit" if limit else "drop", "enforce", 0, slot, limit))
    tables.clear_hits(range(len(made)))
    tables.replace(*compiled(made))
    return tables
