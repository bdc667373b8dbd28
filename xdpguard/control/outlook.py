# SPDX-License-Identifier: GPL-2.0
"""Until when an address gets through: by the entries as they are stored, or as a change would leave them."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from xdpguard.control.default import in_force, since
from xdpguard.control.filter_lists import FilterLists
from xdpguard.control.filter_outlook import cutting, passes
from xdpguard.policy.filter import Filter
from xdpguard.policy.rule import CONFIG, SAFETY, NewRule, Rule
from xdpguard.policy.target import Kind, Port, Prefix, Target
from xdpguard.store.database import Store
from xdpguard.store.filters import FilterStore
from xdpguard.store.lists import ListStore
from xdpguard.store.rows import around

if TYPE_CHECKING:
    from xdpguard.dataplane.tables.default import InForce
    from xdpguard.lists.addresses import AddressSet
    from xdpguard.net.sockets import Service

DEFAULT = "the default"  # the words for it as an entry


class BlockingEntry(NamedTuple):
    """An entry that blocks an address, as text, and its end (Unix time; infinity: none).

    ``mark`` differs for an entry of the same name made later. ``does``: what a filter or the default would
    do.
    """

    words: str
    mark: str
    remedy: str
    ends: float = math.inf
    does: str = ""


class Outlook:
    """The entries that decide about sources: enforced rules and filters, and lists that are not forced.

    ``config`` and ``lists``: the rules and lists of a configuration about to be put in force; its stored rules count no
    more then. ``without``: targets of allow rules about to be removed; ``more``: rules about to be added, which replace
    allow rules of the same target. ``gone``: kinds and targets of rules that are about to be removed or replaced.
    ``filters``: those that there will be, in order; ``asked``: lists as filters alone will find them. ``default``: the
    one that is about to be put in force.
    """

    def __init__(
        self,
        store: Store,
        config: Collection[NewRule] | None = None,
        lists: Mapping[str, AddressSet] | None = None,
        without: Collection[Prefix] = (),
        more: Collection[NewRule] = (),
        gone: Collection[tuple[Kind, Target]] = (),
        default: InForce | None = None,
        filters: Sequence[Filter] | None = None,
        asked: Mapping[str, AddressSet] | None = None,
    ) -> None:
        self._store = store
        self._config = config
        allowed = {*without, *(it.target for it in more if it.kind == "allow")}
        self._gone: set[tuple[Kind, Target]] = {*gone, *(("allow", target) for target in allowed)}
        self._new = [*(config or ()), *more]
        self._now = time.time()
        self._coming = lists or {}
        self._default = default or in_force(store)
        held = FilterStore(store).all() if filters is None else filters
        self._filters = [it for it in held if it.alive(self._now)]
        self._asked = FilterLists(store, {**(asked or {}), **self._coming})

    def blocking(
        self, address: Prefix, ports: Collection[Port] = (), service: Service | None = None
    ) -> Iterator[BlockingEntry]:
        """Yield the entries that block all of an address; ``ports``: over which somebody is logged in from there;
        ``service``: what this host asks there.
        """
        for target, (its, ends) in _by_target(self._covering("block", address)).items():
            yield BlockingEntry(f"block {target}", its, f"remove the block of {target}", ends)
        for name, its, entries in self._lists:
            if held(entries, address):
                yield BlockingEntry(
                    f"the list {name}", its, f"remove it from the list {name}", end_in(entries, address)
                )
        for target, (its, ends) in _by_target(self._all("port") if ports else ()).items():
            if target in ports:
                yield BlockingEntry(f"closed port {target}", its, f"reopen {target}", ends)
        for it, does in cutting(self._filters, self._asked, address, ports, service):
            ends = math.inf if it.expires is None else it.expires
            remedy = f"remove the filter {it.name}"
            yield BlockingEntry(f"the filter {it.name}", filter_mark(it), remedy, ends, does)
        if self._default.mode == "enforce" and any(self._cut_by_default(address, port) for port in ports):
            remedy, does = "admit its port with a filter that passes it", "would drop the packets of a new login"
            yield BlockingEntry(DEFAULT, default_mark(self._store), remedy, math.inf, does)

    def _cut_by_default(self, address: Prefix, port: Port) -> bool:
        """Return whether a new connection to a port is cut: a listener alone admits no TCP."""
        if port.protocol != "tcp" and not self._default.strict_udp:
            return False
        return not passes(self._filters, self._asked, address, port)

    def allowed_until(self, address: Prefix, safety: bool = True) -> float:
        """Return when the last allow rule of an address ends, Unix time: infinity for never, 0 without one.

        ``safety``: the rules that let through what the host needs count as well.
        """
        rules = [it for it in self._covering("allow", address) if safety or it.source != SAFETY]
        return max(map(_end, rules), default=0.0)

    def cut(
        self, address: Prefix, ports: Collection[Port] = (), service: Service | None = None
    ) -> tuple[float, BlockingEntry | None]:
        """Return when an address gets through no more (0: now; infinity: never), and the entry that then blocks it."""
        until = self.allowed_until(address)
        blocks = [it for it in self.blocking(address, ports, service) if it.ends > until]
        return (until, blocks[0]) if blocks else (math.inf, None)

    @cached_property
    def _lists(self) -> list[tuple[str, str, AddressSet]]:
        """The name, the mark and the entries of each list."""
        stored = ListStore(self._store)
        found = [
            (it.name, f"list {it.name} {it.loaded}", stored.in_force(it.name))
            for it in stored.all()
            if not it.forced and it.name not in self._coming
        ]
        return found + [(name, "", entries.at(self._now)) for name, entries in self._coming.items()]

    def _covering(self, kind: Kind, address: Prefix) -> list[Rule | NewRule]:
        covers = {Prefix(*pair) for pair in around(address)}
        stored = self._store.covering(kind, address, self._now)
        return [*self._staying(stored), *(it for it in self._new if it.kind == kind and it.target in covers)]

    def _all(self, kind: Kind) -> list[Rule | NewRule]:
        live = [it for it in self._store.rules(kind) if it.expires is None or it.expires > self._now]
        return [*self._staying(live), *(it for it in self._new if it.kind == kind)]

    def _staying(self, stored: Collection[Rule]) -> list[Rule]:
        """Return the parts of the stored rules, by origin, that the change leaves."""
        left = (it for it in stored if (it.kind, it.target) not in self._gone)
        return [
            it._replace(source=part.source, expires=part.expires, others=())
            for it in left
            for part in it.parts
            if self._config is None or part.source != CONFIG
        ]


def held(entries: AddressSet, address: Prefix) -> Prefix | None:
    """Return the entry of a list that holds all of an address or prefix, or None."""
    found = entries.holding(address)
    return found if found is not None and found.covers(address) else None


def end_after(life: float | None) -> float:
    """Return when what lasts so many seconds from now ends, Unix time; infinity for None: never."""
    return math.inf if life is None else time.time() + life


def end_in(entries: AddressSet, address: Prefix) -> float:
    """Return when the entry of a list that holds an address ends, Unix time; infinity: never."""
    found = entries.entry(address)
    return math.inf if found is None or found[1] is None else found[1]


def mark(rule: Rule | NewRule) -> str:
    """Return the mark of a rule: renewing the rule keeps it, removing and adding the rule again changes it."""
    return f"{rule.kind} {rule.target} {rule.created}"


def filter_mark(its: Filter) -> str:
    """Return the mark of a filter: one of the same name made later has another."""
    return f"filter {its.name} {its.created}"


def default_mark(store: Store) -> str:
    """Return the mark of the default: put in force again later, it has another."""
    return f"{DEFAULT} {since(store)}"


def _by_target(rules: Iterable[Rule | NewRule]) -> dict[Target, tuple[str, float]]:
    """Return the mark and the end of the rules by target; of two, the mark of the first and the later end."""
    found: dict[Target, tuple[str, float]] = {}
    for it in rules:
        its, ends = found.get(it.target, (mark(it), 0.0))
        found[it.target] = its, max(ends, _end(it))
    return found


def _end(rule: Rule | NewRule) -> float:
    return math.inf if rule.expires is None else rule.expires
