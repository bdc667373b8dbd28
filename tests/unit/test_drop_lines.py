# SPDX-License-Identifier: GPL-2.0
"""A drop as a line of text, and the words for what is missing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from xdpguard.cli import events
from xdpguard.cli.drops import Missed, rise
from xdpguard.cli.wanted import Wanted
from xdpguard.dataplane.sys import abi
from xdpguard.store.database import Store
from xdpguard.telemetry.attribution import Attribution
from xdpguard.telemetry.drops import Drop

DENY = next(reason for reason in abi.reasons() if reason.name == "deny")
ONE, OTHER, THIRD = ("eth0", ""), ("eth0", "inner"), ("wlan0", "")


def line(
    tmp_path: Path, places: list[tuple[str, str]], place: tuple[str, str], at: float, observed: bool = False
) -> str:
    drop = Drop(int(at * 1e9), place, DENY, 60, b"\2" * 14 + b"\0" * 46, 0, 0, observed)
    with Store(tmp_path / "none", read_only=True) as store:
        return events.line(drop, Wanted(places, ()), Attribution(store))


def test_a_line(tmp_path: Path) -> None:
    now = int(time.time()) + 0.2505
    clock = time.strftime("%H:%M:%S", time.localtime(now))
    made = line(tmp_path, [ONE], ONE, now)
    if time.localtime()[:3] == time.localtime(now)[:3]:
        assert made.startswith(f"{clock}.250  eth0  deny          60 bytes: 0202")
    assert "  deny*         60" in line(tmp_path, [ONE], ONE, now, observed=True)


def test_one_of_another_day_has_its_date(tmp_path: Path) -> None:
    day = 1_600_000_000
    assert line(tmp_path, [ONE], ONE, day).startswith(time.strftime("%Y-%m-%d %H:%M:%S.000  ", time.localtime(day)))


def test_interfaces_are_told_apart_and_aligned(tmp_path: Path) -> None:
    assert "  eth0   deny" in line(tmp_path, [ONE, THIRD], ONE, 0)
    assert "  wlan0  deny" in line(tmp_path, [ONE, THIRD], THIRD, 0)
    assert "  eth0        deny" in line(tmp_path, [ONE, OTHER], ONE, 0)
    assert "  eth0@inner  deny" in line(tmp_path, [ONE, OTHER], OTHER, 0)
    assert "  eth0  deny" in line(tmp_path, [OTHER], OTHER, 0), "there is but one"


@pytest.mark.parametrize(
    ("found", "taken", "says"),
    [
        ([(0, 0)], 0, "0 of 0 drops shown"),
        ([(1200, 0)], 1200, "1,200 of 1,200 drops shown"),
        ([(10, 0)], 4, "4 of 10 drops shown; 6 exceeded the rate (see --rate) or came at the very end"),
        ([(10, 6)], 4, "4 of 10 drops shown; 6 came faster than they could be read"),
        ([(5, 1), (5, 2)], 4, "4 of 10 drops shown; 3 exceeded the rate (see --rate) or came at the"
         " very end; 3 came faster than they could be read"),
        ([(3, 0), (0, 0)], 4, "4 of 4 drops shown"),
    ],
)  # fmt: skip
def test_what_is_missing(found: list[tuple[int, int]], taken: int, says: str) -> None:
    places = [ONE, OTHER, THIRD]
    assert Missed(dict(zip(places, found, strict=False)), taken).describe("shown") == says


def test_counters_that_begin_anew() -> None:
    before = {"deny": 5, "bad_flags": 7}
    assert rise(before, {"deny": 9, "bad_flags": 8}, ["deny", "bad_flags"]) == 5
    assert rise(before, {"deny": 9, "bad_flags": 8}, ["deny"]) == 4
    assert rise(before, {"deny": 6, "bad_flags": 2}, ["deny"]) == 6, "an interface that was attached again"
