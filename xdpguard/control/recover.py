# SPDX-License-Identifier: GPL-2.0
"""Rebuild a lost or damaged store: from the kernel's maps, which hold what was in force, and the last good copy.

Where the kernel holds maps, they decide which entries there are, and their ends; the copy adds what no map holds:
reasons, origins, names of lists, filters, settings. Without maps, the copy is taken as it is. What a damaged file still
has whole is newer than the copy, and comes in its place.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from xdpguard.control.controller import Controller
from xdpguard.control.interfaces import BOOT
from xdpguard.control.lists import Lists
from xdpguard.control.rule_counters import MAPS
from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.tables import rebuilt
from xdpguard.policy.hits import Hits
from xdpguard.policy.rule import MODES, Mode, NewRule, Rule
from xdpguard.policy.target import KINDS, Kind, Target
from xdpguard.store import clock, keeping
from xdpguard.store.attachments import Attachment, attachments, put_attachment
from xdpguard.store.database import Store
from xdpguard.store.filters import FilterStore
from xdpguard.store.lists import ListStore, NamedList
from xdpguard.store.salvage import salvage

if TYPE_CHECKING:
    from xdpguard.lists.addresses import AddressSet

REASON = "recovered from the kernel"


class Recovered(NamedTuple):
    """What a store was rebuilt from, and what is in it: numbers of rules by kind, and of entries by list."""

    kernel: bool
    copy: float | None  # when the copy was made, Unix time; None: there is none
    rules: dict[str, int]
    shadow_rules: int
    lists: dict[str, int]
    shadow_lists: dict[str, int]
    interfaces: list[tuple[str, str]]
    unnamed: int  # rules of which only the kernel knew
    filters: int = 0  # of both modes
    other_filters: bool = False  # the kernel has others, which nobody can read back
    salvaged: tuple[str, ...] = ()  # what the damaged file had whole: rules, lists, filters


def complaint(path: Path) -> keeping.Damaged | None:
    """Return what is wrong with a store, after reading all of it; None if it is intact."""
    try:
        with Store(path, read_only=True) as store:
            store.check()
            FilterStore(store).all()
            for mode in MODES:
                store.rules(mode=mode)
                lists = ListStore(store, mode)
                for it in lists.all():
                    lists.entries(it.name)
    except keeping.Damaged as error:
        return error
    return None


def rebuild(session: Controller, copied: float | None, damaged: Path) -> Recovered:
    """Fill a store, which holds the last good copy or nothing, with what the damaged one has whole, and with what the
    kernel holds. ``copied``: the time of the copy.
    """
    salvaged = tuple(salvage(damaged, session.store))
    store, held = session.store, session.changes.attached()
    unnamed = 0
    if held:
        with store.transaction():
            unnamed = _rules(session)
            for lists in (session.lists, session.shadow_lists):
                _lists(lists)
            _interfaces(session)
            session.default.adopt()
            clock.begin(store)
    return Recovered(
        held,
        copied,
        {kind: len(store.rules(kind)) for kind in KINDS},
        len(store.rules(mode="shadow")),
        {it.name: it.entries for it in session.lists.stored.all()},
        {it.name: it.entries for it in session.shadow_lists.stored.all()},
        [(it.name, it.netns) for it in attachments(store)],
        unnamed,
        len(session.filters.alive()),
        held and "filters" not in salvaged and session.filters.stale(),
        salvaged,
    )


def _rules(session: Controller) -> int:
    store, unnamed = session.store, 0
    with session.tables() as tables:
        unnamed += _replace(store, "enforce", list(rebuilt.rules(tables)))
        store.put_fact(MAPS["enforce"], tables.generation())
    with session.shadow_tables() as shadow:
        unnamed += _replace(store, "shadow", list(rebuilt.rules(shadow)))
        store.put_fact(MAPS["shadow"], shadow.generation())
    return unnamed


def _replace(store: Store, mode: Mode, entries: list[rebuilt.Entry]) -> int:
    """Make these the rules of a mode; return how many of them the store did not know."""
    before = {(it.kind, it.target): it for it in store.rules(mode=mode)}
    wanted = {(it.kind, it.target): it for it in entries}
    # All are put anew, as a slot may have gone to another rule; what the hits were is put back.
    store.remove(it.id for it in before.values())
    store.put(((_known(it, before), it.slot) for it in entries), mode)
    now = {(it.kind, it.target): it for it in store.rules(mode=mode)}
    old = ((before[place], rule.id) for place, rule in now.items() if place in before)
    store.add_hits(
        ((rule.split if mode == "shadow" else Hits(rule.packets, rule.bytes)), number) for rule, number in old
    )
    return sum(1 for place in wanted if place not in before)


def _known(its: rebuilt.Entry, before: Mapping[tuple[Kind, Target], Rule]) -> NewRule:
    known = before.get((its.kind, its.target))
    if known is None:
        return NewRule(its.kind, its.target, REASON, its.source or "cli", time.time(), its.expires)
    same = known.expires is not None and its.expires is not None and abs(known.expires - its.expires) < 1
    end = known.expires if same else its.expires
    return NewRule(its.kind, its.target, known.reason, known.source, known.created, end)


def _lists(lists: Lists) -> None:
    """Make the lists of a mode those in the kernel, unless the copy has exactly these."""
    if not lists.stale():
        return
    found = lists.in_maps()
    known = {it.number: it for it in lists.stored.all()}
    for its in known.values():
        lists.stored.remove(its.name)
    for number, entries in found.items():
        lists.stored.put(_named(number, known.get(number), entries, lists.mode), entries)


def _named(number: int, known: NamedList | None, entries: AddressSet, mode: Mode) -> NamedList:
    count = len(entries)
    if known:
        return known._replace(entries=count, stamp="")  # a list of the configuration is loaded again
    # What was forced stays in force: the host's needs were let through when it was loaded.
    return NamedList(
        f"recovered-{number}", number, "cli", "", "", "kernel", time.time(), count, count, 0, 0, True, mode=mode
    )


def _interfaces(session: Controller) -> None:
    """Record the interfaces that carry the program. Whether one only observes is known from the copy alone."""
    store = session.store
    known = {(it.name, it.netns): it for it in attachments(store)}
    for it in session.interfaces():
        if it.state == "attached" and it.prog_id:
            old = known.get((it.name, it.netns))
            made = Attachment(it.name, it.netns, it.mode, old.observe if old else False, it.prog_id, it.any_mtu)
            put_attachment(store, made, time.time())
    store.put_fact(BOOT, kernel.boot_id())
