# SPDX-License-Identifier: GPL-2.0
"""tcp cwnd: congestion windows over time."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard import units
from xdpguard.cli import output, render
from xdpguard.cli.columns import Column, Row, number, size
from xdpguard.cli.tcp import columns, loop, options
from xdpguard.errors import UsageError
from xdpguard.instance import require_privileges
from xdpguard.policy.duration import parse_interval

if TYPE_CHECKING:
    from xdpguard.tcp.cwnd import Sample

_PAUSE = 0.05
_REMEMBERED = 10_000  # connections
_SPARKS = 32
_SWEEP = 10.0  # seconds between two searches for connections whose end was lost
_CLEAR = "\x1b[H\x1b[2J"
_SHORTEST, _LONGEST = 0.001, 3600.0  # seconds between two samples

_EXAMPLES = """
\b
Examples:
  xdpguard tcp cwnd                                  a table every second; Ctrl-C ends it
  xdpguard tcp cwnd --remote 198.51.100.7 --every 10ms
  xdpguard tcp cwnd --for 30s --json > samples.json  every sample, for plotting

A connection is sampled when it receives a segment, at most once per --every.
"""


def register(group: typer.Typer) -> None:
    """Add the command to the group."""
    group.command(epilog=_EXAMPLES)(options.with_sockets(cwnd))


def cwnd(
    sockets: options.Sockets,
    every: Annotated[
        str, typer.Option("--every", metavar="TIME", help="Sample a connection at most once in this time.")
    ] = "100ms",
    interval: Annotated[str, typer.Option("--interval", metavar="TIME", help="Print a table at this interval.")] = "1s",
    top: Annotated[int, typer.Option("--top", metavar="N", min=0, help="How many connections; 0 for all.")] = 20,
    length: options.Length = None,
    wide: options.Wide = False,
    as_json: Annotated[bool, output.json_option("Print every sample, one JSON object a line.")] = False,
    _output: output.Output = "",
) -> None:
    """Show congestion window, slow-start threshold, round-trip time and windows of connections over time."""
    from xdpguard.tcp.cwnd import History, Windows, living

    chosen = sockets.filter()
    until, again, least = options.seconds(length), parse_interval(interval), parse_interval(every)
    if not _SHORTEST <= least <= _LONGEST:
        raise UsageError("--every is too short or too long", "give 1ms to 1h")
    require_privileges()
    shown = _Shown(top, wide)
    with Windows(chosen, least) as running:
        history, due = History(_REMEMBERED, _SPARKS), time.monotonic() + again
        swept = time.monotonic()
        for last in loop.rounds("sampling congestion windows", _PAUSE, until):
            running.inodes.refresh()
            samples = running.read()
            if as_json:
                loop.write(shown.json(samples))
                continue
            history.add(samples)
            if time.monotonic() - swept >= _SWEEP:
                history.sweep(living())
                swept = time.monotonic()
            if last or time.monotonic() >= due:
                due = max(due + again, time.monotonic())
                shown.table(history.connections(), running.lost())
        if running.lost():
            words = loop.lost_words(running.lost(), "sample", "read")
            render.note(f"{words}; try a longer --every")
        if running.inodes.left_out:
            words = render.counted(running.inodes.left_out, "socket of the process was", "sockets of the process were")
            render.note(f"{words} not observed: it has too many")


class _Shown:
    """Print samples in the terminal, or as JSON."""

    def __init__(self, top: int, wide: bool) -> None:
        from xdpguard.tcp import text
        from xdpguard.tcp.namespaces import Names

        self._top = top
        self._wide = wide
        self._clock = text.Clock()
        self._names = Names()
        self._text = text

    def json(self, samples: Iterable[Sample]) -> Iterable[str]:
        """Yield every sample as a JSON line; a connection's end has no values."""
        from xdpguard.cli.answers.tcp import Sample as Answer
        from xdpguard.cli.answers.tcp import wide

        for it in samples:
            windows = {
                "cwnd": it.window,
                "ssthresh": it.threshold,
                "srtt_us": it.srtt,
                "send_window": it.send_window,
                "receive_window": it.receive_window,
                "in_flight": it.flight,
                "skipped": it.skipped,
            }
            found = Answer(
                time=round(self._clock.unix(it.at), 6),
                netns=self._names.name(it.netns),
                local=self._text.address(it.local),
                local_port=it.local_port,
                remote=self._text.address(it.remote),
                remote_port=it.remote_port,
                **({"closed": True} if it.closed else windows),
                **(wide(it.sk, it.netns) if self._wide else {}),
            )
            yield render.json_line(found)

    def table(self, connections: list[list[Sample]], lost: int) -> None:
        """Print the connections with the largest windows, and the windows' history."""
        from xdpguard.tcp.cwnd import sparkline

        if sys.stdout.isatty():
            typer.echo(_CLEAR, nl=False)
        else:
            render.say(f"--- {units.moment(time.time())}")
        rows = []
        for its in connections[: self._top or None]:
            now = its[-1]
            row: Row = [
                self._names.name(now.netns) or "-",
                self._text.end(now.local, now.local_port),
                self._text.end(now.remote, now.remote_port),
                number(now.window),
                number(now.threshold),
                f"{now.srtt / 1000:.3f}",
                size(now.send_window),
                size(now.receive_window),
                size(now.flight),
                sparkline(it.window for it in its),
            ]
            rows.append(row + ([f"{now.sk:#x}"] if self._wide else []))
        if rows:
            render.print_table([*columns.WINDOWS, *([Column("socket")] if self._wide else [])], rows)
        else:
            render.say("no established connection has received anything yet")
        if len(connections) > len(rows):
            render.say(f"and {len(connections) - len(rows):,} more; --top 0 shows all")
        if lost:
            render.say(f"{render.counted(lost, 'sample')} lost")
        loop.write([])
