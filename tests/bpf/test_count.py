# SPDX-License-Identifier: GPL-2.0
"""Counting: exact flags and protocols, sources and tuples in their LRU tables, the bound on new entries."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.utils import PcapReader, PcapWriter
from support.bench import Bench

from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.sys.abi import FLAGS
from xdpguard.telemetry import tracking
from xdpguard.telemetry.tracking import Tuple

ETHER = Ether(src="02:00:00:00:00:02", dst="02:00:00:00:00:01")
SECOND = 10**9


def test_flags_agree_with_a_capture(bench: Bench, tmp_path: Path) -> None:
    """A capture is written, replayed through the program, and its flags counted by scapy from the same file."""
    source = random.Random(4)
    path = str(tmp_path / "mixed.pcap")
    with PcapWriter(path) as writer:
        for _ in range(3000):
            ip = IP(src=f"198.51.100.{source.randrange(40)}") if source.random() < 0.6 else IPv6(src="2001:db8::7")
            flags = source.choice([2, 0x12, 0x10, 0x18, 0x11, 4, 0x14, source.randrange(256)])
            packet = source.choice([TCP(flags=flags, dport=source.randrange(1, 65536)), UDP() / b"x", ICMP()])
            writer.write(ETHER / (ARP() if source.random() < 0.05 else ip / packet))
    flags_seen: Counter[str] = Counter()
    packets = octets = segments = 0
    names = dict(zip("FSRPAUEC", FLAGS, strict=True))
    with PcapReader(path) as reader:
        for packet in reader:
            frame = bytes(packet)
            kernel.test_run(bench.fd, frame)
            packets += 1
            octets += len(frame)
            if TCP in packet:
                segments += 1
                flags_seen.update(names[letter] for letter in str(packet[TCP].flags))
    counted = bench.counters()
    assert (counted.packets, counted.bytes) == (packets, octets)
    assert counted.flags == {name: flags_seen[name] for name in FLAGS}
    assert counted.protocols["tcp"] == segments
    assert sum(counted.flag_sets.values()) == segments


def test_sources(bench: Bench) -> None:
    frames = [
        *[bytes(ETHER / IP(src="198.51.100.7") / TCP(flags="PA"))] * 5,
        *[bytes(ETHER / IP(src="198.51.100.7") / TCP(flags="FA"))] * 2,
        *[bytes(ETHER / IP(src="198.51.100.8") / TCP(flags="S"))] * 3,
        *[bytes(ETHER / IPv6(src="2001:db8::7") / TCP(flags="R"))] * 4,
        bytes(ETHER / IP(src="198.51.100.9") / UDP()),
    ]
    bench.send_all(frames)
    found = tracking.sources(bench.pins)
    assert set(found) == {"198.51.100.7", "198.51.100.8", "2001:db8::7"}
    counts = {address: dict(zip(FLAGS, row.flags, strict=True)) for address, row in found.items()}
    assert found["198.51.100.7"].packets == 7
    assert (counts["198.51.100.7"]["psh"], counts["198.51.100.7"]["ack"], counts["198.51.100.7"]["fin"]) == (5, 7, 2)
    assert counts["198.51.100.8"] == {name: 3 if name == "syn" else 0 for name in FLAGS}
    assert counts["2001:db8::7"]["rst"] == 4


def test_tuples_count_initial_syns_only(bench: Bench) -> None:
    bench.send_all([bytes(ETHER / IP(src="198.51.100.7", dst="203.0.113.1") / TCP(sport=5, dport=80, flags="S"))] * 3)
    bench.send_all([bytes(ETHER / IP(src="198.51.100.7", dst="203.0.113.1") / TCP(sport=5, dport=80, flags="SA"))] * 9)
    bench.send_all([bytes(ETHER / IP(src="198.51.100.7", dst="203.0.113.1") / TCP(sport=5, dport=80, flags="A"))] * 9)
    bench.send_all(
        [bytes(ETHER / IPv6(src="2001:db8::7", dst="2001:db8::1") / TCP(sport=6, dport=22, flags="SEC"))] * 2
    )
    assert tracking.tuples(bench.pins) == Counter(
        {
            Tuple("198.51.100.7", "203.0.113.1", 5, 80): 3,
            Tuple("2001:db8::7", "2001:db8::1", 6, 22): 2,
        }
    )


def test_collisions_cannot_be_planned(bench: Bench) -> None:
    """Pairs that collide in a hash by multiplication whatever its seed: here each is counted."""
    pairs = [("2001:db8::7", "2001:db8:0:80:0:80:0:87"), ("2001:db8::8", "2001:db8::80:0:0:8")]
    for pair in pairs:
        for source in pair:
            bench.send_all([bytes(ETHER / IPv6(src=source, dst="2001:db8::1") / TCP(flags="S"))])
    assert bench.counters().tuples_skipped == 0
    assert tracking.tuples(bench.pins).total() == 4


def test_syns_by(bench: Bench) -> None:
    for last in (7, 7, 8):
        for port in (80, 443):
            bench.send_all(
                [bytes(ETHER / IP(src=f"198.51.100.{last}", dst="203.0.113.1") / TCP(dport=port, flags="S"))]
            )
    by_source = tracking.syns_by(bench.pins, "source", None)
    assert by_source == [{"source": "198.51.100.7", "syns": 4}, {"source": "198.51.100.8", "syns": 2}]
    assert tracking.syns_by(bench.pins, "destination", None) == [{"destination": "203.0.113.1", "syns": 6}]
    assert [row["syns"] for row in tracking.syns_by(bench.pins, "port", None)] == [3, 3]
    assert len(tracking.syns_by(bench.pins, "tuple", 1)) == 1


def test_two_cpus_add_up(bench: Bench) -> None:
    frame = bytes(ETHER / IP(src="198.51.100.7", dst="203.0.113.1") / TCP(sport=5, dport=80, flags="S"))
    rule = bench.rule("allow", "198.51.100.0/24")
    usable = sorted(os.sched_getaffinity(0))
    try:
        for cpu in usable:
            os.sched_setaffinity(0, {cpu})
            bench.send_all([frame] * 10)
    finally:
        os.sched_setaffinity(0, usable)
    total = 10 * len(usable)
    assert bench.counters().packets == total
    assert bench.hits(rule) == (total, total * len(frame))
    assert tracking.tuples(bench.pins)[Tuple("198.51.100.7", "203.0.113.1", 5, 80)] == total
    assert tracking.sources(bench.pins)["198.51.100.7"].packets == total


def test_what_a_block_drops_is_counted_but_not_tracked(bench: Bench) -> None:
    frame = bytes(ETHER / IP(src="198.51.100.7") / TCP(flags="S"))
    rule = bench.rule("block", "198.51.100.7")
    bench.send_all([frame] * 4)
    assert bench.counters().flags["syn"] == 4
    assert bench.hits(rule) == (4, 4 * len(frame))
    assert not tracking.tuples(bench.pins)
    bench.remove(rule)
    bench.send_all([frame])
    assert tracking.tuples(bench.pins).total() == 1


@pytest.fixture
def timed() -> Iterator[Bench]:
    bench = Bench("timed", fake_clock=True, new_sources_per_second=10, new_tuples_per_second=20)
    yield bench
    bench.close()


def test_new_entries_are_bounded_by_second_and_the_rest_is_counted(timed: Bench) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    try:
        timed.set_clock(5 * SECOND)
        frames = [bytes(ETHER / IP(src=f"198.51.100.{n}", dst="203.0.113.1") / TCP(flags="S")) for n in range(50)]
        timed.send_all(frames)
        counted = timed.counters()
        assert (counted.sources_skipped, counted.tuples_skipped) == (40, 30)
        assert counted.flags["syn"] == 50
        assert len(tracking.sources(timed.pins)) == 10
        assert tracking.tuples(timed.pins).total() == 20
        # Sources that are in go on being counted by their other segments; a SYN is not looked up any more.
        timed.send_all(frames[:5])
        timed.send(bytes(ETHER / IP(src="198.51.100.0", dst="203.0.113.1") / TCP(flags="A")))
        counted = timed.counters()
        assert (counted.sources_skipped, counted.tuples_skipped) == (45, 35)
        assert tracking.sources(timed.pins)["198.51.100.0"].packets == 2
        # Not a full second later: still closed. A second later: open again.
        timed.set_clock(6 * SECOND - 1)
        timed.send_all(frames[30:31])
        assert timed.counters().tuples_skipped == 36
        timed.set_clock(6 * SECOND)
        timed.send_all([frames[0], frames[30]])
        assert timed.counters().tuples_skipped == 36
        assert tracking.tuples(timed.pins)[Tuple("198.51.100.0", "203.0.113.1", 20, 80)] == 2
        assert tracking.tuples(timed.pins).total() == 22
    finally:
        os.sched_setaffinity(0, set(range(os.cpu_count() or 1)))


def test_a_full_lru_table_forgets_the_oldest_and_goes_on(timed: Bench) -> None:
    del timed
    bench = Bench("small", tuples=1024, sources=1024, new_tuples_per_second=10**7, new_sources_per_second=10**7)
    try:
        frame = bytearray(bytes(ETHER / IP(src="10.0.0.0", dst="203.0.113.1") / TCP(flags="S")))
        for number in range(20_000):
            frame[26:30] = number.to_bytes(4, "big")
            kernel.test_run(bench.fd, bytes(frame))
        assert bench.counters().packets == 20_000
        assert 256 <= len(tracking.tuples(bench.pins)) <= 1024
    finally:
        bench.close()
