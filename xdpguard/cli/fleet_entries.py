# SPDX-License-Identifier: GPL-2.0
"""``--fleet``: entries for all hosts of the fleet, published under this host's name.

They are recorded first and published then, so that nothing is lost: what cannot be published now, `run` publishes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from xdpguard import units
from xdpguard.cli import render
from xdpguard.cli.changing import named, reason_of
from xdpguard.cli.session import controller, options, remembered_policy
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.policy.duration import end_of
from xdpguard.policy.rule import NewRule
from xdpguard.policy.target import Prefix

if TYPE_CHECKING:
    from xdpguard.fleet.client import Connection
    from xdpguard.fleet.keys import FleetKind
    from xdpguard.fleet.message import Value
    from xdpguard.policy.filters import FilterEntry
    from xdpguard.policy.fleet import Fleet as Settings
    from xdpguard.policy.foreign import Entry

OnFleet = Annotated[bool, typer.Option("--fleet", help="On all hosts of the fleet; see xdpguard fleet.")]

Kind = Literal["block", "allow"]
_STATES = {"block": "blocked", "allow": "allowed", "filter": "in force"}
_SAID = 5  # refusals that are said one by one
_GONE = {"block": "unblocked", "allow": "no longer allowed:", "filter": "removed filter"}


class _Doubt(NamedTuple):
    """Why entries may not be in force on all hosts: they could not be published, or this host has published too many.

    ``published``: how many, where that is more than ``most``, else 0.
    """

    failed: str
    published: int
    most: int

    @property
    def where(self) -> str:
        """Where they are in force, for a sentence."""
        if self.failed:
            return "on this host"
        return "for the fleet" if self.published else "on all hosts of the fleet"

    def note(self) -> None:
        """Tell it, if there is a doubt."""
        _note(self.failed)
        if self.published:
            render.note(
                f"this host has published {self.published:,} entries, of which {self.most:,} count ([fleet]"
                " max_per_host): this may not be among them; take others back: xdpguard unblock TARGET --fleet"
            )


def check_alone(others: Mapping[str, object]) -> None:
    """Raise UsageError for options that are for this host's own rules."""
    given = next((name for name, value in others.items() if value), None)
    if given:
        raise UsageError(f"--fleet and {given} cannot be combined", "the fleet's entries are for sources, on all hosts")


def add(context: typer.Context, kind: Kind, targets: Sequence[Prefix], life: str | None, reason: str) -> None:
    """Block or allow sources on all hosts. Raise XdpguardError if this host itself refuses all of them."""
    from xdpguard.fleet.message import value_of
    from xdpguard.policy.rule import CLI, FLEET

    now, words = time.time(), reason_of(reason)
    expires = end_of(life, now)
    rules = [NewRule(kind, it, words, FLEET, now, expires) for it in targets]
    its, taken, doubt = _put(context, {it: value_of(it, CLI) for it in rules})
    verb = "counting what a block would drop of" if its.mode == "shadow" else _STATES[kind]
    where = [it for it in map(target_of, taken) if isinstance(it, Prefix)]
    render.say(f"{verb} {named(where)} {doubt.where}{_until(expires)}")
    doubt.note()


def add_filter(context: typer.Context, entry: FilterEntry, life: str | None) -> None:
    """Add a filter on all hosts, or replace the one of this name that this host published."""
    from xdpguard.fleet.keys import parse_key
    from xdpguard.fleet.message import filter_value
    from xdpguard.policy.filters import new_filter
    from xdpguard.policy.rule import FLEET

    expires = end_of(life, time.time())
    try:
        parse_key(f"x.filter.{entry.name}")
    except ValueError as error:
        raise UsageError(
            f"not a name for a filter of the fleet: {entry.name!r}", "use up to 64 letters, digits, _ or -"
        ) from error

    new = new_filter(entry, FLEET, time.time(), expires)
    _, _, doubt = _put(context, {new: filter_value(entry, expires)})
    render.say(f"added filter {entry.name} {doubt.where}{_until(expires)}")
    doubt.note()


def _put(context: typer.Context, values: Mapping[Entry, Value]) -> tuple[Settings, list[Entry], _Doubt]:
    """Put entries in force here, record and publish those; return them, and why they may not be in force elsewhere.

    Raise XdpguardError if this host itself refuses all of them.
    """
    from xdpguard.control.foreign import Foreign
    from xdpguard.fleet import hosts, settings
    from xdpguard.fleet.keys import Key
    from xdpguard.fleet.message import encode
    from xdpguard.policy.rule import FLEET
    from xdpguard.store import fleet as stored

    with controller(options(context)) as session:
        its = settings.expect(session.store, remembered_policy(session, options(context)).fleet)
        answer = Foreign(session.ruleset, FLEET, its.limits).put(values)
        refused = {str(it.target) for it in answer.refused}
        taken = {it: value for it, value in values.items() if value.target not in refused}
        if not taken:
            raise XdpguardError(
                f"this host refuses {answer.refused[0]}", "nothing was published; [fleet] sets what a host takes"
            )
        standing = hosts.recorded(session.store) or hosts.Standing()
        rows = {str(Key(its.name, kind_of(it), target_of(it))): encode(value).decode() for it, value in taken.items()}
        with session.store.transaction():
            for key, text in rows.items():
                stored.put_outbox(session.store, key, text)
    for it in answer.refused[:_SAID]:
        render.note(f"not published, because this host refuses {it}")
    if len(answer.refused) > _SAID:
        render.note(f"nor {len(answer.refused) - _SAID:,} more")
    return its, list(taken), _Doubt(_publish(context, its, rows), standing.crowded.get(its.name, 0), its.per_host)


def kind_of(entry: Entry) -> FleetKind:
    """Return the kind of an entry, as keys have it."""
    return (
        "allow"
        if isinstance(entry, NewRule) and entry.kind == "allow"
        else ("block" if isinstance(entry, NewRule) else "filter")
    )


def target_of(entry: Entry) -> Prefix | str:
    """Return what an entry is about: a prefix, or the name of a filter."""
    if isinstance(entry, NewRule):
        assert isinstance(entry.target, Prefix)
        return entry.target
    return entry.name


def take_back(
    context: typer.Context, kind: Kind | Literal["filter"], targets: Sequence[Prefix] | Sequence[str]
) -> None:
    """Take back what this host published; what others published, as far as the server permits."""
    from xdpguard.control.foreign import Foreign
    from xdpguard.fleet import client, settings
    from xdpguard.fleet.failures import Unreachable
    from xdpguard.fleet.keys import Key, spelled
    from xdpguard.policy.rule import FLEET, GUARD
    from xdpguard.store import fleet as stored

    with controller(options(context)) as session:
        its = settings.expect(session.store, remembered_policy(session, options(context)).fleet)
        rows = {str(Key(its.name, kind, it)): "" for it in targets}
        with session.store.transaction():
            for key in rows:
                stored.put_outbox(session.store, key, "")
        if kind == "block":  # or a ban of the guard here would be shared again
            found = session.rules.found("block", [it for it in targets if isinstance(it, Prefix)])
            session.rules.leave(list(found.values()), lambda part: part.source != GUARD)

    async def holders(connection: Connection) -> list[str]:
        found = [await connection.read(keys=f"*.{kind}.{spelled(it)}") for it in targets]
        return [it.key for messages in found for it in messages if it.data is not None]

    try:
        keys = client.run(its, holders)
    except Unreachable as error:
        render.say(f"{_named(targets)} stays {_STATES[kind]} for the fleet until its server can be reached")
        _note(str(error))
        return
    failed = _publish(context, its, dict.fromkeys([*rows, *keys], ""))  # its own first
    if failed:
        raise XdpguardError(failed, "its publisher, or an operator, can take it back")
    with controller(options(context)) as session:
        foreign = Foreign(session.ruleset, FLEET, its.limits)
        if kind == "filter":
            foreign.remove_filters([str(it) for it in targets])
        else:
            foreign.remove(kind, [it for it in targets if isinstance(it, Prefix)])
    others = sorted({key.partition(".")[0] for key in keys} - {its.name})
    whose = f", which {named_hosts(others)} had published" if others else ""
    render.say(f"{_GONE[kind]} {_named(targets)} on all hosts of the fleet{whose}")


def named_hosts(hosts: Sequence[str]) -> str:
    """Return hosts by name, or how many if they are many."""
    return ", ".join(hosts) if len(hosts) <= 5 else f"{len(hosts):,} hosts"


def _publish(context: typer.Context, its: Settings, rows: Mapping[str, str]) -> str:
    """Publish what was recorded; return why it could not be."""
    from xdpguard.fleet import client
    from xdpguard.fleet.failures import Unreachable
    from xdpguard.fleet.keys import BUCKET
    from xdpguard.store import fleet as stored

    done: list[str] = []

    async def publish(connection: Connection) -> None:
        for key, value in rows.items():
            await connection.publish(BUCKET, key, value.encode() or None)
            done.append(key)

    failed = ""
    try:
        client.run(its, publish)
    except Unreachable as error:
        failed = str(error)
    with controller(options(context)) as session, session.store.transaction():
        for key in done:
            stored.published(session.store, key, rows[key])
    return failed


def _named(targets: Sequence[Prefix] | Sequence[str]) -> str:
    return named([it for it in targets if isinstance(it, Prefix)]) or ", ".join(str(it) for it in targets)


def _until(expires: float | None) -> str:
    return "" if expires is None else f" until {units.moment(expires)}"


def _note(failed: str) -> None:
    if failed:
        render.note(f"{failed}; it is recorded, and xdpguard run publishes it as soon as it can")
