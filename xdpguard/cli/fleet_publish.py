# SPDX-License-Identifier: GPL-2.0
"""The command fleet publish: a server that lost its data gets what this host keeps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import typer

from xdpguard.cli import fleet_lists, render
from xdpguard.cli.session import controller, options, remembered_policy

if TYPE_CHECKING:
    from xdpguard.control.controller import Controller
    from xdpguard.fleet.client import Connection
    from xdpguard.fleet.message import Value
    from xdpguard.lists.addresses import AddressSet
    from xdpguard.policy.filter import Filter
    from xdpguard.policy.filters import FilterEntry
    from xdpguard.policy.fleet import Fleet as Settings


class _Kept(NamedTuple):
    """What this host has of the fleet. ``values``: of rules and filters."""

    values: list[Value]
    lists: dict[str, AddressSet]


def publish(context: typer.Context, credentials: fleet_lists.Operator = None) -> None:
    """Publish what this host keeps after the server lost its data.

    All hosts follow the server from then on: rules, filters and lists that other hosts alone kept end there. Where the
    server has users it takes the operator's credentials.
    """
    from xdpguard.fleet import client, settings
    from xdpguard.fleet.keys import BUCKET, OPERATOR, SETTLED
    from xdpguard.fleet.message import encode

    with controller(options(context), read_only=True) as session:
        its = settings.expect(session.store, remembered_policy(session, options(context)).fleet)
        kept = _Kept(list(_values(session, its)), _lists(session, its))

    async def work(connection: Connection) -> tuple[int, int]:
        await connection.make()
        found = {it.key for it in await connection.read() if it.data is not None}
        there = {it.partition(".")[2] for it in found}
        rows: dict[str, bytes | None] = {}
        for value in kept.values:
            key = _key(its, value)
            if key.partition(".")[2] not in there:
                rows[key] = encode(value)
        missing = {name: it for name, it in kept.lists.items() if f"{OPERATOR}.list.{name}" not in found}
        await fleet_lists.publish(connection, missing)
        await connection.publish_all(BUCKET, rows)
        await connection.publish(BUCKET, SETTLED, (await connection.place()).stream.encode())
        return len(rows), len(missing)

    entries, lists = client.run(fleet_lists.as_operator(its, credentials), work)
    words = f"{render.counted(entries, 'entry', 'entries')} and {render.counted(lists, 'list')}"
    render.say(f"published {words} that the server had not; all hosts follow it from now on")


def _key(its: Settings, value: Value) -> str:
    from xdpguard.fleet.keys import Key
    from xdpguard.policy.target import parse_prefix

    if value.kind == "filter":
        return str(Key(its.name, "filter", value.target))
    return str(Key(its.name, "allow" if value.kind == "allow" else "block", parse_prefix(value.target)[0]))


def _values(session: Controller, its: Settings) -> Iterator[Value]:
    import time

    from xdpguard.fleet.message import filter_value, value_of
    from xdpguard.policy.rule import CLI, FLEET, NewRule
    from xdpguard.policy.target import parse_prefix
    from xdpguard.store import origins

    held = origins.parts_of(session.store, its.limits.mode, FLEET)
    for (kind, text), (why, end) in held.items():
        yield value_of(NewRule(kind, parse_prefix(text)[0], why, FLEET, 0.0, end), CLI)
    for one in session.filters.stored.alive(time.time()):
        if one.source == FLEET:
            yield filter_value(_entry(one, its), one.expires)


def _entry(one: Filter, its: Settings) -> FilterEntry:
    """Return a filter as it was published. In shadow mode this host's filters all only count."""
    from xdpguard.policy.filters import FilterEntry

    shadow = one.mode == "shadow" and its.limits.mode == "enforce"
    limit = one.limit
    if limit is None:
        return FilterEntry(one.name, one.text, one.action, shadow=shadow, reason=one.reason)
    return FilterEntry(
        one.name, one.text, "", limit.rate, limit.burst_text, limit.whose, shadow=shadow, reason=one.reason
    )


def _lists(session: Controller, its: Settings) -> dict[str, AddressSet]:
    from xdpguard.control.foreign_lists import ForeignLists
    from xdpguard.policy.rule import FLEET

    here = ForeignLists(session, FLEET, its.limits)
    return {name: here.entries(name) for name in here.held()}
