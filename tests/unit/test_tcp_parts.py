# SPDX-License-Identifier: GPL-2.0
"""The computations of `xdpguard tcp`: histograms, filters, sums of snapshots, hints, counted retransmissions."""

from __future__ import annotations

import csv
import io
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.screen import listening

from xdpguard.cli.tcp.trace import _Lines
from xdpguard.errors import UsageError
from xdpguard.net.netns import Place
from xdpguard.policy.target import MAPPED
from xdpguard.tcp import evidence, namespaces, snapshot, tally
from xdpguard.tcp.cwnd import History, Sample, sparkline
from xdpguard.tcp.diag import _MESSAGE, Sockets
from xdpguard.tcp.evidence import Pressure
from xdpguard.tcp.figures import cumulative
from xdpguard.tcp.filters import Filter, parse_end, parse_port_range
from xdpguard.tcp.hints import hints
from xdpguard.tcp.histogram import Histogram, bounds
from xdpguard.tcp.names import (
    ALL_STATES,
    CLOSE_WAIT,
    ESTABLISHED,
    FIN_WAIT2,
    LISTEN,
    STATES,
    SYN_RECV,
    TIME_WAIT,
    parse_states,
)
from xdpguard.tcp.namespaces import Names
from xdpguard.tcp.owners import Owners
from xdpguard.tcp.resent import Resent, Service
from xdpguard.tcp.retrans import Retransmission
from xdpguard.tcp.snapshot import Listener, Snapshot
from xdpguard.tcp.sysctls import Limits
from xdpguard.tcp.text import end, prefix
from xdpguard.tcp.trace import Transition

_PLACE = Place("", 1, Path("/proc/self/ns/net"))
_LIMITS = Limits((32_768, 60_999), 8192, 4096, 1)


class _Resent:
    """Counts of SYN-ACKs sent again by port, of one namespace."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}

    def read(self) -> Resent:
        return Resent({}, {Service(_PLACE.inode, port): count for port, count in self.counts.items()})


def test_names_in_csv_are_quoted_where_they_must_be() -> None:
    names = ["plain", 'a,"b"', "two\nlines", ""]
    address = _packed("192.0.2.1")
    changes = [
        Transition(2_000_000, 500_000, 16, 0, 7, name, address, 80, address, 4000, "LISTEN", "SYN_RECV", "")
        for name in names
    ]
    shown = _Lines(wide=False, one_namespace=False)
    rows = list(csv.DictReader(io.StringIO("\n".join([shown.csv_head(), *shown.csv(changes)]))))
    assert [row["process"] for row in rows] == names
    assert {(row["old"], row["new"], row["remote_port"]) for row in rows} == {("LISTEN", "SYN_RECV", "4000")}
    assert {float(row["ms"]) for row in rows} == {1.5}


def test_rates_are_those_since_the_last_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    there = [listening(80, half_open=9), listening(81), listening(80)]
    monkeypatch.setattr(evidence, "backlogs", lambda place: there)
    counter = _Resent()
    its = evidence.Evidence(counter)  # type: ignore[arg-type]

    def rates(seconds: float, **more: int) -> list[float]:
        nonlocal now
        now += seconds
        for port, count in more.items():
            counter.counts[int(port[1:])] = counter.counts.get(int(port[1:]), 0) + count
        return [it.synacks_per_second for it in its.read(_PLACE)]

    assert rates(10, p80=50, p81=10) == [5, 1, 0], "of a port's listeners the fullest"
    assert rates(2, p80=20) == [10, 0, 0]
    now += 100
    counter.counts[80] += 1000
    its.begin()
    assert rates(1, p80=3) == [3, 0, 0]


def test_a_number_that_another_namespace_has_now(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    there: dict[str, Place] = {}
    monkeypatch.setattr(namespaces, "all_places", lambda: list(there.values()))

    def make(name: str) -> int:
        (tmp_path / name).write_text("")
        inode = (tmp_path / name).stat().st_ino
        there[name] = Place(name, inode, tmp_path / name)
        return inode

    names = Names()
    first = make("first")
    assert names.name(first) == "first"
    (tmp_path / "first").rename(tmp_path / "second")
    del there["first"]
    now += 1
    assert names.name(first) == "first", "it has gone, and what it did is still told"
    there["second"] = Place("second", first, tmp_path / "second")
    now += 1
    assert names.name(first) == "second"
    assert names.name(first + 1_000_000) == f"net {first + 1_000_000}"
    assert names.name(0) == "?"


@pytest.mark.parametrize(
    ("found", "port", "words"),
    [
        ([], 80, ""),
        ([(listening(80), 0.0)], 0, ""),
        ([(listening(80), 0.0)], 80, "192.0.2.1:80: SYN backlog 0/128, accept queue 0/128"),
        (
            [(listening(443, to_accept=9), 0.0), (listening(80, half_open=128, again=97), 41.4)],
            80,
            "192.0.2.1:80: SYN backlog 128/128 (97 with a retransmitted SYN-ACK), accept queue 0/128,"
            " 41 SYN-ACKs/s retransmitted",
        ),
        (
            [(listening(port, half_open=5), 0.0) for port in (1, 2, 3)],
            80,
            "192.0.2.1:1: SYN backlog 5/128, accept queue 0/128; 192.0.2.1:2: SYN backlog 5/128, accept queue 0/128",
        ),
    ],
)
def test_evidence_described(found: list[tuple[Listener, float]], port: int, words: str) -> None:
    assert evidence.describe([Pressure(*it) for it in found], port) == words


def bucket_of(value: int) -> int:
    """The bucket of a 32-bit value, as the kernel program computes it (bpf/tcp/histogram.h)."""
    if value < 8:
        return value
    power = value.bit_length() - 1
    return (power - 2) * 8 + (value >> power - 3 & 7)


@given(st.integers(0, (1 << 32) - 1))
def test_a_value_lies_in_its_bucket(value: int) -> None:
    low, high = bounds(bucket_of(value))
    assert low <= value < high
    assert high - low <= max(1, value // 8)


def test_buckets_follow_each_other() -> None:
    assert [bounds(bucket)[1] for bucket in range(239)] == [bounds(bucket)[0] for bucket in range(1, 240)]
    assert bucket_of((1 << 32) - 1) == 239


@given(st.lists(st.integers(0, 10_000_000), min_size=1, max_size=200))
def test_percentiles_are_near(values: list[int]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(bucket_of(value), 1, value)
    assert histogram.count == len(values)
    assert histogram.average == pytest.approx(sum(values) / len(values))
    assert sum(histogram.powers().values()) == len(values)
    for share in (0.01, 0.5, 0.9, 0.99, 1.0):
        wanted = sorted(values)[max(0, -(-int(share * len(values) * 1000) // 1000) - 1)]
        low, _ = bounds(bucket_of(wanted))
        found = histogram.percentile(share)
        assert low - low / 8 - 1 <= found
        assert found <= bounds(bucket_of(max(values)))[1]


def test_what_has_come_since() -> None:
    before, now = Histogram(), Histogram()
    before.add(5, 2, 10)
    now.add(5, 3, 15)
    now.add(9, 1, 9)
    assert now.minus(before) == Histogram({5: 1, 9: 1}, 14)
    assert Histogram().percentile(0.5) == Histogram().average == 0
    assert Histogram().powers() == {}


def test_cumulative_buckets() -> None:
    histogram = Histogram()
    for value in (10, 100, 1000, 70_000):
        histogram.add(bucket_of(value), 1, value)
    found = cumulative(histogram)
    assert found[64e-6] == 1
    assert found[128e-6] == 2
    assert found[1024e-6] == 3
    assert list(found.values()) == sorted(found.values())
    assert found[max(found)] == 4


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        ([], ALL_STATES),
        (["ESTABLISHED"], 1 << ESTABLISHED),
        (["estab"], 1 << ESTABLISHED),
        (["close-wait,FIN_WAIT_2"], 1 << CLOSE_WAIT | 1 << FIN_WAIT2),
        (["fin-wait-2"], 1 << FIN_WAIT2),
        (["closed", "Time-Wait"], 1 << STATES.index("CLOSE") | 1 << TIME_WAIT),
    ],
)
def test_names_of_states(texts: list[str], wanted: int) -> None:
    assert parse_states(texts) == wanted


@pytest.mark.parametrize("text", ["", "NEW_SYN_RECV", "NOWHERE", "ESTABLISHED,,LISTEN"])
def test_names_of_no_state(text: str) -> None:
    with pytest.raises(UsageError):
        parse_states([text])


def test_port_ranges() -> None:
    assert parse_port_range("") == (0, 65_535)
    assert parse_port_range("443") == (443, 443)
    assert parse_port_range("8000-8099") == (8000, 8099)
    for text in ("0", "65536", "9-8", "x", "1-", "-1", "1-2-3", "٣"):
        with pytest.raises(UsageError):
            parse_port_range(text)


def _packed(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, text) if ":" in text else MAPPED + socket.inet_aton(text)


@pytest.mark.parametrize(
    ("chosen", "matches"),
    [
        (Filter(), True),
        (Filter(netns=1), True),
        (Filter(netns=2), False),
        (Filter(family=4), True),
        (Filter(family=6), False),
        (Filter(remote=parse_end("192.0.2.0/24")), True),
        (Filter(remote=parse_end("192.0.3.0/24")), False),
        (Filter(local=parse_end("198.51.100.1")), True),
        (Filter(local=parse_end("2001:db8::/32")), False),
        (Filter(local_ports=(80, 90)), True),
        (Filter(remote_ports=(80, 90)), False),
    ],
)
def test_a_filter_decides_as_the_program_does(chosen: Filter, matches: bool) -> None:
    local, remote = _packed("198.51.100.1"), _packed("192.0.2.7")
    assert tally.wanted(chosen, tally.Connection(1, local, 80, remote, 4000)) is matches
    # The same by the numbers that the program gets.
    given_numbers = chosen.switches()
    for name, address in (("LOCAL", local), ("REMOTE", remote)):
        for half, packed in (("HIGH", address[:8]), ("LOW", address[8:])):
            number = int.from_bytes(packed, "little")
            if (number & given_numbers[f"{name}_MASK_{half}"]) != given_numbers[f"{name}_{half}"]:
                assert not matches


def test_filters_that_cannot_match() -> None:
    for chosen in (
        Filter(family=6, remote=parse_end("192.0.2.7")),
        Filter(family=4, local=parse_end("::1")),
        Filter(local=parse_end("192.0.2.7"), remote=parse_end("2001:db8::1")),
    ):
        with pytest.raises(UsageError):
            chosen.check()
    Filter(family=4, local=parse_end("::ffff:192.0.2.7")).check()


def test_ends_as_text() -> None:
    assert end(_packed("192.0.2.1"), 80) == "192.0.2.1:80"
    assert end(_packed("2001:db8::1"), 0) == "[2001:db8::1]:*"
    assert prefix(_packed("192.0.2.0"), 24, 64) == "192.0.2.0/24"
    assert prefix(_packed("2001:db8::"), 24, 64) == "2001:db8::/64"
    assert prefix(_packed("192.0.2.1"), 32, 128) == "192.0.2.1"


def _sockets(*rows: tuple[int, str, int, str, int], **columns: Any) -> Sockets:
    found = np.zeros(len(rows), _MESSAGE)
    for it, (state, local, local_port, remote, remote_port) in zip(found, rows, strict=True):
        it["state"], it["local_port"], it["remote_port"] = state, local_port, remote_port
        it["local"] = np.frombuffer(_packed(local), "u1")
        it["remote"] = np.frombuffer(_packed(remote), "u1")
    for name, values in columns.items():
        found[name] = values
    return found


def test_connections_belong_to_the_nearest_listener() -> None:
    sockets = _sockets(
        (LISTEN, "::", 80, "::", 0),
        (LISTEN, "192.0.2.1", 80, "0.0.0.0", 0),
        (LISTEN, "0.0.0.0", 81, "0.0.0.0", 0),
        (ESTABLISHED, "192.0.2.1", 80, "198.51.100.1", 1000),
        (ESTABLISHED, "192.0.2.2", 80, "198.51.100.1", 1001),
        (ESTABLISHED, "2001:db8::1", 80, "2001:db8::2", 1002),
        (SYN_RECV, "192.0.2.2", 80, "198.51.100.9", 1003),
        (ESTABLISHED, "192.0.2.2", 81, "198.51.100.1", 1004),
        (ESTABLISHED, "192.0.2.2", 4000, "198.51.100.1", 80),
    )
    found = {(it.address, it.port): it for it in snapshot.listeners(Snapshot(_PLACE, sockets, _LIMITS))}
    assert found[_packed("192.0.2.1"), 80].connections == 1
    assert found[_packed("::"), 80].connections == 2
    assert found[_packed("::"), 80].syn.length == 1
    assert found[_packed("0.0.0.0"), 81].connections == 1
    assert len(found) == 3


def test_listeners_that_share_a_port_are_one() -> None:
    rows = [(LISTEN, "0.0.0.0", 80, "0.0.0.0", 0)] * 3
    sockets = _sockets(*rows, receive_queue=[1, 2, 3], send_queue=[10, 10, 10], inode=[7, 8, 9])
    (found,) = snapshot.listeners(Snapshot(_PLACE, sockets, _LIMITS))
    assert (found.sockets, found.accept, found.inodes) == (3, snapshot.Queue(6, 30), (7, 8, 9))
    assert found.fullest == snapshot.Queue(3, 10)


def test_one_of_several_that_does_not_accept_is_told() -> None:
    """Each socket has a queue of its own, and loses what does not fit into it."""
    rows = [(LISTEN, "192.0.2.1", 80, "0.0.0.0", 0)] * 4 + [(LISTEN, "192.0.2.1", 81, "0.0.0.0", 0)]
    sockets = _sockets(*rows, receive_queue=[0, 21, 0, 0, 9], send_queue=[20, 20, 20, 20, 20])
    taken = Snapshot(_PLACE, sockets, _LIMITS)
    found = snapshot.listeners(taken)
    assert [it.port for it in found] == [80, 81], "the fullest first"
    assert found[0].share == 21 / 20
    (hint,) = hints(taken, found, Owners())
    assert hint.text.startswith("21 connections wait on 192.0.2.1:80, at one of 4 sockets, to be accepted (limit 20)")
    (later,) = snapshot.with_queues(found, sockets[:4])
    assert (later.accept, later.fullest) == (snapshot.Queue(21, 80), snapshot.Queue(21, 20))


def test_the_limit_of_half_open_connections() -> None:
    assert _LIMITS.syn_backlog(128) == 128
    assert _LIMITS._replace(tcp_syncookies=0, tcp_max_syn_backlog=64).syn_backlog(128) == 48


@given(st.integers(0, 32), st.integers(0, 128))
def test_remote_prefixes(length4: int, length6: int) -> None:
    addresses = ["192.0.2.1", "192.0.2.200", "198.51.100.1", "2001:db8::1", "2001:db8:1::1"]
    sockets = _sockets(*((ESTABLISHED, "192.0.2.9", 80, it, 1) for it in addresses))
    found = snapshot.remotes(sockets, length4, length6)
    assert sum(it.total for it in found) == len(addresses)
    for it in found:
        four = it.prefix.startswith(MAPPED)
        length = length4 + 96 if four else length6
        number = int.from_bytes(it.prefix, "big")
        assert number == number >> (128 - length) << (128 - length) or (four and length4 == 0)
    assert sum(it.total for it in found if it.prefix.startswith(MAPPED)) == 3


def test_no_hint_where_nothing_is_wrong() -> None:
    sockets = _sockets((LISTEN, "0.0.0.0", 80, "0.0.0.0", 0), send_queue=[128])
    taken = Snapshot(_PLACE, sockets, _LIMITS)
    assert hints(taken, snapshot.listeners(taken), Owners()) == []


def test_time_wait_near_the_range_of_ports() -> None:
    limits = _LIMITS._replace(ports=(1024, 1123))
    rows = [(TIME_WAIT, "192.0.2.1", port, "198.51.100.1", 443) for port in range(1024, 1104)]
    taken = Snapshot(_PLACE, _sockets(*rows), limits)
    (hint,) = hints(taken, [], Owners())
    assert hint.kind == "time_wait"
    assert hint.evidence == {
        "local": "192.0.2.1",
        "remote": "198.51.100.1",
        "remote_port": 443,
        "sockets": 80,
        "ports": 100,
    }
    few = Snapshot(_PLACE, _sockets(*rows[:60]), limits)
    assert hints(few, [], Owners()) == []


def test_time_wait_near_its_own_limit() -> None:
    rows = [(TIME_WAIT, "192.0.2.1", 80, "198.51.100.1", port) for port in range(1, 81)]
    (hint,) = hints(Snapshot(_PLACE, _sockets(*rows), _LIMITS._replace(tcp_max_tw_buckets=100)), [], Owners())
    assert (hint.kind, hint.evidence["sockets"]) == ("time_wait_limit", 80)


@pytest.mark.parametrize(
    ("sources", "again", "says"),
    [(100, 100, "did not answer the SYN-ACK"), (100, 0, "a SYN flood, or a rush"), (3, 0, "few sources")],
)
def test_what_half_open_connections_mean(sources: int, again: int, says: str) -> None:
    rows = [(LISTEN, "0.0.0.0", 80, "0.0.0.0", 0)]
    rows += [(SYN_RECV, "192.0.2.1", 80, f"198.51.100.{i % sources}", i + 1) for i in range(100)]
    sockets = _sockets(*rows)
    sockets["send_queue"][0] = 128
    sockets["retrans"][1 : again + 1] = 1
    taken = Snapshot(_PLACE, sockets, _LIMITS)
    (hint,) = hints(taken, snapshot.listeners(taken), Owners())
    assert hint.kind == "syn_recv"
    assert says in hint.text
    assert hint.evidence["limit"] == 128


def _again(kind: str, segments: int, sent: int, remote: str = "198.51.100.1", again: bool = False) -> Retransmission:
    ends = (_packed("192.0.2.1"), 80, _packed(remote), 4000)
    return Retransmission(0, 0, 1, *ends, sent, segments, kind, "ESTABLISHED", again)


def test_retransmissions_counted_by_prefix() -> None:
    counting = tally.Tally(Filter(), tally.by_remote(24, 64))
    counting.add([_again("fast", 2, 10), _again("timeout", 1, 12, again=True), _again("close", 0, 30)])
    counting.add([_again("syn-ack", 1, 0, "198.51.100.2"), _again("close", 0, 10, "203.0.113.1")])
    found = counting.finish([], None, lambda: [_again("close", 0, 10, "198.51.100.3")])
    one, other = found[1, b"", 0, _packed("198.51.100.0"), 0], found[1, b"", 0, _packed("203.0.113.0"), 0]
    assert (one.segments, one.again, one.sent, one.kinds["fast"]) == (4, 1, 40, 2)
    assert one.ratio == pytest.approx(3 / 40)
    assert (other.segments, other.sent, other.ratio) == (0, 10, 0)
    assert tally.Counted().ratio is None


def test_single_connections_without_loss_are_only_summed() -> None:
    counting = tally.Tally(Filter(), tally.by_connection)
    counting.add([_again("close", 0, 10), _again("fast", 1, 5, "198.51.100.2"), _again("close", 0, 7, "198.51.100.2")])
    found = counting.finish([], None, list)
    assert [its.sent for its in found.values()] == [7]
    assert counting.rest.sent == 10


def test_groups_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "_MOST_GROUPS", 3)
    counting = tally.Tally(Filter(), tally.by_remote(32, 128))
    counting.add(_again("fast", 1, 1, f"198.51.100.{number}") for number in range(10))
    assert len(counting.finish([], None, list)) == 3
    assert counting.rest.segments == 7


def _sample(sk: int, window: int, port: int = 1, closed: bool = False) -> Sample:
    return Sample(0, sk, 1, b"", 80, b"", port, window, None, 1, 1, 1, 0, 0, closed)


def test_what_is_remembered_of_connections() -> None:
    history = History(2, 3)
    history.add([_sample(1, window) for window in range(5)])
    history.add([_sample(2, 9)])
    assert [[it.window for it in its] for its in history.connections()] == [[9], [2, 3, 4]]
    history.add([_sample(3, 1)])
    assert sorted(its[0].sk for its in history.connections()) == [2, 3]
    history.add([_sample(2, 0, closed=True), _sample(3, 7, port=2)])
    assert [[it.window for it in its] for its in history.connections()] == [[7]]


def test_connections_whose_end_was_lost_are_swept() -> None:
    history = History(10, 3)
    history.add([_sample(1, 5, port=1), _sample(2, 6, port=2)])
    history.sweep({_sample(0, 0, port=2).ends})
    assert [its[0].sk for its in history.connections()] == [2]


def test_sparklines() -> None:
    assert sparkline([]) == ""
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([0, 7]) == "▁█"
    assert sparkline(range(8)) == "▁▂▃▄▅▆▇█"
    assert len(sparkline([1 << 40, 1])) == 2
