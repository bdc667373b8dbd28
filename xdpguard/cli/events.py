# SPDX-License-Identifier: GPL-2.0
"""The command events."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard import units
from xdpguard.cli import drops, places, render, wanted
from xdpguard.cli.session import options, pins
from xdpguard.instance import require_privileges

if TYPE_CHECKING:
    from xdpguard.cli.answers.traffic import Drop as Dropped
    from xdpguard.cli.wanted import Wanted
    from xdpguard.telemetry.attribution import Attribution
    from xdpguard.telemetry.drops import Drop

_EXAMPLES = """
\b
Examples:
  xdpguard events                          the latest drops, and why
  xdpguard events --follow                 each drop as it happens; Ctrl-C ends it
  xdpguard events -f --reason closed_port --for 1m
  xdpguard events --follow --json | jq -r '.packet'

These are samples: each reason is sampled separately, so that a flood of one
does not hide another. Without --follow, the latest are shown, 8 per reason and
CPU; with it, at most --rate per second, reason and CPU, and the rest is
counted. A * after the reason marks a packet that passed, because what decided
only observes. xdpguard capture writes samples to a file for Wireshark;
xdpguard stats counts every packet.
"""


def register(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command(epilog=_EXAMPLES)(events)


def events(
    context: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show drops as they happen, until Ctrl-C.")] = False,
    reason: drops.Reasons = None,
    interface: places.Interface = "",
    netns: places.Netns = None,
    count: drops.Count = 0,
    lasting: drops.Lasting = None,
    rate: Annotated[
        float,
        typer.Option(
            "--rate", metavar="N", help="With --follow: at most N per second, reason and CPU, at least 8; 0 for all."
        ),
    ] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; with --follow, a line for each.")] = False,
) -> None:
    """Show recently dropped packets, and why each was dropped."""
    from xdpguard.store.database import Store
    from xdpguard.telemetry.attribution import Attribution

    require_privileges()
    chosen = options(context)
    end = drops.seconds(rate, lasting)
    which = wanted.wanted(chosen, reason, interface, netns)
    with Store(chosen.instance.store, read_only=True) as store:
        attribution = Attribution(store)
        if not follow and end is None:
            _show_last(context, which, attribution, count, as_json)
            return
        with drops.Watch(chosen, which, rate) as watch:
            render.note("drops as they happen" + ("; end with Ctrl-C" if end is None else f", for {lasting}"))

            def take(drop: Drop) -> None:
                if as_json:
                    render.print_json(_answer(drop, attribution))
                else:
                    _say(drop, which, attribution)

            watch.run(take, count, end, sys.stdout.fileno())
            missed = watch.missed()
    render.note(missed.describe("shown"))


def _show_last(context: typer.Context, which: Wanted, attribution: Attribution, count: int, as_json: bool) -> None:
    from xdpguard.telemetry.drops import last

    chosen = options(context)
    found = [drop for drop in last(pins(chosen), which.places) if which.holds(drop)]
    found = found[-count:] if count else found
    total = drops.sums(chosen, *which.places)
    dropped = {name: number for name, number in total.dropped.items() if number and which.admits(name)}
    if as_json:
        from xdpguard.cli.answers.traffic import Events

        render.print_json(Events([_answer(drop, attribution) for drop in found], dropped, sum(total.lost.values())))
        return
    for drop in found:
        _say(drop, which, attribution)
    if not dropped:
        render.say(
            "nothing dropped since attaching"
            if not which.reasons
            else "nothing dropped for that reason since attaching"
        )
        return
    counts = ", ".join(f"{name} {units.number(number)}" for name, number in dropped.items())
    render.note(f"samples shown: {len(found)}; dropped since attaching: {counts}; --follow shows new drops")


def _say(drop: Drop, which: Wanted, attribution: Attribution) -> None:
    """Print a drop, its reason red, or yellow if the packet passed."""
    render.say(line(drop, which, attribution), "yellow" if drop.observed else "red", drop.reason.name)


def _answer(drop: Drop, attribution: Attribution) -> Dropped:
    from xdpguard.capture.line import write
    from xdpguard.cli.answers.traffic import Drop as Dropped

    packet, entry = drops.read(drop, attribution)
    return Dropped(
        time=drop.at / 1e9,
        interface=drop.place[0],
        netns=drop.place[1] or None,
        reason=drop.reason.name,
        observed=drop.observed,
        packet=write(packet) if packet else None,
        length=drop.length,
        entry=entry,
        frame=drop.frame.hex(),
    )


def line(drop: Drop, which: Wanted, attribution: Attribution) -> str:
    """Format a drop as a line of text."""
    from xdpguard.capture.line import write
    from xdpguard.telemetry.attribution import describe

    packet, entry = drops.read(drop, attribution)
    seconds, rest = divmod(drop.at, 1_000_000_000)
    moment = time.strftime("%H:%M:%S", time.localtime(seconds))
    if time.localtime(seconds)[:3] != time.localtime()[:3]:
        moment = time.strftime("%Y-%m-%d ", time.localtime(seconds)) + moment
    what = write(packet) if packet else f"{drop.length} bytes: {drop.frame[:32].hex()}"
    why = describe(entry)
    mark = "*" if drop.observed else ""
    parts = [f"{moment}.{rest // 1_000_000:03}", which.shown(drop.place), f"{drop.reason.name}{mark}".ljust(12), what]
    return "  ".join([*parts, *([why] if why else [])])
