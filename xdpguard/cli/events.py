# SPDX-License-Identifier: GPL-2.0
"""events."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard import units
from xdpguard.cli import drops, places, render
from xdpguard.cli.session import options, pins
from xdpguard.instance import require_privileges

if TYPE_CHECKING:
    from xdpguard.cli.answers.traffic import Drop as Dropped
    from xdpguard.cli.drops import Wanted
    from xdpguard.telemetry.attribution import Attribution
    from xdpguard.telemetry.drops import Drop

_EXAMPLES = """
\b
Examples:
  xdpguard events                          the last drops, and why
  xdpguard events --follow                 each as it happens; end with Ctrl-C
  xdpguard events -f --reason closed_port --for 1m
  xdpguard events --follow --json | jq -r '.packet'
\b
These are samples: each reason has its own, so that a flood of one does not
hide another. Without --follow the last ones are shown, 8 of a reason and CPU.
With it at most --rate a second of each reason on each CPU come, and what did
not is counted. A * behind the reason: it passed, as what decided only
observes. xdpguard capture writes them to a file for Wireshark, xdpguard stats
counts every packet.
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
    lasting: drops.Lasting = "",
    rate: Annotated[
        float,
        typer.Option(
            "--rate", metavar="N", help="With --follow: N a second of each reason and CPU, 8 at least; 0: all."
        ),
    ] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; with --follow, a line for each.")] = False,
) -> None:
    """Show which packets were dropped of late, and why each of them was."""
    from xdpguard.store.database import Store
    from xdpguard.telemetry.attribution import Attribution

    require_privileges()
    chosen = options(context)
    end = drops.seconds(rate, lasting)
    which = drops.wanted(chosen, reason, interface, netns)
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
                    render.say(line(drop, which, attribution))

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
        render.say(line(drop, which, attribution))
    if not dropped:
        render.say(
            "nothing was dropped since attaching" if not which.reasons else "nothing was dropped for that reason"
        )
        return
    counts = ", ".join(f"{name} {units.number(number)}" for name, number in dropped.items())
    render.note(f"the last {len(found)} samples; dropped since attaching: {counts}. --follow shows what comes")


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
    what = write(packet) if packet else f"{drop.length} octets: {drop.frame[:32].hex()}"
    why = describe(entry)
    mark = "*" if drop.observed else ""
    parts = [f"{moment}.{rest // 1_000_000:03}", which.shown(drop.place), f"{drop.reason.name}{mark}".ljust(12), what]
    return "  ".join([*parts, *([why] if why else [])])
