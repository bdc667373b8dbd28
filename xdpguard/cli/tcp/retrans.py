# SPDX-License-Identifier: GPL-2.0
"""tcp retrans: retransmitted segments, as they happen or counted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard.cli import output, render
from xdpguard.cli.tcp import loop, options
from xdpguard.cli.tcp.retrans_counts import PAUSE, By, count_by
from xdpguard.errors import UsageError
from xdpguard.instance import require_privileges
from xdpguard.tcp.names import parse_states

if TYPE_CHECKING:
    from xdpguard.tcp.retrans import Retransmission, Retransmissions


_EXAMPLES = """
\b
Examples:
  xdpguard tcp retrans                               each as it happens; Ctrl-C ends it
  xdpguard tcp retrans --count --by remote --prefix4 24 --for 1m
  xdpguard tcp retrans --count --by listener --local-port 443
  xdpguard tcp retrans --json | jq 'select(.kind == "timeout")'

Kinds: syn, syn-ack, loss-probe (tail loss probe), timeout (and what it recovers), fast (ACKs revealed the loss), other.
"""


def register(group: typer.Typer) -> None:
    """Add the command to the group."""
    group.command(epilog=_EXAMPLES)(options.with_sockets(retrans))


def retrans(
    sockets: options.Sockets,
    state: Annotated[
        list[str] | None, typer.Option("--state", metavar="STATE", help="Only in these states, comma-separated.")
    ] = None,
    count: Annotated[bool, typer.Option("--count", help="Count, and show totals at the end.")] = False,
    by: Annotated[By, typer.Option("--by", help="With --count: what to group by.")] = "connection",
    prefix4: options.Prefix4 = 32,
    prefix6: options.Prefix6 = 128,
    top: Annotated[int, typer.Option("--top", metavar="N", min=0, help="How many; 0 for all.")] = 20,
    length: options.Length = None,
    wide: options.Wide = False,
    as_json: options.Json = False,
    _output: output.Output = "",
) -> None:
    """Show retransmitted segments: which, why, and what share of those sent."""
    from xdpguard.tcp.retrans import Retransmissions

    output.expect_table(count, "add --count, or leave out -o")
    if by != "connection" and not count:
        raise UsageError("--by needs --count", "add --count, or leave out --by")
    if (prefix4, prefix6) != (32, 128) and by != "remote":
        raise UsageError("--prefix4 and --prefix6 need --count --by remote", "add these, or leave the prefixes out")
    if count and wide:
        raise UsageError("--wide and --count cannot be combined", "leave one of them out")
    chosen = sockets.filter(parse_states(state or []))
    until = options.seconds(length)
    require_privileges()
    with Retransmissions(chosen, closes=count) as running:
        if count:
            count_by(running, chosen, sockets.netns, by, (prefix4, prefix6), top, until, as_json)
        else:
            _follow(running, _Lines(wide, bool(sockets.netns)), until, as_json)
        lost = running.lost()
        if lost:
            render.note(loop.lost_words(lost, "event", "read"))
        if running.inodes.left_out:
            words = render.counted(running.inodes.left_out, "socket of the process was", "sockets of the process were")
            render.note(f"{words} not observed: it has too many")


def _follow(running: Retransmissions, shown: _Lines, until: float | None, as_json: bool) -> None:
    if not as_json:
        loop.write([shown.head()])
    for _ in loop.rounds("waiting for retransmissions", PAUSE, until):
        running.inodes.refresh()
        loop.write((shown.json if as_json else shown.text)(running.read()))


class _Lines:
    """Formats retransmissions as lines."""

    def __init__(self, wide: bool, one_namespace: bool) -> None:
        from xdpguard.tcp import text
        from xdpguard.tcp.namespaces import Names

        self._wide = wide
        self._one = one_namespace
        self._clock = text.Clock()
        self._names = Names()
        self._text = text

    def head(self) -> str:
        """Return the header of the table."""
        head = f"{'TIME':<15} {'LOCAL':<21} {'REMOTE':<21} {'STATE':<11} {'KIND':<10} {'SEGMENTS':>8} AGAIN"
        head += "" if self._one and not self._wide else "  NETNS"
        return head + (f"{'':<12} {'SENT':>10} SOCKET" if self._wide else "")

    def text(self, events: Iterable[Retransmission]) -> Iterable[str]:
        """Yield a table row for each retransmission."""
        end = self._text.end
        for it in events:
            line = (
                f"{self._clock.time_of_day(it.at)} {end(it.local, it.local_port):<21}"
                f" {end(it.remote, it.remote_port):<21} {it.state:<11} {it.kind:<10} {it.segments:>8}"
                f" {'yes' if it.again else 'no':<5}"
            )
            if not self._one or self._wide:
                line += f"  {self._names.name(it.netns) or '-':<16}"
            yield f"{line} {it.sent or '-':>10} {it.sk:#018x}" if self._wide else line.rstrip()

    def json(self, events: Iterable[Retransmission]) -> Iterable[str]:
        """Yield a JSON object for each retransmission."""
        from xdpguard.cli.answers.tcp import Retransmission as Answer
        from xdpguard.cli.answers.tcp import wide

        for it in events:
            found = Answer(
                time=round(self._clock.unix(it.at), 6),
                netns=self._names.name(it.netns),
                local=self._text.address(it.local),
                local_port=it.local_port,
                remote=self._text.address(it.remote),
                remote_port=it.remote_port,
                state=it.state,
                kind=it.kind,
                segments=it.segments,
                again=it.again,
                sent=it.sent or None,
                **(wide(it.sk, it.netns) if self._wide else {}),
            )
            yield render.json_line(found)
