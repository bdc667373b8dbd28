# SPDX-License-Identifier: GPL-2.0
"""The command capture."""

from __future__ import annotations

import contextlib
import platform
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard import __version__
from xdpguard.cli import drops, places, render, wanted
from xdpguard.cli.session import options
from xdpguard.errors import UsageError
from xdpguard.instance import require_privileges

if TYPE_CHECKING:
    from xdpguard.capture.output import Output
    from xdpguard.cli.drops import Missed
    from xdpguard.cli.wanted import Wanted
    from xdpguard.telemetry.attribution import Attribution
    from xdpguard.telemetry.drops import Drop, Place

_EXAMPLES = """
\b
Examples:
  xdpguard capture drops.pcapng                        until Ctrl-C
  xdpguard capture -w drops.pcapng --reason deny --count 1000
  xdpguard capture -w - | tshark -r - -T fields -e frame.comment -e ip.src
  xdpguard capture -w drops.pcapng --rate 0 --for 10s  every drop, if it can keep up

The first 128 bytes of each packet are written. Its comment, which Wireshark
shows, gives the reason, and the rule, list or filter that decided. The file's
statistics say how many drops it lacks.
"""
_PASS, _DROP = 2, 1  # enum xdp_action
_WHAT = "packets dropped by xdpguard"
_SHOWN_EACH = 0.25  # seconds between two updates of the progress line


def register(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command(epilog=_EXAMPLES)(capture)


def capture(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="As --write.", show_default=False)] = "",
    write: Annotated[
        str, typer.Option("--write", "-w", metavar="FILE", help="The pcapng file; - for standard output.")
    ] = "",
    reason: drops.Reasons = None,
    interface: places.Interface = "",
    netns: places.Netns = None,
    count: drops.Count = 0,
    lasting: drops.Lasting = None,
    rate: Annotated[
        float,
        typer.Option("--rate", metavar="N", help="At most N per second, reason and CPU, at least 8; 0 for all."),
    ] = 1000,
) -> None:
    """Write headers of dropped packets to a pcapng file, the reason in each packet's comment."""
    from xdpguard.capture.output import Output
    from xdpguard.store.database import Store
    from xdpguard.telemetry.attribution import Attribution

    if bool(file) == bool(write):
        what = f"two files to write to: {file} and {write}" if file else "no file to write to"
        raise UsageError(what, "name one, or - for standard output: xdpguard capture drops.pcapng")
    require_privileges()
    chosen = options(context)
    end = drops.seconds(rate, lasting)
    which = wanted.wanted(chosen, reason, interface, netns)
    with (
        Store(chosen.instance.store, read_only=True) as store,
        drops.Watch(chosen, which, rate) as watch,
        Output(write or file) as output,
    ):
        # The reader of a pipe may close it at any time.
        with contextlib.suppress(BrokenPipeError):
            into = _Into(output, which, Attribution(store))
            try:
                watch.run(into.take, count, end, output.fd, into.progress)
            finally:
                into.leave()
            into.finish(watch.missed())
        missed = watch.missed()
    render.note(missed.describe("captured"))


class _Into:
    """The file to which drops are written."""

    def __init__(self, output: Output, which: Wanted, attribution: Attribution) -> None:
        from xdpguard.capture.writer import Writer
        from xdpguard.dataplane.sys.abi import DROP_FRAME

        self._attribution = attribution
        self._numbers: dict[Place, int] = {place: number for number, place in enumerate(which.places)}
        self._which = which
        self._written: Counter[int] = Counter()
        described = [(places.key(*place), _WHAT) for place in which.places]
        system = f"{platform.system()} {platform.release()}"
        self._writer = Writer(output.write, described, DROP_FRAME, f"xdpguard {__version__}", system)
        self._terminal = sys.stderr.isatty()
        self._shown = 0.0

    def take(self, drop: Drop) -> None:
        """Write a drop."""
        number = self._numbers.get(drop.place)
        if number is None:  # attached meanwhile
            number = self._numbers[drop.place] = len(self._numbers)
            self._writer.interface(places.key(*drop.place), _WHAT)
        verdict = _PASS if drop.observed else _DROP
        self._writer.packet(number, drop.at, drop.frame, drop.length, self._comment(drop), verdict)
        self._written[number] += 1

    def _comment(self, drop: Drop) -> str:
        from xdpguard.telemetry.attribution import describe

        why = describe(drops.read(drop, self._attribution)[1])
        passed = "; only observed, so it passed" if drop.observed else ""
        return f"{drop.reason.name}: {drop.reason.help}" + (f"; {why}" if why else "") + passed

    def progress(self) -> None:
        """Show progress, on a terminal only."""
        now = time.monotonic()
        if self._terminal and now - self._shown > _SHOWN_EACH:
            self._shown = now
            typer.echo(f"\r{self._written.total():,} captured; end with Ctrl-C ", err=True, nl=False)

    def leave(self) -> None:
        """Clear the progress line."""
        if self._terminal:
            typer.echo("\r\x1b[K", err=True, nl=False)

    def finish(self, missed: Missed) -> None:
        """Write, for each interface, how many drops are in the file and how many are not."""
        for place, number in self._numbers.items():
            written = self._written[number]
            self._writer.statistics(number, written, max(0, missed.found[place][0] - written))
