# SPDX-License-Identifier: GPL-2.0
"""Take a change back: interfaces first, then every row of the store that it touched, in one change.

Killed at any moment, it can be repeated: what is as it was before is left alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from xdpguard.control import configured, restoring, undo_checks
from xdpguard.control.controller import Controller
from xdpguard.control.planning import Request
from xdpguard.control.restoring import Step
from xdpguard.errors import XdpguardError
from xdpguard.net.netns import place_of
from xdpguard.store import journal
from xdpguard.store.journal import Change, State
from xdpguard.units import counted

if TYPE_CHECKING:
    from xdpguard.policy.model import Policy

_SHOWN = 10  # lines on what was put back
_LINKS = ("interfaces", "any_mtu")
_CONFIG = ("config", "policy_in_force", "undone_config")


class Undo(NamedTuple):
    """How to undo. ``attended``: a user asked for it, so that it is refused where a command would be, unless ``force``.

    ``load`` returns what the configuration file holds now, or the defaults; ``path``: that file.
    """

    load: Callable[[], Policy]
    path: Callable[[], Path | None]
    attended: bool = True
    force: bool = False


def last(changes: Sequence[Change]) -> Change:
    """Return the latest change that has not been undone. Raise XdpguardError if there is none."""
    found = next((it for it in changes if it.state in ("kept", "pending")), None)
    if found is None:
        done = f"the last {counted(len(changes), 'is', 'are')} undone already"
        why = done if changes else "no change of a command is recorded"
        raise XdpguardError(f"there is nothing to undo: {why}", "xdpguard undo --list shows them")
    return found


def take_back(session: Controller, change: Change, how: Undo) -> list[str]:
    """Undo a change; return what has changed, as text. Raise XdpguardError, with the reason, if it cannot be undone."""
    store = session.store
    if change.large:
        raise XdpguardError(
            f"{change.command!r} cannot be undone: what it replaced was too large to be kept",
            f"at most {journal.LARGEST >> 20} MiB are; put it back by hand",
        )
    strict = how.attended and not how.force
    rows = journal.touched(store, change)
    steps = restoring.steps(store, rows, strict)
    if strict:
        undo_checks.check(store, steps)
    done, failed = [text for it in steps if (text := it.words())], None
    try:
        done += _links(session, steps, how)
    except XdpguardError as error:
        if how.attended:
            raise
        failed = error  # what blocks is taken back at least
    state: State = "undone" if how.attended else "unconfirmed"
    if any(it.place in _LINKS for it in rows) and not session.interfaces():
        session.detach_all()  # of a detach that was killed, the maps are left
    # An attach has put back some of the rows.
    left = [it for it in restoring.steps(store, rows, strict=False) if it.place not in _LINKS]
    configuration = any(it.key[0] in _CONFIG for it in rows if it.place == "facts")
    done += _rows(session, left, how, configuration, None if failed else (change, state))
    if failed is not None:
        raise failed
    return _shortened(done) or ["everything was as before already"]


def undo_overdue(session: Controller, change: Change, how: Undo) -> str:
    """Undo a change that was not confirmed in time; return what to tell."""
    done = take_back(session, change, how._replace(attended=False))
    return f"{change.command!r} was not confirmed in time and is undone: {'; '.join(done)}"


def _links(session: Controller, steps: Sequence[Step], how: Undo) -> list[str]:
    """Detach what the change has attached, and attach again what carried another program before."""
    done: list[str] = []
    again: dict[tuple[str, ...], Step | None] = {}
    for it in steps:
        if it.place == "interfaces":
            name, netns = it.key
            if it.want is None:
                done += _detached(session, name, netns)
            elif it.now is None and it.after is not None:
                done.append(f"{place_of(name, netns)} was detached since, and stays so")
            else:
                again[name, netns] = it
    there = {(it.name, it.netns): it for it in session.interfaces() if it.state == "attached"}
    if any(it.place == "any_mtu" or it.key == ("policy_in_force",) for it in steps):
        again = {**dict.fromkeys(there), **again}
    any_mtu = {it.key: it.want is not None for it in steps if it.place == "any_mtu"}
    if not again:
        return done
    policy = _policy(session, steps, how)
    for (name, netns), step in again.items():
        its = there.get((name, netns))
        request = Request(
            name,
            netns,
            step.want["mode"] if step and step.want and its is None else "auto",
            observe=bool(step.want["observe"]) if step and step.want else bool(its and its.observe),
            any_mtu=any_mtu.get((name, netns), bool(its and its.any_mtu)),
            unattended=not how.attended,
            force=how.force,
        )
        outcome = session.attach(request, policy)
        watching = ", observing only" if request.observe else ""
        done.append(f"attached to {place_of(name, netns)} as before, in {outcome.interface.mode} mode{watching}")
    return done


def _shortened(lines: Sequence[str]) -> list[str]:
    """Return the first of many lines, and how many more there are of each kind."""
    if len(lines) <= _SHOWN:
        return list(lines)
    more = Counter(text.split(":")[0] for text in lines[_SHOWN:])
    return [*lines[:_SHOWN], *(f"{text}: {count:,} more" for text, count in more.items())]


def _detached(session: Controller, name: str, netns: str) -> list[str]:
    outcome = session.detach(name, netns)
    return [*outcome.notes, f"detached from {place_of(name, netns)}", *(f"put back {it}" for it in outcome.restored)]


def _rows(
    session: Controller, steps: Sequence[Step], how: Undo, configuration: bool, end: tuple[Change, State] | None
) -> list[str]:
    """Put the rows back and bring the kernel in line with them, as one change that ends the undo.

    ``configuration``: it is, or was, part of what changed; ``end``: the change, and the state to record for it.
    """
    store, links, done = session.store, session.links(), list[str]()
    policy = _policy(session, steps, how) if configuration or any(it.place == "facts" for it in steps) else None
    guard, seen = None, list[Any]()
    if policy is not None and links:
        guard = session.guard.combined(policy.guard, restoring.overrides(store, steps))
        seen, changed = session.guard.look(guard, links)
        done += changed
    with session.changes.begin():
        restoring.restore(session.ruleset, steps)
        if guard is not None:
            session.guard.put(guard, seen)
        if policy is not None:
            session.ruleset.put_default(session.default.effective(policy.default), session.carriers())
        if configuration:
            session.taken(policy)
            done += _held_back(session, policy, how) if policy else []
        if end is not None:
            journal.settle(store, *end)
    if policy is not None:
        session.default.tidy(session.default.effective(policy.default), session.carriers())
    return done


def _policy(session: Controller, steps: Sequence[Step], how: Undo) -> Policy:
    """Return the configuration that was in force before the change; where that is not known, that of the file."""
    for it in steps:
        if it.key == ("policy_in_force",):
            return (configured.parsed(it.want["value"]) if it.want else None) or how.load()
    return configured.in_force(session.store) or how.load()


def _held_back(session: Controller, policy: Policy, how: Undo) -> list[str]:
    """Keep the file out of force as long as it is not what it was before the change."""
    path = how.path()
    try:
        same = path is None or how.load() == policy
    except XdpguardError:
        same = False
    configured.hold_back(session.store, None if same else path)
    if same:
        return []
    return [f"{path} holds another configuration than the one in force: it counts once it is changed, or given again"]
