# SPDX-License-Identifier: GPL-2.0
"""The live screen on made-up readings, and what it shows."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from textual.pilot import Pilot

from support.patience import patient
from xdpguard.control.filters import FilterWithHits
from xdpguard.control.interfaces import Interface, State
from xdpguard.control.results import ListHits
from xdpguard.control.ruleset import Ruleset
from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.tables import guard
from xdpguard.policy.filter import FilterHits
from xdpguard.policy.filters import FilterEntry
from xdpguard.policy.rule import Rule
from xdpguard.policy.target import MAPPED
from xdpguard.store.database import Store
from xdpguard.store.lists import NamedList
from xdpguard.tcp.snapshot import Listener, Queue
from xdpguard.telemetry import ranking
from xdpguard.telemetry.counters import Counters, ReasonCounts
from xdpguard.telemetry.dropped import By, End, Share
from xdpguard.tui.app import Top
from xdpguard.tui.board import Board
from xdpguard.tui.draw import UNICODE, Glyphs
from xdpguard.tui.history import History
from xdpguard.tui.messages import Arrived
from xdpguard.tui.reading import Reading, RuleHits, Rules, Seen, SeenList
from xdpguard.tui.view import View

WALL = 1_800_000_000.0
Ends = tuple[str, str, int, int]  # source, destination, port, SYNs
Dropped = dict[By, dict[End, Share]]


def counters(packets: dict[str, int] | None = None, syn: int = 0, observed: bool = False) -> Counters:
    """Packets by reason, sixty bytes each."""
    reasons = {reason.name: ReasonCounts() for reason in abi.reasons()}
    for name, count in (packets or {}).items():
        reasons[name] = ReasonCounts(0, 0, count, 60 * count) if observed else ReasonCounts(count, 60 * count)
    flags = dict.fromkeys(abi.FLAGS, 0) | {"syn": syn}
    return Counters(reasons, flags, {2: syn}, dict.fromkeys(abi.PROTOCOLS, 0), 0, 0, 0, 0)


def seen(
    name: str = "eth0",
    counts: Counters | None = None,
    state: State = "attached",
    active: float = 0.0,
    guarding: dict[str, int] | None = None,
    listeners: Sequence[Listener] = (),
) -> Seen:
    """An interface that was attached a minute ago; ``active``: Unix time from which its guard is."""
    its = Interface(name, "", "native", False, 7, state)
    held = guard.State(**(dict.fromkeys(guard.State._fields, 0) | (guarding or {})))
    return Seen(its, WALL - 60, counts or counters(), held, active, listeners=listeners)


def listening(port: int, half_open: int = 0, to_accept: int = 0, again: int = 0) -> Listener:
    """A listener at 192.0.2.1, with room for 128 in each queue."""
    address = MAPPED + socket.inet_aton("192.0.2.1")
    return Listener(
        address,
        port,
        1,
        (port,),
        Queue(to_accept, 128),
        Queue(to_accept, 128),
        Queue(half_open, 128),
        again,
        half_open,
        0,
    )


def rank(tuples: Iterable[Ends], dropped: Dropped | None = None) -> ranking.Syns:
    """What the tables of tuples would give; rates are the sums."""
    rows = list(tuples)
    syns = np.array([row[3] for row in rows], np.uint64)

    def ends(texts: list[str], port: bool) -> ranking.Ends:
        version = np.array([6 if ":" in text else 4 for text in texts], np.uint8)
        packed = [socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text) for text in texts]
        whole = [int.from_bytes(data, "big") for data in packed]
        high = np.array([number >> 64 for number in whole], np.uint64)
        low = np.array([number & (1 << 64) - 1 for number in whole], np.uint64)
        return ranking.Ends(version, high, low, np.array([row[2] if port else 0 for row in rows], np.uint16))

    wanted: dict[By, ranking.Ends] = {
        "source": ends([row[0] for row in rows], False),
        "destination": ends([row[1] for row in rows], False),
        "port": ends([row[1] for row in rows], True),
    }
    table = ranking.Table(np.arange(len(rows), dtype=np.uint64), syns)
    none = ranking.Table(np.zeros(0, np.uint64), np.zeros(0, np.uint64))
    rates, lost = syns.astype(np.float64), dropped or {}
    by = {name: ranking.rank(its, syns, rates, lost.get(name, {})) for name, its in wanted.items()}
    return ranking.Syns(0.0, (table, none), by)


def named(name: str, packets: int, kind: Literal["block", "shadow"] = "block") -> SeenList:
    """A list with its hits."""
    its = NamedList(name, 0, "cli", f"{name}.txt", "", "plain", WALL - 30, 10, 10, 0, 0, False)
    return SeenList(ListHits(its, packets, 0), kind)


def filtered(name: str, packets: int, above: int = 0, limit: str = "", shadow: bool = False) -> FilterWithHits:
    """A filter with its hits; it counts in the slot of the length of its name."""
    new = FilterEntry(name, "udp sport 53", "" if limit else "drop", limit, shadow=shadow).filter("cli", WALL - 30)
    return FilterWithHits(new.stored(0, len(name)), FilterHits(packets, 60 * packets, above, 60 * above))


@dataclass
class World:
    """Makes readings, a second apart, and the screen that shows them."""

    folder: Path
    interfaces: tuple[Seen, ...] = field(default_factory=lambda: (seen(),))
    rules: list[Rule] = field(default_factory=list)
    hits: dict[int, int] = field(default_factory=dict)  # packets by id of a rule
    lists: tuple[SeenList, ...] = ()
    filters: tuple[FilterWithHits, ...] = ()
    filtered: dict[int, dict[End, Share]] = field(default_factory=dict)
    tuples: list[Ends] = field(default_factory=list)
    dropped: Dropped = field(default_factory=dict)
    mode: str = "auto"
    fault: Exception | None = None
    waits: threading.Event | None = None  # a lock that somebody holds until it is set
    seconds: int = 0
    place: tuple[str, str] | None = None  # the interface that was asked for
    connected: set[str] = field(default_factory=set)  # addresses with a connection
    decided: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    chance: Share = field(default_factory=lambda: Share(0.0, 0.0, 0))

    def __post_init__(self) -> None:
        self.history = History()

    @property
    def store(self) -> Path:
        """Where changes go."""
        return self.folder / "store.db"

    def read(self) -> Reading:
        """The next reading."""
        self.seconds += 1
        if self.fault is not None:
            raise self.fault
        rules = Rules(self.rules)
        hits = np.array([(self.hits.get(it.id, 0), 0) for it in self.rules], np.uint64).reshape(-1, 2)
        return Reading(
            WALL + self.seconds,
            tuple(replace(it, at=self.seconds) for it in self.interfaces),
            self.mode,
            RuleHits(rules, hits, self.seconds),
            self.lists,
            self.seconds,
            rank(self.tuples, self.dropped),
            self.filters,
            self.filtered,
            self.decided,
            self.chance,
        )

    @contextmanager
    def opened(self, on_wait: Callable[[str], None]) -> Iterator[Ruleset]:
        """Rules and store, when the lock is free; nothing is attached to them."""
        if self.waits is not None:
            on_wait("waiting for another xdpguard command (process 77)")
            assert self.waits.wait(patient(60))
        with Store(self.store) as store:
            yield Ruleset(store, Nothing())

    def app(self, interval: float = 3600.0, glyphs: Glyphs = UNICODE) -> Top:
        """The screen. It reads once by itself, and then what `Screen.step` gives it."""
        return Top(
            View("test", interval, glyphs, place=self.place),
            self.read,
            self.opened,
            lambda it, _: str(it) in self.connected,
        )


class Nothing:
    """A data plane that is not attached."""

    pins: Any = None

    def exists(self) -> bool:
        return False

    def tables(self) -> Any:
        raise AssertionError

    shadow_tables = tables


class Screen:
    """A running screen under test."""

    def __init__(self, world: World, app: Top, pilot: Pilot[None]) -> None:
        self.world, self.app, self.pilot = world, app, pilot

    async def step(self) -> None:
        """The next reading arrives, or its fault."""
        try:
            message = Arrived(self.history.add(self.world.read()), "")
        except Exception as error:
            message = Arrived(None, str(error))
        self.app.post_message(message)
        await self.pilot.pause()

    @property
    def history(self) -> History:
        """That of the readings that `step` makes."""
        return self.world.history

    async def press(self, *keys: str) -> None:
        """Presses keys."""
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def sees(self, text: str) -> None:
        """Waits until a text is on the screen."""
        for _ in range(3000):
            if text in " ".join(self.text().split()):
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"{text!r} never came:\n{self.text()}")

    def lines(self) -> list[str]:
        """What is on the screen."""
        board = self.app.query_one(Board)
        return [board.render_line(row).text for row in range(board.size.height)]

    def text(self) -> str:
        """The same in one piece."""
        return "\n".join(self.lines())

    def line(self, begin: str) -> str:
        """The line that begins so."""
        return next((line for line in self.lines() if line.strip().startswith(begin)), "")

    def has(self, *texts: str) -> None:
        """Asserts that all of it is on the screen."""
        for text in texts:
            assert text in self.text(), f"{text!r} is not on the screen:\n{self.text()}"

    def has_not(self, *texts: str) -> None:
        """Asserts that nothing of it is."""
        for text in texts:
            assert text not in self.text(), f"{text!r} is on the screen:\n{self.text()}"

    def rows(self, *begins: str) -> list[str]:
        """Which of these begin a line, from the top."""
        return [it for line in self.lines() for it in begins if line.strip().startswith(it)]


def run(world: World, test: Callable[[Screen], Awaitable[None]], size: tuple[int, int] = (80, 24)) -> Top:
    """Runs a test on a screen that has had its first reading."""
    app = world.app()

    async def main() -> None:
        async with app.run_test(size=size) as pilot:
            screen = Screen(world, app, pilot)
            for _ in range(3000):
                if app.updates or app.view.fault:
                    break
                await asyncio.sleep(0.02)
            await screen.step()
            await test(screen)

    asyncio.run(main())
    return app
