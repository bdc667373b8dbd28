# SPDX-License-Identifier: GPL-2.0
"""What loading lists is told, and what comes of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from xdpguard.errors import UsageError, XdpguardError
from xdpguard.net.sockets import Protected
from xdpguard.policy.rule import NewRule
from xdpguard.store.database import Store
from xdpguard.store.lists import ListStore, NamedList

if TYPE_CHECKING:
    from xdpguard.lists.addresses import AddressSet
    from xdpguard.lists.formats import Fault


class Loaded(NamedTuple):
    """The result of loading a list: the list, its previous state, invalid lines, notes, and whether it is in force."""

    its: NamedList
    before: NamedList | None
    faults: list[Fault]
    notes: list[str]
    in_force: bool
    reading: str  # what the file was taken for
    left_out: int  # entries of it that do not block


class Circumstances(NamedTuple):
    """What a list is checked against besides the store: namespaces to be guarded, numbers taken, rules to come.

    ``unattended``: nobody is there to see a refusal; the caller lets through what the host needs (needed.py).
    ``loopback``: namespaces whose loopback interface is to be guarded.
    """

    places: Collection[str] = ()
    taken: Collection[int] = ()
    config: Collection[NewRule] | None = None
    unattended: bool = False
    loopback: Collection[str] = ()
    needed: Collection[Protected] | None = None  # what the host needs, if that was asked already


class Prepared(NamedTuple):
    """A list that was read and has passed the checks."""

    its: NamedList
    entries: AddressSet
    before: NamedList | None
    faults: list[Fault]
    notes: list[str]
    reading: str
    left_out: int
    refusal: XdpguardError | None = None  # of a dry run, which reports it and goes on

    def loaded(self, in_force: bool) -> Loaded:
        """Return the result to report for this list."""
        return Loaded(self.its, self.before, self.faults, self.notes, in_force, self.reading, self.left_out)


class ListsFailed(UsageError):
    """Lists of the configuration that could not be loaded: ``errors`` by name; the message is that of the first."""

    def __init__(self, errors: Mapping[str, XdpguardError]) -> None:
        first = next(iter(errors.values()))
        super().__init__(str(first), first.remedy)
        self.errors = dict(errors)


class Plan(NamedTuple):
    """What a configuration asks for: lists to put in force, names of lists to drop, and load errors by list name."""

    puts: list[Prepared]
    drops: list[str]
    errors: dict[str, XdpguardError]


NO_PLAN = Plan([], [], {})


def unforced(puts: Iterable[Prepared]) -> dict[str, AddressSet]:
    """Return the entries of the lists that block, unless forced, so must not cut off what the host needs."""
    return {it.its.name: it.entries for it in puts if it.its.mode == "enforce" and not it.its.forced}


def asked(store: Store, plan: Plan, shadow: Plan = NO_PLAN) -> dict[str, AddressSet]:
    """Return the entries of lists that come, as filters will find them: an enforced one hides one in shadow."""
    enforced = {it.its.name: it.entries for it in plan.puts}
    hiding = {it.name for it in ListStore(store).all()} - set(plan.drops) | set(enforced)
    return enforced | {it.its.name: it.entries for it in shadow.puts if it.its.name not in hiding}
