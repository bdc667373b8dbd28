# SPDX-License-Identifier: GPL-2.0
"""``--fleet``: entries for all hosts of the fleet, published under this host's name.

They are recorded first and published then, so that nothing is lost: what cannot be published now, `run` publishes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xdpguard import units
from xdpguard.cli import render
from xdpguard.cli.changing import named, reason_of
from xdpguard.cli.session import controller, options, remembered_policy
from xdpguard.control.results import STATES
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.policy.target import Prefix, parse_duration

if TYPE_CHECKING:
    from xdpguard.fleet.client import Connection
    from xdpguard.policy.fleet import Fleet as Settings

OnFleet = Annotated[bool, typer.Option("--fleet", help="On all hosts of the fleet; see xdpguard fleet.")]

Kind = Literal["block", "allow"]


def check_alone(others: Mapping[str, object]) -> None:
    """Raise UsageError for options that are for this host's own rules."""
    given = next((name for name, value in others.items() if value), None)
    if given:
        raise UsageError(f"--fleet and {given} cannot be combined", "the fleet's entries are for sources, on all hosts")


def add(context: typer.Context, kind: Kind, targets: Sequence[Prefix], life: str | None, reason: str) -> None:
    """Block or allow sources on all hosts. Raise XdpguardError if this host itself refuses one."""
    from xdpguard.control.foreign import Foreign
    from xdpguard.fleet import settings
    from xdpguard.fleet.keys import Key
    from xdpguard.fleet.message import encode, value_of
    from xdpguard.policy.rule import CLI, FLEET, NewRule
    from xdpguard.store import fleet as stored

    now, words = time.time(), reason_of(reason)
    expires = None if life is None else now + parse_duration(life)
    rules = [NewRule(kind, it, words, FLEET, now, expires) for it in targets]
    with controller(options(context)) as session:
        its = settings.expect(session.store, remembered_policy(session, options(context)).fleet)
        rows = {
            str(Key(its.name, kind, rule.target)): encode(value_of(rule, CLI)).decode()
            for rule in rules
            if isinstance(rule.target, Prefix)
        }
        answer = Foreign(session.ruleset, FLEET, its.limits).put(rules)
        if answer.refused:
            raise XdpguardError(f"this host refuses {answer.refused[0]}", "nothing was published")
        with session.store.transaction():
            for key, value in rows.items():
                stored.put_outbox(session.store, key, value)
    end = "" if expires is None else f" until {units.moment(expires)}"
    failed = _publish(context, its, rows)
    where = "on this host" if failed else "on all hosts of the fleet"
    verb = (
        "counting what a block would drop of" if its.mode == "shadow" else "blocked" if kind == "block" else "allowed"
    )
    render.say(f"{verb} {named(targets)} {where}{end}")
    _note(failed)


def take_back(context: typer.Context, kind: Kind, targets: Sequence[Prefix]) -> None:
    """Take back what this host published; what others published, as far as the server permits."""
    from xdpguard.control.foreign import Foreign
    from xdpguard.fleet import client, settings
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
            found = session.rules.found("block", targets)
            session.rules.leave(list(found.values()), lambda part: part.source != GUARD)

    async def holders(connection: Connection) -> list[str]:
        found = [await connection.read(keys=f"*.{kind}.{spelled(it)}") for it in targets]
        return [it.key for messages in found for it in messages if it.data is not None]

    try:
        keys = client.run(its, holders)
    except client.Unreachable as error:
        render.say(f"{named(targets)} stays {STATES[kind]} for the fleet until its server can be reached")
        _note(str(error))
        return
    failed = _publish(context, its, dict.fromkeys({*keys, *rows}, ""))
    if failed:
        raise XdpguardError(failed, "its publisher, or an operator, can take it back")
    with controller(options(context)) as session:
        Foreign(session.ruleset, FLEET, its.limits).remove(kind, targets)
    others = sorted({key.partition(".")[0] for key in keys} - {its.name})
    whose = f", which {named_hosts(others)} had published" if others else ""
    verb = "unblocked" if kind == "block" else "no longer allowed:"
    render.say(f"{verb} {named(targets)} on all hosts of the fleet{whose}")


def named_hosts(hosts: Sequence[str]) -> str:
    """Return hosts by name, or how many if they are many."""
    return ", ".join(hosts) if len(hosts) <= 5 else f"{len(hosts):,} hosts"


def _publish(context: typer.Context, its: Settings, rows: Mapping[str, str]) -> str:
    """Publish what was recorded; return why it could not be."""
    from xdpguard.fleet import client
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
    except client.Unreachable as error:
        failed = str(error)
    with controller(options(context)) as session, session.store.transaction():
        for key in done:
            stored.published(session.store, key, rows[key])
    return failed


def _note(failed: str) -> None:
    if failed:
        render.note(f"{failed}; it is recorded, and xdpguard run publishes it as soon as it can")
