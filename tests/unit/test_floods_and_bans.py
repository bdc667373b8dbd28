# SPDX-License-Identifier: GPL-2.0
"""What the controller makes of floods and offenders: no kernel, no root."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.screen import counters as counted
from support.screen import listening

from xdpguard.control import guard as policies
from xdpguard.control.change import Changes
from xdpguard.control.entries import Entries
from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import guard, guardpolicy
from xdpguard.errors import UsageError
from xdpguard.net import sessions
from xdpguard.net.links import Link
from xdpguard.net.netns import Place
from xdpguard.policy.duration import parse_interval
from xdpguard.policy.model import Guard
from xdpguard.policy.target import Prefix, parse_prefix
from xdpguard.service import floods as module
from xdpguard.service import notify
from xdpguard.service.bans import Bans, Rates, Scans, Suspect
from xdpguard.service.detector import Flood, Sample, judge
from xdpguard.service.floods import Floods
from xdpguard.service.suspects import Suspects
from xdpguard.store.database import Store
from xdpguard.tcp.evidence import Pressure
from xdpguard.telemetry import counters, tracking
from xdpguard.telemetry.tracking import Tuple


def prefix(text: str) -> Prefix:
    return parse_prefix(text)[0]


def packed(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def sample(at: float, active: bool, **counts: int) -> Sample:
    numbers = {"syns": 0, "cookies": 0, "valid": 0, "bad": 0, "unmatched": 0, "limited": 0} | counts
    return Sample(at, active, "SYN rate", 80, "answering with SYN cookies", **numbers)


def test_the_lines_of_a_flood() -> None:
    flood = Flood("eth0")
    assert list(flood.feed(sample(0, False))) == []
    assert list(flood.feed(sample(1, True, syns=1000, cookies=900))) == [
        "eth0: a flood begins: SYN rate, port 80; answering with SYN cookies"
    ]
    assert flood.wants_tuples()
    tuples = Counter({Tuple(f"16.0.0.{n}", "192.0.2.1", n, 443): 1 for n in range(100)})
    (line,) = flood.feed(sample(2, True, syns=50_000, cookies=49_000), tuples)
    assert "49,000 SYN/s to port 443; spoofed sources: 0 of 49,000 cookies came back" in line
    assert not flood.wants_tuples()
    assert list(flood.feed(sample(11, True, syns=60_000))) == ["eth0: the flood continues: 1,111 SYN/s"]
    assert list(flood.feed(sample(12, False, syns=60_000))) == []
    assert list(flood.feed(sample(13, True, syns=60_100))) == [], "a pause is no end"
    assert list(flood.feed(sample(14, False, syns=61_000, cookies=60_000, valid=3))) == []
    (line,) = flood.feed(sample(16, False, syns=61_000, cookies=60_000, valid=3, bad=2, unmatched=5, limited=7))
    assert "over after 14 s: 61,000 SYNs, 60,000 cookies sent, 3 came back valid, 2 not; 5 segments" in line
    assert not flood.running


class Listeners:
    """Evidence of one listener that sends ten SYN-ACKs again each time it is asked; counts since ``begin``."""

    def __init__(self) -> None:
        self.begun = 0
        self.again = 0.0

    def begin(self) -> None:
        self.begun += 1
        self.again = 0.0

    def read(self, place: Place) -> list[Pressure]:
        if not place.path.exists():
            raise FileNotFoundError
        self.again += 10.0
        return [Pressure(listening(80, half_open=128), self.again)]


def test_what_is_counted_as_the_guard_begins_belongs_to_the_flood(
    monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    """It may begin between the two things that are read of an interface."""
    floods = Floods(Pins(Path("/nowhere"), "x"))
    moment = 0

    def at(number: int) -> int:
        """A moment later: the guard is active from the second to the fifth; all cookies are sent in the second."""
        nonlocal moment
        moment += 1
        return 1000 if moment >= 2 else number

    idle = guard.State(*[0] * len(guard.State._fields))
    monkeypatch.setattr(counters, "read", lambda pins, name, netns: counted({"cookie_sent": at(0)}))
    monkeypatch.setattr(
        guard, "read", lambda pins, name, netns: idle._replace(until=guard.ALWAYS - 1 if at(0) and moment < 6 else 0)
    )
    monkeypatch.setattr(tracking, "tuples", lambda pins: Counter())
    link = Link("eth0", "", 2, 1500, False, True, "", None)
    for now in range(10):
        monkeypatch.setattr(module, "monotonic", lambda now=now: now)
        floods.look([link], Guard())
    (over,) = [line for line in log if "is over" in line]
    assert " 1,000 cookies sent" in over


def test_the_evidence_of_a_flood(monkeypatch: pytest.MonkeyPatch, log: list[str]) -> None:
    """With each line while it lasts; what was before it is none."""
    floods = Floods(Pins(Path("/nowhere"), "x"))
    floods.evidence = its = Listeners()  # type: ignore[assignment]
    state = guard.State(*[0] * len(guard.State._fields))._replace(port=80, cause=2)
    monkeypatch.setattr(guard, "read", lambda pins, name, netns: state)
    monkeypatch.setattr(counters, "read", lambda pins, name, netns: counted({"cookie_sent": 5}, 7))
    monkeypatch.setattr(tracking, "tuples", lambda pins: Counter())
    link = Link("eth0", "", 2, 1500, False, True, "", None)

    def look(now: float, active: bool) -> list[str]:
        nonlocal state
        state = state._replace(until=guard.ALWAYS - 1 if active else 0)
        log.clear()
        monkeypatch.setattr(module, "monotonic", lambda: now)
        assert floods.look([link], Guard()) == active
        return list(log)

    assert look(1, False) == []
    assert look(2, False) == []
    assert its.begun == 2
    said = "eth0: 192.0.2.1:80: SYN backlog 128/128, accept queue 0/128, {} SYN-ACKs/s retransmitted"
    begins = look(3, True)
    assert begins[0].startswith("eth0: a flood begins")
    assert begins[1:] == [said.format(10)]
    assert look(3.5, True) == [], "too short for a sample"
    assert look(4, True)[1:] == [said.format(20)]
    assert its.begun == 2, "rates are those since it began"
    assert look(5, True) == []
    assert look(6, False) == []
    (over,) = look(9, False)
    assert "the flood is over" in over
    assert its.begun == 4
    link = link._replace(netns="gone")
    assert len(look(10, True)) == 1, "a namespace that has gone has none"
    floods.evidence = None
    look(11, False)
    look(14, False)
    assert len(look(15, True)) == 1


@pytest.mark.parametrize(
    ("cookies", "valid", "sources", "words"),
    [
        (1000, 900, {"a": 500, "b": 500}, "a rush of real clients: 90%"),
        (1000, 2, {"a": 900, "b": 100}, "one source, or somebody who spoofs its address: 2 of 1,000"),
        (1000, 2, {str(n): 1 for n in range(50)}, "spoofed sources: 2 of 1,000 cookies came back, 50 sources"),
        (0, 0, {str(n): 1 for n in range(50)}, "no cookies were sent that could identify real sources; 50 sources"),
    ],
)
def test_how_it_is_judged(cookies: int, valid: int, sources: dict[str, int], words: str) -> None:
    assert judge(cookies, valid, Counter(sources)).startswith(words)


def test_scans_are_counted_in_distinct_ports_within_a_minute() -> None:
    scans = Scans()
    for port in (1, 2, 3, 3, 3):
        scans.note(packed("192.0.2.1"), port, 0)
    assert scans.over(4, 1) == []
    scans.note(packed("192.0.2.1"), 4, 30)
    (found,) = scans.over(4, 31)
    assert (found.address, found.site) == (prefix("192.0.2.1"), prefix("192.0.2.1"))
    assert "4 closed ports" in found.evidence
    assert scans.over(4, 31) == [], "it begins anew"
    for port in range(4):
        scans.note(packed("2001:db8::1"), port, 40 * port)
    assert scans.over(4, 121) == [], "too slowly"
    for port in range(9):
        scans.note(packed("2001:db8::1"), port, 200)
    assert scans.over(0, 200) == [], "switched off"
    (found,) = scans.over(9, 200)
    assert found.site == prefix("2001:db8::/64")


def test_rates_are_per_second_and_site() -> None:
    rates = Rates()
    one, two = packed("2001:db8::1"), packed("2001:db8::2")
    assert rates.over(10, {one: 5000}, 0.0) == [], "what was before is not its rate"
    assert rates.over(10, {one: 5010, two: 8}, 2.0) == []
    assert rates.over(10, {one: 5010, two: 20}, 2.1) == [], "a few in a moment are no rate"
    (found,) = rates.over(10, {one: 5020, two: 30}, 4.0)
    assert (found.address, found.site) == (prefix("2001:db8::2"), prefix("2001:db8::/64"))
    assert "16 completed connections a second (limit 10)" in found.evidence
    assert rates.over(10, {packed("127.0.0.1"): 900, packed("::1"): 900}, 6.0) == []


class NoKernel:
    def exists(self) -> bool:
        return False

    def tables(self) -> Any:
        raise AssertionError


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store.db") as made:
        yield made


def test_bans_grow_and_are_forgotten(store: Store) -> None:
    now = 1_000_000.0
    rules = Entries(Changes(store, NoKernel().exists), NoKernel().tables, now=lambda: now)
    policy = Guard(bans=("10m", "1h"), forget="1d")
    suspect = Suspect(prefix("192.0.2.7"), prefix("192.0.2.7"), "did it")

    def ban() -> str:
        return Bans(store, rules, lambda: now).ban(suspect, policy, [])

    assert ban() == "banned 192.0.2.7 for 10m: did it"
    assert ban() == "", "it is banned already"
    (rule,) = store.rules("block")
    assert (rule.reason, rule.source, rule.expires) == ("did it", "guard", now + 600)
    for words in ("1h", "1h"):
        now += 7200
        rules.purge()
        assert ban() == f"banned 192.0.2.7 for {words}: did it"
    now += 2 * 86_400
    rules.purge()
    assert ban() == "banned 192.0.2.7 for 10m: did it"


def test_who_is_needed_is_not_banned(store: Store) -> None:
    rules = Entries(Changes(store, NoKernel().exists), NoKernel().tables)
    bans = Bans(store, rules)
    site = Suspect(prefix("2001:db8::5"), prefix("2001:db8::/64"), "x")
    assert "for 10m" in bans.ban(site, Guard(), [(prefix("2001:db8::1"), "this host's gateway")])
    assert [str(rule.target) for rule in store.rules("block")] == ["2001:db8::5"], "the source, as its site is needed"
    gateway = Suspect(prefix("2001:db8::1"), prefix("2001:db8::/64"), "x")
    needed = [(prefix("2001:db8::1"), "this host's gateway")]
    assert bans.ban(gateway, Guard(), needed) == "2001:db8::1 is not banned because it is this host's gateway: x"
    rules.add("allow", [prefix("203.0.113.0/24")], "", "cli", None)
    friend = Suspect(prefix("203.0.113.9"), prefix("203.0.113.9"), "x")
    assert "because it is allow-listed" in bans.ban(friend, Guard(), [])
    assert len(store.rules("block")) == 1


def test_who_is_logged_in_is_not_banned_and_a_visitor_is(
    store: Store, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    """A connection to an SSH port, without a login, keeps nobody from being banned."""
    peer, visitor = prefix("198.51.100.7"), prefix("203.0.113.9")
    session = sessions.Session(peer, 22, "sshd process 9, bob")
    monkeypatch.setattr(sessions, "read", lambda: sessions.Around([session], {visitor}, {22}))
    rules = Entries(Changes(store, NoKernel().exists), NoKernel().tables)
    found: Any = SimpleNamespace(store=store, rules=rules)
    Suspects().ban(found, Guard(), [], [Suspect(it, it, "x") for it in (peer, visitor)])
    assert log == [
        "198.51.100.7 is not banned because it is where somebody is logged in from (sshd process 9, bob): x",
        "banned 203.0.113.9 for 10m: x",
    ]


def test_words_of_guard_set() -> None:
    assert policies.parse(["mode=off", "bans=1m,2h", "flood_rate=5", "options=false", "hold=default"]) == {
        "mode": "off",
        "bans": ("1m", "2h"),
        "flood_rate": 5,
        "options": False,
        "hold": None,
    }
    for word in ("mode=x", "mode", "x=1", "flood_rate=-1", "hold=700s", "window=1ms", "bans=0s", "bans=", "prefix6=8"):
        with pytest.raises(UsageError):
            policies.parse([word])


def test_short_intervals() -> None:
    assert parse_interval("250ms") == 0.25
    assert parse_interval("2s") == 2.0
    for text in ("0ms", "ms", "1.5s", "-1ms"):
        with pytest.raises(UsageError):
            parse_interval(text)


def test_the_policy_as_the_program_reads_it() -> None:
    policy = Guard(mode="always", flood_rate=1000, window="200ms", hold="3s", syn_rate=500, burst="2s", prefix4=24)
    numbers = abi.GUARD_POLICY.unpack(guardpolicy.encode(policy, options=True, scan=False))
    assert numbers[:2] == (3, 1)
    assert numbers[3] == 0, "scans"
    assert numbers[4:8] == (200_000_000, 200, 10, 3_000_000_000)
    assert numbers[8:10] == (2_000_000, 2_000_000_000)
    assert numbers[10] == 0, "no limit"
    assert numbers[22] == bytes([255, 255, 255, 0])
    masks = numbers[20].to_bytes(8, "little"), numbers[21].to_bytes(8, "little")
    assert masks == (b"\xff" * 8, bytes(8))
    exempt = abi.GUARD_POLICY.unpack(guardpolicy.encode(Guard(exempt_ports=("65535", "53/udp")), True, True))[24:]
    assert exempt[1023] == 1 << 63
    assert not any(exempt[:1023])


def test_the_largest_receive_buffer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A network namespace that does not show it is no reason to fail."""
    shown = tmp_path / "rmem_max"
    monkeypatch.setattr(guardpolicy, "_RMEM_MAX", shown)
    assert abi.GUARD_POLICY.unpack(guardpolicy.encode(Guard(), True, True))[2] == 0
    shown.write_text("212992\n")
    assert abi.GUARD_POLICY.unpack(guardpolicy.encode(Guard(), True, True))[2] == 212_992


def test_notifying_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify.notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify.notify("READY=1")
