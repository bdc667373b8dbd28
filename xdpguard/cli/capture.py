# SPDX-License-Identifier: GPL-2.0
"""capture."""

from __future__ import annotations

import os
import platform
import stat
import sys
import time
from collections import Counter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from xdpguard import __version__
from xdpguard.cli import drops, render
from xdpguard.cli.session import options
from xdpguard.errors import UsageError
from xdpguard.privileges import require_privileges

if TYPE_CHECKING:
    from xdpguard.cli.drops import Missed, Wanted
    from xdpguard.lists.culprits import Culprits
    from xdpguard.telemetry.drops import Drop, Place

_EXAMPLES = """
\b
Examples:
  xdpguard capture -w drops.pcapng                      until Ctrl-C
  xdpguard capture -w drops.pcapng --reason deny --count 1000
  xdpguard capture -w - | tshark -r - -T fields -e frame.comment -e ip.src
  xdpguard capture -w drops.pcapng --rate 0 --for 10s   every drop, as far as it can be kept up with
\b
Of each packet the first 128 octets are written, with the reason, the rule or list, and the verdict as Wireshark shows
them: in the packet's comment. The file's statistics say how many drops it does not hold.
"""
_PASS, _DROP = 2, 1  # enum xdp_action
_SHOWN_EACH = 0.25  # s between two lines of progress


def register(app: typer.Typer) -> None:
    """Adds this command to the application."""
    app.command(epilog=_EXAMPLES)(capture)


def capture(
    context: typer.Context,
    write: Annotated[
        str, typer.Option("--write", "-w", metavar="FILE", help="The pcapng file; - for standard output.")
    ],
    reason: drops.Reasons = None,
    interface: drops.Interface = "",
    netns: drops.Netns = None,
    count: drops.Count = 0,
    lasting: drops.Lasting = "",
    rate: Annotated[
        float, typer.Option("--rate", metavar="N", help="At most so many a second, of each reason and CPU; 0: all.")
    ] = 1000,
) -> None:
    """Write dropped packets' headers to a pcapng file, with the reason of each in its comment."""
    from xdpguard.lists.culprits import Culprits
    from xdpguard.lists.store import Store

    require_privileges()
    chosen = options(context)
    drops.check_rate(rate)
    end = drops.seconds(lasting)
    which = drops.wanted(chosen, reason, interface, netns)
    with (
        Store(chosen.instance.store, read_only=True) as store,
        drops.Watch(chosen, which, rate) as watch,
        _opened(write) as file,
    ):
        into = _Into(file, which, Culprits(store))
        try:
            watch.run(into.take, count, end, into.progress)
        finally:
            into.leave()
        missed = watch.missed()
        into.finish(missed)
    render.note(missed.in_words("captured"))


def _opened(name: str) -> IO[bytes]:
    if name == "-":
        if sys.stdout.isatty():
            raise UsageError("-w - writes binary data, and standard output is a terminal", "name a file, or pipe it")
        return os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    try:
        path = Path(name)
        if path.exists() and not stat.S_ISREG(path.stat().st_mode) and not path.is_fifo():
            raise UsageError(f"{name} is no file", "name a file to be written")
        return path.open("wb")
    except OSError as error:
        raise UsageError(f"cannot write {name}: {error.strerror}", "name a file that can be written") from error


class _Into:
    """A file that drops are written to."""

    def __init__(self, file: IO[bytes], which: Wanted, culprits: Culprits) -> None:
        from xdpguard.capture.writer import Writer
        from xdpguard.dataplane.abi import DROP_FRAME

        self._culprits = culprits
        self._numbers: dict[Place, int] = {place: number for number, place in enumerate(which.places)}
        self._written: Counter[int] = Counter()
        described = [(which.label(place), "what xdpguard drops") for place in which.places]
        system = f"{platform.system()} {platform.release()}"
        self._writer = Writer(file, described, DROP_FRAME, f"xdpguard {__version__}", system)
        self._terminal = sys.stderr.isatty()
        self._shown = 0.0

    def take(self, drop: Drop) -> None:
        """Writes one."""
        number = self._numbers[drop.place]
        verdict = _PASS if drop.observed else _DROP
        self._writer.packet(number, drop.at, drop.frame, drop.length, self._comment(drop), verdict)
        self._written[number] += 1

    def _comment(self, drop: Drop) -> str:
        from xdpguard.lists.culprits import in_words

        why = in_words(drops.entry(drop, self._culprits))
        passed = "; only observed, so it passed" if drop.observed else ""
        return f"{drop.reason.name}: {drop.reason.help}" + (f"; {why}" if why else "") + passed

    def progress(self) -> None:
        """Says on a terminal how far it is."""
        now = time.monotonic()
        if self._terminal and now - self._shown > _SHOWN_EACH:
            self._shown = now
            typer.echo(f"\r{self._written.total():,} captured; end with Ctrl-C ", err=True, nl=False)

    def leave(self) -> None:
        """Clears that line."""
        if self._terminal:
            typer.echo("\r\x1b[K", err=True, nl=False)

    def finish(self, missed: Missed) -> None:
        """Writes how many drops of each interface are in the file, and how many are not."""
        for place, number in self._numbers.items():
            written = self._written[number]
            self._writer.statistics(number, written, max(0, missed.found[place][0] - written))
