# SPDX-License-Identifier: GPL-2.0
"""What `status` says of made-up states: its first line, the lines below the table, and who runs as the service."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from xdpguard.cli.health import Waiting
from xdpguard.cli.status_read import Flood, Found, Rates
from xdpguard.cli.status_shown import _row, headline, lines, notes
from xdpguard.control.answering import Silence
from xdpguard.control.audit import Audit
from xdpguard.control.interfaces import Interface
from xdpguard.control.results import Share
from xdpguard.instance import Instance
from xdpguard.store.database import Store
from xdpguard.store.fleet import JOINED
from xdpguard.store.origins import count_of

ETH0 = Interface("eth0", "", "native", False, 7, "attached", mtu=1500, any_mtu=True)
ETH1 = Interface("eth1", "inner", "generic", True, 8, "attached", mtu=1500, any_mtu=True)
SILENCE = Silence(True, "no answer leaves", "attach it in generic mode", "controller")


class Answers:
    """Whether the guards of interfaces can answer."""

    def __init__(self, mode: str = "auto", **silences: Silence | None) -> None:
        self.mode = mode
        self.silences: dict[tuple[str, str], Silence | None] = {("eth0", ""): None, ("eth1", "inner"): None}
        self.silences |= {(name, ""): its for name, its in silences.items()}

    def failing(self, interfaces: list[Interface]) -> Iterator[tuple[Interface, Silence]]:
        for it in interfaces:
            if found := self.silences.get((it.name, it.netns)):
                yield it, found


def state(*interfaces: Interface, answers: Answers | None = None, **values: Any) -> Found:
    """An instance in which nothing is stored, and these interfaces are attached."""
    nothing: dict[str, Any] = {
        "rules": {"allow": 0, "block": 0, "port": 0}, "bans": 0, "lists": {}, "shadow_rules": 0, "shadow_lists": {},
        "filters": {"enforce": 0, "shadow": 0}, "default": "pass", "audit": Audit(Share(0, 0), {}), "awaited": [],
        "unread": "", "conflicts": [], "everybody": [], "waiting": Waiting(None, None), "bridges": [], "away": [],
        "clock": [], "fleet": "",
    }  # fmt: skip
    reach: Any = answers or Answers()
    return Found(instance="default", interfaces=list(interfaces), answers=reach, **(nothing | values))


FLOOD = {("eth0", ""): Flood(12.3, "SYN rate", 443)}


@pytest.mark.parametrize(
    ("found", "word", "text", "colour"),
    [
        (state(), "ok", "OK: nothing is attached; attach with: xdpguard attach IFACE", ""),
        (state(ETH0), "ok", "OK: 1 interface attached", "green"),
        (state(ETH0, ETH1), "ok", "OK: 2 interfaces attached, 1 of them only observing", "green"),
        (state(ETH0, floods=FLOOD), "flood", "FLOOD on eth0: SYN rate, port 443; guard active for 12s", "red"),
        (state(replace(ETH1, state="gone")), "degraded", "DEGRADED: eth1 (in inner) is gone", "red"),
        (
            state(replace(ETH0, state="detached"), ETH1, awaited=[("eth2", "")], unread="line 3", floods=FLOOD),
            "degraded",
            "DEGRADED: eth0 is detached; and 2 more faults; flood on eth0: SYN rate, port 443; guard active for 12s",
            "red",
        ),
        (
            state(ETH0, answers=Answers(eth0=SILENCE)),
            "degraded",
            "DEGRADED: the SYN guard on eth0 does not answer SYNs; in a flood they go to the kernel: no answer leaves;"
            " attach it in generic mode",
            "red",
        ),
    ],
)
def test_the_first_line(found: Found, word: str, text: str, colour: str) -> None:
    assert (found.state, *headline(found)) == (word, text, colour)


def test_the_lines_below() -> None:
    nothing = {name: text for name, text, _ in lines(state(ETH0))}
    assert nothing == {"run": "not active; start it with: xdpguard run", "rules": "0 allow, 0 block, 0 port"}
    found = state(
        ETH0,
        rules={"allow": 2, "block": 1200, "port": 1},
        bans=3,
        lists={"bad": 4500},
        shadow_rules=1,
        shadow_lists={"tor": 10},
        filters={"enforce": 2, "shadow": 5},
        default="drop, in shadow",
        fleet="connected",
        service=12,
        metrics=["http://127.0.0.1:9782/metrics"],
        others={"lab": ["eth8", "eth9"]},
    )
    assert list(lines(found)) == [
        ("run", "active, process 12", ""),
        ("metrics", "http://127.0.0.1:9782/metrics", ""),
        ("rules", "2 allow, 1,200 block (3 bans of the guard), 1 port", ""),
        ("lists", "bad (4,500)", ""),
        ("filters", "2", ""),
        ("shadow", "1 rule, 5 filters, tor (10); they only count", "dim"),
        ("default", "drop, in shadow", ""),
        ("fleet", "connected", ""),
        ("instance", "lab: attached to eth8, eth9", "dim"),
    ]


@pytest.mark.parametrize(
    ("its", "answers", "floods", "text"),
    [
        (ETH0, Answers(), {}, "watching"),
        (ETH0, Answers("always"), {}, "always"),
        (ETH0, Answers("off"), {}, "off"),
        (ETH0, Answers("observe"), {}, "observing"),
        (ETH0, Answers(), FLOOD, "active"),
        (ETH0, Answers("observe"), FLOOD, "would act"),
        (replace(ETH0, observe=True), Answers(), FLOOD, "would act"),
        (ETH0, Answers(eth0=SILENCE), {}, "cannot answer"),
        (replace(ETH0, name="eth7", state="detached"), Answers(), {}, "-"),
    ],
)
def test_what_the_guard_does(its: Interface, answers: Answers, floods: dict[tuple[str, str], Flood], text: str) -> None:
    cells = [it if isinstance(it, str) else it.text for it in _row(state(its, answers=answers, floods=floods), its)]
    assert cells[5] == text


def test_rates_and_drops_in_red() -> None:
    row = _row(state(ETH0, rates={("eth0", ""): Rates(11_654.2, 1135.0)}), ETH0)
    assert [(it.text, it.raw, it.colour) for it in row[3:5] if not isinstance(it, str)] == [
        ("11,654", "11654", ""),
        ("1,135", "1135", "red"),
    ]
    assert [it.text for it in _row(state(ETH0), ETH0)[3:5] if not isinstance(it, str)] == ["-", "-"]


def test_what_is_wrong_has_a_remedy() -> None:
    found = state(ETH0, awaited=[("eth2", "")], unread="line 3", answers=Answers(eth0=SILENCE), away=["the bridge x"])
    said = list(notes(found))
    assert "eth2 is named in the configuration but not attached; xdpguard run attaches it" in said
    assert any(it.endswith("attach it in generic mode") for it in said)
    assert len(found.degraded) == len(said) == 4
    unreached = state(ETH0, audit=None)
    assert list(notes(unreached)) == unreached.degraded
    assert unreached.degraded[0].endswith("its maps are no longer pinned; attach it again")


def test_who_is_the_service(tmp_path: Path) -> None:
    its = Instance("mine", tmp_path, tmp_path)
    assert its.served_by() == 0
    with its.service():
        assert its.served_by() == os.getpid()
        assert Instance("other", tmp_path, tmp_path).served_by() == 0
    assert its.served_by() == 0, "the file is there, the lock is not"


def test_how_the_host_stands_in_its_fleet(tmp_path: Path) -> None:
    from xdpguard.cli.health import fleet
    from xdpguard.fleet.hosts import HostState, Standing, record

    with Store(tmp_path / "store.db") as store:
        assert fleet(store, 1000.0) == ""
        with store.transaction():
            store.put_fact(JOINED, "{}")
        assert fleet(store, 1000.0) == "joined; xdpguard run has not followed it yet"
        record(store, Standing(True, "", 0, 990.0, HostState(wanted=1200, held=1199, refused=1, at=995.0)))
        assert fleet(store, 1000.0) == "connected; 1,199 of 1,200 entries in force, 1 refused; 5s ago"
        record(store, Standing(False, "refused", 0, 990.0, HostState(at=995.0)))
        assert fleet(store, 1000.0) == "not connected: refused; 0 of 0 entries in force; 5s ago"
        assert count_of(store, "enforce", "guard", 1000.0) == 0
