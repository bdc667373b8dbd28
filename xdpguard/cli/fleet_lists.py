# SPDX-License-Identifier: GPL-2.0
"""``lists load`` and ``lists remove`` with ``--fleet``: lists on all hosts, published as the operator.

What a list holds goes into the server's object store first, then the key that names it: hosts fetch it when they hear
of the key. On this host it is in force at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from xdpguard.cli import render
from xdpguard.cli.session import controller, options, remembered_policy
from xdpguard.errors import UsageError, XdpguardError

if TYPE_CHECKING:
    from xdpguard.control.controller import Controller
    from xdpguard.control.sources import Source
    from xdpguard.fleet.client import Connection
    from xdpguard.fleet.message import FleetList
    from xdpguard.lists.addresses import AddressSet
    from xdpguard.policy.fleet import Fleet as Settings

Operator = Annotated[
    Path | None, typer.Option("--credentials", metavar="FILE", help="The operator's, where the server has users.")
]
Credentials = Annotated[
    Path | None,
    typer.Option("--credentials", metavar="FILE", help="With --fleet: the operator's, where the server has users."),
]


def check_alone(fleet: bool, credentials: Path | None, others: Mapping[str, object]) -> None:
    """Raise UsageError for options that do not go with --fleet, or only with it."""
    if not fleet and credentials is not None:
        raise UsageError("--credentials goes with --fleet", "add --fleet, or leave it out")
    given = next((name for name, value in others.items() if value), None)
    if fleet and given:
        raise UsageError(f"--fleet and {given} cannot be combined", "leave out one of them")


def load(context: typer.Context, name: str, given: Source, force: bool, credentials: Path | None) -> None:
    """Publish a list that was read. Raise XdpguardError, with nothing published, if this host itself refuses it."""
    from xdpguard.control.foreign_lists import ForeignLists, Given
    from xdpguard.control.loader import Loader
    from xdpguard.fleet import client
    from xdpguard.fleet.keys import OPERATOR, parse_key
    from xdpguard.policy.rule import FLEET

    try:
        parse_key(f"{OPERATOR}.list.{name}")
    except ValueError as error:
        raise UsageError(
            f"not a name for a list of the fleet: {name!r}", "use up to 64 letters, digits, _ or -"
        ) from error
    with controller(options(context), read_only=True) as session:
        its = _settings(session, context)
        here = ForeignLists(session, FLEET, its.limits)
        if whose := here.taken_by(name):
            raise XdpguardError(
                f"{name} is a list of this host, of {whose}, which would win over the fleet's here",
                f"nothing was published; use another name, or first: xdpguard lists remove {name}",
            )
        if len(given.entries) > its.max_list_entries:
            has = render.counted(len(given.entries), "entry", "entries")
            raise XdpguardError(
                f"{name} has {has}, and the fleet may have {its.max_list_entries:,} here",
                "nothing was published; see [fleet] max_list_entries",
            )
        lists = session.ruleset.shadow_lists if its.mode == "shadow" else session.ruleset.lists
        Loader(lists).prepare(name, given, FLEET, force)
    listed = {name: given.entries}
    (made,) = client.run(as_operator(its, credentials), lambda connection: publish(connection, listed))
    with controller(options(context)) as session:
        done = ForeignLists(session, FLEET, its.limits).put(Given(name, made.digest, given.entries))
    render.say(
        f"published the list {name} for all hosts of the fleet: {render.counted(made.entries, 'prefix', 'prefixes')}"
    )
    if done.skipped:
        words = render.counted(done.skipped, "shorter prefix", "shorter prefixes")
        render.note(f"{words} left out on this host; see [fleet] shortest4 and shortest6")
    if its.mode == "shadow":
        render.note("this host only counts what the fleet's lists would drop")


async def publish(connection: Connection, lists: Mapping[str, AddressSet]) -> list[FleetList]:
    """Publish lists; return them as they are published."""
    from xdpguard.fleet.keys import BUCKET, OPERATOR, Key
    from xdpguard.fleet.message import FleetList, encode, list_value
    from xdpguard.fleet.objects import digest_of, packed, put

    found = []
    for name, entries in lists.items():
        data = packed(entries)
        place = await put(connection, name, data)
        its = FleetList(name, digest_of(data), place, len(data), len(entries), "")
        await connection.publish(BUCKET, str(Key(OPERATOR, "list", name)), encode(list_value(its)))
        found.append(its)
    return found


def remove(context: typer.Context, names: Sequence[str], credentials: Path | None) -> None:
    """Take lists back on all hosts: all that are named, or none if the fleet does not have one of them."""
    from xdpguard.control.foreign_lists import ForeignLists
    from xdpguard.fleet import client
    from xdpguard.fleet.keys import BUCKET, OPERATOR, Key
    from xdpguard.fleet.objects import drop
    from xdpguard.policy.rule import FLEET

    with controller(options(context), read_only=True) as session:
        its = _settings(session, context)

    async def work(connection: Connection) -> None:
        keys = await connection.read(keys=f"{OPERATOR}.list.*")
        there = [it.key.rpartition(".")[2] for it in keys if it.data is not None]
        missing = next((name for name in names if name not in there), None)
        if missing is not None:
            known = ", ".join(there) or "none"
            raise XdpguardError(f"the fleet has no list {missing}", f"nothing was changed; its lists: {known}")
        for name in names:
            await connection.publish(BUCKET, str(Key(OPERATOR, "list", name)), None)
            await drop(connection, name)

    client.run(as_operator(its, credentials), work)
    with controller(options(context)) as session:
        here = ForeignLists(session, FLEET, its.limits)
        here.drop([name for name in here.held() if name in names])
    render.say(f"removed {', '.join(names)} on all hosts of the fleet")


def _settings(session: Controller, context: typer.Context) -> Settings:
    from xdpguard.fleet import settings

    return settings.expect(session.store, remembered_policy(session, options(context)).fleet)


def as_operator(its: Settings, credentials: Path | None) -> Settings:
    """Return the settings with an operator's credentials, if those are given."""
    return its if credentials is None else msgspec.structs.replace(its, credentials=str(credentials.absolute()))
