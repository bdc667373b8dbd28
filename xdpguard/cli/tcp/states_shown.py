# SPDX-License-Identifier: GPL-2.0
"""The output of `tcp states`: tables in the terminal, or JSON."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from xdpguard import units
from xdpguard.cli import render
from xdpguard.cli.columns import Cell, Row
from xdpguard.cli.columns import number as count
from xdpguard.cli.tcp import columns, loop
from xdpguard.tcp.names import SHOWN, STATES

if TYPE_CHECKING:
    from xdpguard.cli.answers.tcp import Listener as ListenerAnswer
    from xdpguard.cli.answers.tcp import Remote as RemoteAnswer
    from xdpguard.cli.answers.tcp import States as Answer
    from xdpguard.net.netns import Place
    from xdpguard.tcp.diag import Sockets
    from xdpguard.tcp.hints import Hint
    from xdpguard.tcp.owners import Owners
    from xdpguard.tcp.snapshot import Listener, Remote, Snapshot

By = Literal["state", "listener", "remote"]
_OLD = 2.0  # seconds; a snapshot's age is shown from here on


@dataclass
class Part:
    """A namespace to show. ``states`` None: those of the snapshot count."""

    place: Place
    taken: Snapshot
    states: Mapping[int, int] | None = None
    changes: Mapping[tuple[int, int], int] = field(default_factory=dict)
    listening: Sockets | None = None


@dataclass
class Found:
    """What was derived from a namespace's snapshot."""

    part: Part
    states: Mapping[int, int]
    listeners: list[Listener]
    remotes: list[Remote]
    hints: list[Hint]


class View:
    """What to show, and how. Results are computed once per snapshot."""

    def __init__(self, by: By, prefix4: int, prefix6: int, top: int, as_json: bool) -> None:
        from xdpguard.tcp.owners import Owners

        self.by = by
        self.prefix4, self.prefix6 = prefix4, prefix6
        self.top = top
        self.owners = Owners()
        self._as_json = as_json
        self._known: dict[int, Found] = {}

    def show(self, parts: list[Part], seconds: float) -> bool:
        """Print namespaces; return whether any snapshot is new. ``seconds``: since the last call, 0 for the first."""
        found, fresh = self._found(parts)
        if self._as_json:
            loop.write([render.json_line(_answer(self, found, seconds))])
            return fresh
        if seconds:
            render.say(f"--- {units.moment(time.time())}")
        if self.by == "state":
            _print_states(found, seconds)
        elif self.by == "listener":
            _print_listeners(self, found)
        else:
            _print_remotes(self, found)
        for it in found:
            for hint in it.hints:
                where = f"{it.part.place.name}: " if it.part.place.name else ""
                render.say(f"! {where}{hint.text}", "yellow")
        loop.write([])
        return fresh

    def _found(self, parts: list[Part]) -> tuple[list[Found], bool]:
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
                known = Found(
                    part, snapshot.count(sockets), listeners, remotes, hints(part.taken, listeners, self.owners)
                )
            states = known.states if part.states is None else part.states
            listeners = (
                known.listeners if part.listening is None else snapshot.with_queues(known.listeners, part.listening)
            )
            self._known[part.place.inode] = Found(part, states, listeners, known.remotes, known.hints)
        return list(self._known.values()), bool(new)


def _answer(view: View, found: list[Found], seconds: float) -> Answer:
    from msgspec import UNSET

    from xdpguard.cli.answers.tcp import Change, Namespace
    from xdpguard.cli.answers.tcp import States as Answer

    top = view.top or None
    namespaces = [
        Namespace(
            netns=it.part.place.name,
            netns_inode=it.part.place.inode,
            sockets=sum(it.states.values()),
            snapshot_age=round(time.monotonic() - it.part.taken.at, 3),
            states={STATES[state]: it.states.get(state, 0) for state in SHOWN},
            listeners=[_listener(one, view.owners) for one in it.listeners[: top if view.by == "listener" else None]],
            hints=[{"kind": hint.kind, "text": hint.text, **hint.evidence} for hint in it.hints],
            remotes=[_remote(one, view) for one in it.remotes[:top]] if view.by == "remote" else UNSET,
            transitions=[
                Change(STATES[a], STATES[b], number, round(number / seconds, 3))
                for (a, b), number in sorted(it.part.changes.items())
            ]
            if seconds
            else UNSET,
        )
        for it in found
    ]
    return Answer(round(time.time(), 3), namespaces)


def _listener(it: Listener, owners: Owners) -> ListenerAnswer:
    from xdpguard.cli.answers.tcp import Listener as ListenerAnswer
    from xdpguard.tcp.text import address

    who = owners.known(it.inodes[0])
    return ListenerAnswer(
        address=address(it.address),
        port=it.port,
        sockets=it.sockets,
        pid=who.pid if who else None,
        process=who.name if who else None,
        accept_queue=it.accept.length,
        accept_limit=it.accept.limit,
        fullest_queue=it.fullest.length,
        fullest_limit=it.fullest.limit,
        syn_backlog=it.syn.length,
        syn_limit=it.syn.limit,
        connections=it.connections,
    )


def _remote(it: Remote, view: View) -> RemoteAnswer:
    from xdpguard.cli.answers.tcp import Remote as RemoteAnswer
    from xdpguard.tcp.text import prefix

    counted = {STATES[state]: number for state, number in it.states.items()}
    return RemoteAnswer(prefix(it.prefix, view.prefix4, view.prefix6), it.total, counted)


def _print_states(found: list[Found], seconds: float) -> None:
    rows: list[Row] = []
    for it in found:
        for state in SHOWN:
            number = it.states.get(state, 0)
            entered = sum(n for (_, b), n in it.part.changes.items() if b == state)
            left = sum(n for (a, _), n in it.part.changes.items() if a == state)
            if number or entered or left:
                rates = [_rate(entered, seconds), _rate(left, seconds)] if seconds else []
                rows.append([it.part.place.name or "-", STATES[state], count(number), *rates])
    if not rows:
        render.say("no TCP sockets")
        return
    render.print_table(columns.STATES if seconds else columns.STATES[:3], rows)


def _print_listeners(view: View, found: list[Found]) -> None:
    from xdpguard.tcp.text import end

    rows: list[Row] = [
        [
            it.part.place.name or "-",
            end(one.address, one.port) + (f" x{one.sockets}" if one.sockets > 1 else ""),
            str(view.owners.known(one.inodes[0]) or "-"),
            f"{one.accept.length:,}/{one.accept.limit:,}" + _fullest(one),
            f"{one.syn.length:,}/{one.syn.limit:,}",
            count(one.connections),
        ]
        for it in found
        for one in it.listeners[: view.top or None]
    ]
    if not rows:
        render.say("no listeners")
        return
    render.print_table(columns.LISTENERS, rows)
    _say_left_out(sum(len(it.listeners) for it in found) - len(rows))


def _fullest(it: Listener) -> str:
    """Describe the fullest queue of the sockets that share a port, if it is fuller than their average."""
    return f" (one {it.fullest.length:,}/{it.fullest.limit:,})" if it.fullest.share > it.accept.share else ""


def _print_remotes(view: View, found: list[Found]) -> None:
    from xdpguard.tcp.text import prefix

    rows: list[Row] = [
        [
            it.part.place.name or "-",
            prefix(one.prefix, view.prefix4, view.prefix6),
            count(one.total),
            "  ".join(
                f"{STATES[state]} {number:,}" for state, number in sorted(one.states.items(), key=lambda x: -x[1])
            ),
        ]
        for it in found
        for one in it.remotes[: view.top or None]
    ]
    if not rows:
        render.say("no connections")
        return
    age = max(time.monotonic() - it.part.taken.at for it in found)
    title = f"as of {age:.0f} s ago" if age >= _OLD else ""
    render.print_table(columns.REMOTES, rows, title)
    _say_left_out(sum(len(it.remotes) for it in found) - len(rows))


def _say_left_out(number: int) -> None:
    if number:
        render.say(f"and {number:,} more; --top 0 shows all")


def _rate(number: int, seconds: float) -> Cell:
    rate = number / seconds
    return Cell(f"{rate:,.1f}" if number else "-", f"{rate:.1f}")
