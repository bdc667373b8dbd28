# SPDX-License-Identifier: GPL-2.0
"""Whose packets are dropped: counted drops are attributed to samples, completely and in equal shares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.screen import counters, rank

from xdpguard.capture.line import parse
from xdpguard.capture.packet import encode
from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.telemetry import dropped
from xdpguard.telemetry.dropped import Dropped, Share
from xdpguard.telemetry.drops import FILTER

PLACE = ("eth0", "")
NUMBERS = {reason.name: reason.number for reason in abi.reasons()}
FIRST, SECOND, SERVER = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2]), bytes([198, 51, 100, 1])


class Data:
    """Drops by reason and the samples there are, as the data plane would have them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: dict[str, int] = {}
        self.rows: list[tuple[int, str, str]] = []
        self.slot: int | None = None  # of the filter that decides about what is dropped
        self.dropped = Dropped(Pins(Path("/none"), "test"))
        self.now = 0.0
        monkeypatch.setattr(Dropped, "_samples", lambda *_: self._samples())
        self.read()

    def _samples(self) -> Any:
        found = np.zeros(len(self.rows), dropped._DROP)
        for at, (moment, reason, line) in enumerate(self.rows):
            frame = encode(parse(line))
            found[at]["at"], found[at]["reason"], found[at]["captured"] = moment, NUMBERS[reason], len(frame)
            if self.slot is not None and reason == "filter":
                found[at]["entry"], found[at]["number"] = FILTER, self.slot
            found[at]["frame"] = np.void(frame.ljust(abi.DROP_FRAME, b"\0"))
        return found

    def drop(self, reason: str, count: int, *lines: str) -> None:
        """Counts drops, and leaves samples of them."""
        self.counts[reason] = self.counts.get(reason, 0) + count
        self.rows += [(len(self.rows) + 1 + number, reason, line) for number, line in enumerate(lines)]

    def read(self) -> None:
        """A second later."""
        self.now += 1
        self.dropped.read({PLACE: counters(self.counts)}, self.now)

    def sums(self) -> dict[bytes, float]:
        """Drops by source."""
        return {address: share.drops for (address, _), share in self.dropped.by["source"].items()}


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Data:
    return Data(monkeypatch)


def test_drops_are_shared_out_among_the_samples_of_their_reason(data: Data) -> None:
    data.drop("deny", 90, *["udp 192.0.2.1:5 > 198.51.100.1:53"] * 2, "tcp 192.0.2.2:5 > 198.51.100.1:22 S")
    data.drop("closed_port", 7, "tcp 192.0.2.2:6 > 198.51.100.1:8080 S")
    data.read()
    assert data.sums() == {FIRST: 60, SECOND: 37}
    assert {end: share.drops for end, share in data.dropped.by["port"].items()} == {
        (SERVER, 53): 60, (SERVER, 22): 30, (SERVER, 8080): 7
    }  # fmt: skip
    assert {end: share.drops for end, share in data.dropped.by["destination"].items()} == {(SERVER, 0): 97}


def test_a_sample_counts_once(data: Data) -> None:
    data.drop("deny", 10, "udp 192.0.2.1:5 > 198.51.100.1:53")
    data.read()
    data.drop("deny", 5, "udp 192.0.2.2:5 > 198.51.100.1:53")
    data.read()
    assert data.sums() == {FIRST: 10, SECOND: 5}


def test_drops_without_a_sample_wait_for_the_next(data: Data) -> None:
    data.drop("deny", 10)
    data.read()
    assert data.sums() == {}
    data.drop("deny", 1, "udp 192.0.2.1:5 > 198.51.100.1:53")
    data.read()
    assert data.sums() == {FIRST: 11}


def test_samples_that_were_read_before_their_drops_were_counted(data: Data) -> None:
    """The counters are read first, and packets come meanwhile."""
    data.drop("deny", 8, "udp 192.0.2.1:5 > 198.51.100.1:53")
    data.read()
    data.drop("deny", 4)
    data.read()
    assert data.sums() == {FIRST: 12}
    assert data.dropped.by["source"][FIRST, 0].samples == 1, "the same one"
    data.drop("closed_port", 3)
    data.read()
    assert data.sums() == {FIRST: 12}, "it is no sample of another reason"


def test_what_was_before_the_first_reading_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Data(monkeypatch)
    data.drop("deny", 1000, "udp 192.0.2.1:5 > 198.51.100.1:53")
    data.dropped = Dropped(Pins(Path("/none"), "test"))
    data.read()
    data.drop("deny", 3, "udp 192.0.2.2:5 > 198.51.100.1:53")
    data.read()
    assert data.sums() == {SECOND: 3}


def test_what_passes_is_no_drop_and_what_cannot_be_read_is_left_out(data: Data) -> None:
    data.drop("pass", 1000, "udp 192.0.2.1:5 > 198.51.100.1:53")
    data.drop("deny", 5, "udp 192.0.2.1:5 > 198.51.100.1:53")
    data.rows[-1] = (len(data.rows), "deny", "47 192.0.2.1 > 198.51.100.1")
    data.read()
    assert data.sums() == {FIRST: 5}
    assert not data.dropped.by["port"], "a packet without ports"


def test_rates_follow_and_fade(data: Data) -> None:
    for _ in range(60):
        data.drop("deny", 100, "udp 192.0.2.1:5 > 198.51.100.1:53")
        data.read()
    assert data.dropped.by["source"][FIRST, 0].rate == pytest.approx(100, rel=0.01)
    for _ in range(60):
        data.read()
    assert data.dropped.by["source"][FIRST, 0].rate < 0.1


def test_samples_are_counted(data: Data) -> None:
    for _ in range(2):
        data.drop("deny", 90, *["udp 192.0.2.1:5 > 198.51.100.1:53"] * 2, "udp 192.0.2.2:5 > 198.51.100.1:53")
        data.read()
    shares = data.dropped.by["source"]
    assert (shares[FIRST, 0].samples, shares[SECOND, 0].samples) == (4, 2)
    assert (shares[FIRST, 0].significant, shares[SECOND, 0].significant) == (True, False)
    assert Share(2, 0, 1).significant


def test_it_remembers_the_greatest_only(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropped, "_MAX_ENDS", 8)
    data.drop("deny", 1000, "udp 192.0.2.1:5 > 198.51.100.1:53")
    data.read()
    for number in range(30):
        data.drop("deny", 1, f"udp 203.0.113.{number}:5 > 198.51.100.1:53")
        data.read()
    assert len(data.sums()) <= 8
    assert data.sums()[FIRST] == 1000


def test_beside_the_syns() -> None:
    lost: dict[Any, Any] = {"source": {(FIRST, 0): Share(7, 1, 3), (SECOND, 0): Share(2, 3), (SERVER, 0): Share(9, 9)}}
    ranking = rank([("192.0.2.1", "198.51.100.1", 80, 4)], lost).by["source"]
    found = {ranking.text(at): (int(ranking.syns[at]), ranking.drops[at], ranking.drop_rates[at]) for at in range(2)}
    assert found == {"192.0.2.1": (4, 7, 1), "192.0.2.2": (0, 2, 3)}
    assert len(ranking.syns) == 2, "one that was met once, as a share of nine drops, may be anybody"


def test_whom_each_filter_drops(data: Data) -> None:
    """Other reasons name nobody there; sources keep what they had."""
    data.slot = 5
    data.drop("filter", 90, *["udp 192.0.2.1:5 > 198.51.100.1:53"] * 2, "udp 192.0.2.2:5 > 198.51.100.1:53")
    data.drop("deny", 40, "udp 192.0.2.2:5 > 198.51.100.1:53")
    data.read()

    def found() -> dict[int, dict[bytes, float]]:
        return {
            slot: {address: share.drops for (address, _), share in shares.items()}
            for slot, shares in data.dropped.filters.items()
        }

    assert found() == {5: {FIRST: 60, SECOND: 30}}
    data.read()
    assert found() == {5: {FIRST: 60, SECOND: 30}}
