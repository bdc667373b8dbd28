# SPDX-License-Identifier: GPL-2.0
"""tcp trace: one line per state transition."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard.cli import render
from xdpguard.cli.tcp import loop, options
from xdpguard.errors import UsageError
from xdpguard.instance import require_privileges
from xdpguard.policy.duration import parse_interval
from xdpguard.tcp.names import parse_states

if TYPE_CHECKING:
    from xdpguard.cli.answers.tcp import Transition as Answer
    from xdpguard.tcp.trace import Transition

_PAUSE = 0.05  # longest delay from a change to its line, seconds
_LOOK_FOR_LOST = 20  # rounds

_SPECIAL = frozenset(',"\r\n')  # characters that CSV quotes

_EXAMPLES = """
\b
Examples:
  xdpguard tcp trace                                 every transition on the whole host
  xdpguard tcp trace --local-port 443 --state CLOSE_WAIT,LAST_ACK
  xdpguard tcp trace --remote 198.51.100.0/24 --longer 10s
  xdpguard tcp trace --for 1m --csv > changes.csv
  xdpguard tcp trace --json | jq 'select(.new == "CLOSE" and .ms < 5)'

A process is named only where it is certain; most transitions happen while an unrelated process runs.
In TIME_WAIT the kernel continues with a timewait socket, whose end no tracepoint reports.
"""

Format = Callable[[Iterable["Transition"]], Iterable[str]]


def register(group: typer.Typer) -> None:
    """Add the command to the group."""
    group.command(epilog=_EXAMPLES)(options.with_sockets(trace))


def trace(
    sockets: options.Sockets,
    state: Annotated[
        list[str] | None, typer.Option("--state", metavar="STATE", help="From or to these states, comma-separated.")
    ] = None,
    longer: Annotated[
        str | None,
        typer.Option("--longer", metavar="TIME", help="Only after at least this long in the old state: 500ms, 10s."),
    ] = None,
    length: options.Length = None,
    wide: options.Wide = False,
    as_json: options.Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
) -> None:
    """Show every state transition of TCP sockets: the process, and how long the old state lasted."""
    from xdpguard.tcp.trace import Trace

    if as_json and as_csv:
        raise UsageError("--json and --csv cannot be combined", "leave one of them out")
    least = round(parse_interval(longer) * 1e9) if longer is not None else 0
    chosen = sockets.filter(parse_states(state or []), least)
    until = options.seconds(length)
    require_privileges()
    with Trace(chosen) as running:
        shown = _Lines(wide, bool(sockets.netns))
        style: Format = shown.json if as_json else shown.csv if as_csv else shown.text
        if not as_json:
            loop.write([shown.csv_head() if as_csv else shown.text_head()])
        told = missed = 0
        for number, last in enumerate(loop.rounds("tracing changes of TCP states", _PAUSE, until)):
            loop.write(style(running.read()))
            if last or number % _LOOK_FOR_LOST == 0:
                lost = running.lost()
                if lost > told:
                    render.note(loop.lost_words(lost - told, "transition", "written"))
                told, missed = lost, max(missed, running.missed())
        if missed:
            one = "transition on this host, wanted or not, came while the program ran, and was"
            many = "transitions on this host, wanted or not, came while the program ran, and were"
            render.note(f"{render.counted(missed, one, many)} lost")
        if running.unknown:
            words = render.counted(running.unknown, "transition is omitted", "transitions are omitted")
            render.note(f"{words}: the owner of the socket is unknown")


class _Lines:
    """Formats state transitions as lines."""

    def __init__(self, wide: bool, one_namespace: bool) -> None:
        from xdpguard.cli.answers.tcp import Transition as Answer
        from xdpguard.tcp import text
        from xdpguard.tcp.namespaces import Names

        self._made = Answer
        self._wide = wide
        self._one = one_namespace
        self._clock = text.Clock()
        self._names = Names()
        self._address, self._end = text.address, text.end

    def text_head(self) -> str:
        """Return the header of the table."""
        head = f"{'TIME':<15} {'PID':>7} {'PROCESS':<15} {'LOCAL':<21} {'REMOTE':<21}"
        head += f" {'OLD':>11} -> {'NEW':<11} {'MS':>12}"
        head += "" if self._one and not self._wide else "  NETNS"
        return head + (f"{'':<14} {'SOCKET':<18} RESTS IN" if self._wide else "")

    def text(self, changes: Iterable[Transition]) -> Iterable[str]:
        """Yield a table row for each transition."""
        netns, end, clock = self._names.name, self._end, self._clock.time_of_day
        for it in changes:
            lasted = f"{(it.at - it.since) / 1e6:12.3f}" if it.since else "           -"
            line = (
                f"{clock(it.at)} {it.pid or '-':>7} {it.process or '-':<15} {end(it.local, it.local_port):<21}"
                f" {end(it.remote, it.remote_port):<21} {it.old:>11} -> {it.new:<11} {lasted}"
            )
            if not self._one or self._wide:
                line += f"  {netns(it.netns) or '-'}"
            if self._wide:
                line = f"{line:<139} {it.sk:#018x} {it.rest or '-'}"
            yield line

    def json(self, changes: Iterable[Transition]) -> Iterable[str]:
        """Yield a JSON object for each transition."""
        return map(render.json_line, map(self._answer, changes))

    def csv_head(self) -> str:
        """Return the header of the CSV."""
        names = "time,netns,pid,process,local,local_port,remote,remote_port,old,new,ms"
        return names + (",socket,netns_inode,rest" if self._wide else "")

    def csv(self, changes: Iterable[Transition]) -> Iterable[str]:
        """Yield a CSV record for each transition; unknown fields are empty."""
        netns, address, unix = self._names.name, self._address, self._clock.unix
        for it in changes:
            lasted = f"{(it.at - it.since) / 1e6:.6f}" if it.since else ""
            line = (
                f"{unix(it.at):.6f},{_quoted(netns(it.netns))},{it.pid or ''},{_quoted(it.process)}"
                f",{address(it.local)},{it.local_port or ''},{address(it.remote)},{it.remote_port or ''}"
                f",{it.old},{it.new},{lasted}"
            )
            yield f"{line},{it.sk:#x},{it.netns},{it.rest}" if self._wide else line

    def _answer(self, it: Transition) -> Answer:
        return self._made(
            round(self._clock.unix(it.at), 6),
            self._names.name(it.netns),
            it.pid or None,
            it.process or None,
            self._address(it.local),
            it.local_port or None,
            self._address(it.remote),
            it.remote_port or None,
            it.old,
            it.new,
            round((it.at - it.since) / 1e6, 6) if it.since else None,
            *((f"{it.sk:#x}", it.netns, it.rest or None) if self._wide else ()),
        )


def _quoted(text: str) -> str:
    """Quote a CSV field where needed (RFC 4180, section 2)."""
    return '"' + text.replace('"', '""') + '"' if _SPECIAL.intersection(text) else text
