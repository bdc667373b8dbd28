# SPDX-License-Identifier: GPL-2.0
"""What events and capture share: reading drops as they happen, and counting missed ones."""

from __future__ import annotations

import select
import signal
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Self

import typer

from xdpguard import signals, units
from xdpguard.cli import render
from xdpguard.cli.session import Options, pins
from xdpguard.cli.wanted import Wanted
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.policy.duration import parse_duration

if TYPE_CHECKING:
    from xdpguard.capture.packet import Packet
    from xdpguard.telemetry.attribution import AnyEntry, Attribution
    from xdpguard.telemetry.drops import Drop, Place, Sums

Reasons = Annotated[
    list[str] | None, typer.Option("--reason", metavar="REASON", help="Only drops for this reason; may be repeated.")
]
Count = Annotated[
    int, typer.Option("--count", "-n", "-c", metavar="N", min=0, show_default=False, help="Stop after N drops.")
]
Lasting = Annotated[str | None, typer.Option("--for", metavar="TIME", help="Stop after this time, such as 30s or 5m.")]
_TURN = 1.0  # seconds between two requests for samples
_WORST = 1_000_000  # samples a second


def seconds(rate: float, lasting: str | None) -> float | None:
    """Return --for in seconds, None if not given. Raise UsageError for an invalid duration or rate."""
    if not 0 <= rate <= _WORST:
        raise UsageError(
            f"--rate {rate:g} is not a rate", f"give samples per second, from 0 (every drop) to {_WORST:,}"
        )
    return None if lasting is None else parse_duration(lasting)


class Watch:
    """Drops as they happen. Use as a context manager, which locks out other readers and asks for samples.

    Raise XdpguardError if there is a reader already. ``taken``: how many were handed over.
    """

    def __init__(self, chosen: Options, which: Wanted, rate: float) -> None:
        self._chosen, self._which, self._rate = chosen, which, rate
        self._held = ExitStack()
        self.taken = 0

    def __enter__(self) -> Self:
        from xdpguard.telemetry.drops import Drops

        with ExitStack() as held:
            held.enter_context(self._chosen.instance.reader())
            self._drops = held.enter_context(
                Drops(pins(self._chosen), self._which.places, self._rate, self._which.reasons)
            )
            held.enter_context(signals.handled(signal.default_int_handler, signal.SIGTERM, signal.SIGHUP))
            self.before = {place: sums(self._chosen, place) for place in self._which.places}
            # A Ctrl-C before run() is ready for it stays pending until then.
            held.enter_context(signals.blocked(*signals.ENDING))
            self._held = held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def run(
        self,
        take: Callable[[Drop], None],
        count: int,
        lasting: float | None,
        output: int,
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        """Pass each drop to ``take``, until ``count`` drops (0: no limit), ``lasting`` seconds (None: none), Ctrl-C,
        SIGTERM or SIGHUP, or until the pipe ``output`` has no reader any more.

        ``waiting`` is called about once a second, and after each batch. Raise XdpguardError once the watched
        interfaces are detached.
        """
        from xdpguard.telemetry.drops import RING

        end = None if lasting is None else time.monotonic() + lasting
        left = _TURN
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.ENDING)
            while left > 0:
                if end is not None:
                    left = min(_TURN, end - time.monotonic())
                select.select([self._drops], [], [], max(0.0, left))
                self._drops.ask()
                self._look()
                if self._take(take, count):
                    return
                waiting()
                if render.reader_gone(output):
                    return
                if pins(self._chosen).ring_id(RING) != self._drops.id:
                    raise XdpguardError("the watched interfaces were detached", "attach again: xdpguard attach IFACE")
        except KeyboardInterrupt:
            self._take(take, count)  # the drops that have arrived by then

    def _look(self) -> None:
        """Follow interfaces attached meanwhile, whose counters started at zero."""
        from xdpguard.telemetry.counters import dropping
        from xdpguard.telemetry.drops import Sums

        new = self._which.look(self._chosen)
        if new:
            self._drops.follow(self._which.places)
            nothing = dict.fromkeys(dropping(), 0)
            self.before |= dict.fromkeys(new, Sums(nothing, nothing, nothing))

    def _take(self, take: Callable[[Drop], None], count: int) -> bool:
        """Hand over the drops that have arrived; return whether ``count`` is reached."""
        for drop in self._drops.read():
            if self._which.holds(drop):
                take(drop)
                self.taken += 1
                if self.taken == count:
                    return True
        return False

    def missed(self) -> Missed:
        """Return how many drops there were meanwhile, and how many were not handed over."""
        found = {}
        for place, before in self.before.items():
            try:
                after = sums(self._chosen, place)
            except XdpguardError:  # detached meanwhile
                found[place] = 0, 0
                continue
            names = self._which.reasons or after.dropped
            found[place] = rise(before.dropped, after.dropped, names), rise(before.lost, after.lost, names)
        return Missed(found, self.taken)


def rise(before: Mapping[str, int], after: Mapping[str, int], names: Collection[str]) -> int:
    """Return by how much counters have risen. After a decrease, the interface was attached again, from zero."""
    anew = any(after[name] < before[name] for name in after)
    return sum(after[name] - (0 if anew else before[name]) for name in names)


@dataclass
class Missed:
    """Drops, and samples lost to a full ring, by interface; ``taken``: how many drops were handed over."""

    found: dict[Place, tuple[int, int]]
    taken: int

    def describe(self, verb: str) -> str:
        """Return these numbers in one line."""
        dropped, lost = (sum(column) for column in zip(*self.found.values(), strict=True))
        dropped = max(dropped, self.taken)  # an interface was detached
        over = max(0, dropped - self.taken - lost)
        text = f"{units.number(self.taken)} of {units.counted(dropped, 'drop')} {verb}"
        if over:
            text += f"; {units.number(over)} exceeded the rate (see --rate) or came at the very end"
        if lost:
            text += f"; {units.counted(lost, 'came faster than it', 'came faster than they')} could be read"
        return text


def read(drop: Drop, attribution: Attribution) -> tuple[Packet | None, AnyEntry | None]:
    """Return the packet, if it can be decoded, and the rule, list or filter that decided, if one did."""
    from xdpguard.capture.packet import decode
    from xdpguard.telemetry.drops import FILTER, LIST, RULE

    packet = decode(drop.frame)
    source = packet.source if packet else None
    if drop.entry == RULE:
        return packet, attribution.rule(drop.number, source, drop.at / 1e9)
    if drop.entry == LIST:
        return packet, attribution.list(drop.number, source, drop.at / 1e9)
    if drop.entry == FILTER:
        return packet, attribution.filter(drop.number, drop.reason.name == "filter_limit", drop.at / 1e9)
    return packet, None


def sums(chosen: Options, *places: Place) -> Sums:
    """Return the sums of interfaces' drop counters."""
    from xdpguard.telemetry import drops

    return drops.sums(pins(chosen), places)
