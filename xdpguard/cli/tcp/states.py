# SPDX-License-Identifier: GPL-2.0
"""tcp states: sockets by state, by listener, by remote prefix; now, or kept current."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from xdpguard.cli import render
from xdpguard.cli.tcp import loop, options
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.privileges import require_privileges
from xdpguard.tcp.names import SHOWN, STATES

if TYPE_CHECKING:
    from xdpguard.tcp.diag import Sockets
    from xdpguard.tcp.hints import Hint
    from xdpguard.tcp.namespaces import Place
    from xdpguard.tcp.owners import Owners
    from xdpguard.tcp.snapshot import Listener, Remote, Snapshot

By = Literal["state", "listener", "remote"]
_SHORTEST, _LONGEST = 0.1, 86_400

_EXAMPLES = """
\b
Examples:
  xdpguard tcp states                        sockets by state, and what is abnormal
  xdpguard tcp states --watch 1              kept current, with changes a second; end with Ctrl-C
  xdpguard tcp states --by listener          accept queues and SYN backlogs with their limits
  xdpguard tcp states --by remote --prefix4 24 --prefix6 48 --top 10
  xdpguard tcp states --json | jq '.namespaces[].states'
"""


def register(group: typer.Typer) -> None:
    """Adds the command."""
    group.command(epilog=_EXAMPLES)(states)


def states(
    netns: options.Netns = "",
    by: Annotated[By, typer.Option("--by", help="What to add up.")] = "state",
    prefix4: options.Prefix4 = 32,
    prefix6: options.Prefix6 = 128,
    top: Annotated[int, typer.Option("--top", metavar="N", min=0, help="How many; 0 for all.")] = 20,
    watch: Annotated[
        float, typer.Option("--watch", metavar="SECONDS", help="Again at this interval, with changes a second.")
    ] = 0.0,
    length: options.Length = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; with --watch, a line each time.")] = False,
) -> None:
    """Show how many TCP sockets are in each state, what waits at the listeners, and what is abnormal."""
    if watch and not _SHORTEST <= watch <= _LONGEST:
        raise UsageError("--watch is too short or too long", f"give {_SHORTEST} to {_LONGEST} seconds")
    until = options.seconds(length)
    if until and not watch:
        raise UsageError("--for needs --watch", "give --watch 1 as well")
    require_privileges()
    view = _View(by, prefix4, prefix6, top, as_json)
    if watch:
        _watch(netns, view, watch, until)
        return
    view.show([_Part(it.place, it) for it in _taken(netns)], 0.0)


@dataclass
class _Part:
    """A namespace. Without ``states`` they are those of the snapshot."""

    place: Place
    taken: Snapshot
    states: Mapping[int, int] | None = None
    changes: Mapping[tuple[int, int], int] = field(default_factory=dict)
    listening: Sockets | None = None


@dataclass
class _Found:
    """What a namespace's part says."""

    part: _Part
    states: Mapping[int, int]
    listeners: list[Listener]
    remotes: list[Remote]
    hints: list[Hint]


def _places(netns: str) -> list[Place]:
    from xdpguard.tcp import namespaces

    return [namespaces.find(netns)] if netns else namespaces.all_places()


def _taken(netns: str) -> list[Snapshot]:
    from xdpguard.tcp import snapshot

    found = []
    for place in _places(netns):
        try:
            found.append(snapshot.take(place))
        except (XdpguardError, OSError):
            if netns or not place.name:
                raise
            # A namespace that has gone meanwhile is none of the host's any more.
    return found


def _watch(netns: str, view: _View, pause: float, until: float | None) -> None:
    from xdpguard.tcp.changes import Changes
    from xdpguard.tcp.filters import Filter
    from xdpguard.tcp.live import Live

    inode = _places(netns)[0].inode if netns else 0
    with Changes(Filter(netns=inode)) as changes:
        live = Live(changes, lambda: _places(netns))
        live.read()
        before = time.monotonic()
        for last in loop.rounds("watching TCP states", pause, until):
            if last:
                break
            now, moment, begun = live.read(), time.monotonic(), time.thread_time()
            parts = [_Part(it.place, it.taken, it.states, it.changes, it.listening) for it in now]
            if view.show(parts, moment - before):
                live.spent(time.thread_time() - begun)
            before = moment


class _View:
    """What is shown, and how. What a snapshot says is worked out once."""

    def __init__(self, by: By, prefix4: int, prefix6: int, top: int, as_json: bool) -> None:
        from xdpguard.tcp.owners import Owners

        self.by = by
        self.prefix4, self.prefix6 = prefix4, prefix6
        self.top = top
        self.owners = Owners()
        self._as_json = as_json
        self._known: dict[int, _Found] = {}

    def show(self, parts: list[_Part], seconds: float) -> bool:
        """Shows namespaces; ``seconds`` since the last time, 0: there was none. Whether there were new snapshots."""
        found, fresh = self._found(parts)
        if self._as_json:
            loop.write([_json(self, found, seconds)])
            return fresh
        if seconds:
            typer.echo(f"--- {render.moment(time.time())}")
        if self.by == "state":
            _print_states(found, seconds)
        elif self.by == "listener":
            _print_listeners(self, found)
        else:
            _print_remotes(self, found)
        for it in found:
            for hint in it.hints:
                where = f"{it.part.place.name}: " if it.part.place.name else ""
                typer.echo(f"! {where}{hint.text}")
        loop.write([])
        return fresh

    def _found(self, parts: list[_Part]) -> tuple[list[_Found], bool]:
        from xdpguard.tcp import snapshot
        from xdpguard.tcp.hints import concerned, hints

        before = {it.part.place.inode: it for it in self._known.values()}
        new = [
            part
            for part in parts
            if part.place.inode not in before or before[part.place.inode].part.taken is not part.taken
        ]
        if new:
            self.owners.look({inode for part in new for inode in concerned(part.taken)})
        self._known = {}
        for part in parts:
            known = before.get(part.place.inode)
            if known is None or known.part.taken is not part.taken:
                sockets = part.taken.sockets
                listeners = snapshot.listeners(part.taken)
                remotes = snapshot.remotes(sockets, self.prefix4, self.prefix6) if self.by == "remote" else []
                known = _Found(
                    part, snapshot.count(sockets), listeners, remotes, hints(part.taken, listeners, self.owners)
                )
            states = known.states if part.states is None else part.states
            listeners = (
                known.listeners if part.listening is None else snapshot.with_queues(known.listeners, part.listening)
            )
            self._known[part.place.inode] = _Found(part, states, listeners, known.remotes, known.hints)
        return list(self._known.values()), bool(new)


def _json(view: _View, found: list[_Found], seconds: float) -> str:
    import msgspec

    document: dict[str, Any] = {"time": round(time.time(), 3), "namespaces": []}
    for it in found:
        listeners = [_listener_fields(one, view.owners) for one in it.listeners]
        part: dict[str, Any] = {
            "netns": it.part.place.name,
            "netns_inode": it.part.place.inode,
            "sockets": sum(it.states.values()),
            "states": {STATES[state]: it.states.get(state, 0) for state in SHOWN},
            "listeners": listeners,
            "hints": [{"kind": hint.kind, "text": hint.text, **hint.evidence} for hint in it.hints],
        }
        if view.by == "remote":
            part["remotes"] = [_remote_fields(one, view) for one in it.remotes[: view.top or None]]
        if seconds:
            part["transitions"] = [
                {"old": STATES[a], "new": STATES[b], "count": number, "per_second": round(number / seconds, 3)}
                for (a, b), number in sorted(it.part.changes.items())
            ]
        document["namespaces"].append(part)
    return msgspec.json.encode(document).decode()


def _listener_fields(it: Listener, owners: Owners) -> dict[str, Any]:
    from xdpguard.tcp.text import address

    who = owners.known(it.inodes[0])
    return {
        "address": address(it.address),
        "port": it.port,
        "sockets": it.sockets,
        "pid": who.pid if who else None,
        "process": who.name if who else None,
        "accept_queue": it.accept.length,
        "accept_limit": it.accept.limit,
        "syn_backlog": it.syn.length,
        "syn_limit": it.syn.limit,
        "connections": it.connections,
    }


def _remote_fields(it: Remote, view: _View) -> dict[str, Any]:
    from xdpguard.tcp.text import prefix

    counted = {STATES[state]: number for state, number in it.states.items()}
    return {"prefix": prefix(it.prefix, view.prefix4, view.prefix6), "sockets": it.total, "states": counted}


def _print_states(found: list[_Found], seconds: float) -> None:
    columns = ["netns", "state", "sockets", *(["in/s", "out/s"] if seconds else [])]
    rows = []
    for it in found:
        for state in SHOWN:
            number = it.states.get(state, 0)
            entered = sum(n for (_, b), n in it.part.changes.items() if b == state)
            left = sum(n for (a, _), n in it.part.changes.items() if a == state)
            if number or entered or left:
                row = [it.part.place.name or "-", STATES[state], render.number(number)]
                rows.append(row + ([_rate(entered, seconds), _rate(left, seconds)] if seconds else []))
    if not rows:
        typer.echo("no TCP sockets")
        return
    render.print_table(columns, rows, right="sockets in/s out/s")


def _print_listeners(view: _View, found: list[_Found]) -> None:
    from xdpguard.tcp.text import end

    rows = [
        [
            it.part.place.name or "-",
            end(one.address, one.port) + (f" x{one.sockets}" if one.sockets > 1 else ""),
            str(view.owners.known(one.inodes[0]) or "-"),
            f"{one.accept.length:,}/{one.accept.limit:,}",
            f"{one.syn.length:,}/{one.syn.limit:,}",
            render.number(one.connections),
        ]
        for it in found
        for one in it.listeners[: view.top or None]
    ]
    if not rows:
        typer.echo("nothing listens")
        return
    columns = ["netns", "listener", "process", "accept queue", "SYN backlog", "connections"]
    render.print_table(columns, rows, right="connections")


def _print_remotes(view: _View, found: list[_Found]) -> None:
    from xdpguard.tcp.text import prefix

    rows = [
        [
            it.part.place.name or "-",
            prefix(one.prefix, view.prefix4, view.prefix6),
            render.number(one.total),
            "  ".join(
                f"{STATES[state]} {number:,}" for state, number in sorted(one.states.items(), key=lambda x: -x[1])
            ),
        ]
        for it in found
        for one in it.remotes[: view.top or None]
    ]
    if not rows:
        typer.echo("no connections")
        return
    render.print_table(["netns", "remote", "sockets", "states"], rows, right="sockets")


def _rate(number: int, seconds: float) -> str:
    return f"{number / seconds:,.1f}" if number else "-"
