# SPDX-License-Identifier: GPL-2.0
"""Refuse an undo as the commands are refused that would have the same effect."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from xdpguard.control import configured, safety
from xdpguard.control.default import parsed, wanted_in_force
from xdpguard.control.outlook import Outlook
from xdpguard.control.restoring import Step, of
from xdpguard.dataplane.tables.default import InForce
from xdpguard.policy.filter import Filter
from xdpguard.policy.rule import NewRule
from xdpguard.policy.target import Kind, Port, Prefix
from xdpguard.store.database import Store
from xdpguard.store.filters import FilterStore, of_image

if TYPE_CHECKING:
    from xdpguard.lists.addresses import AddressSet


def check(store: Store, steps: Sequence[Step]) -> None:
    """Raise XdpguardError if a block, a closed port, a filter or a list that comes back, or an allow rule or a filter
    that goes, would cut off what the host needs.
    """
    blocks: dict[float | None, list[Prefix]] = defaultdict(list)
    for it in of(steps, "rules", mode="enforce", kind="block"):
        if it.want is not None and not it.over and isinstance(it.target, Prefix):
            blocks[it.want["expires"]].append(it.target)
    for end, prefixes in blocks.items():
        safety.check_block(store, prefixes, None if end is None else end - time.time())
    closed = [it for it in of(steps, "rules", mode="enforce", kind="port") if it.want is not None and not it.over]
    ports = [it.target for it in closed if isinstance(it.target, Port)]
    if ports:
        safety.check_ports(store, ports)
    forced = {it.key for it in of(steps, "lists") if it.want and it.want["forced"]}
    lists: dict[str, AddressSet] = {}
    asked: dict[str, AddressSet] = {}
    for it in of(steps, "list_entries", mode="enforce"):
        from xdpguard.lists.addresses import unpacked

        its = it.want if it.key not in forced else None
        lists[it.key[1]] = unpacked(its["four"], its["six"], its["ends"]) if its else unpacked(b"", b"")
        if its:
            safety.check_list(store, it.key[1], lists[it.key[1]])
    for it in of(steps, "list_entries", mode="shadow"):
        from xdpguard.lists.addresses import unpacked

        if it.want:
            asked[it.key[1]] = unpacked(it.want["four"], it.want["six"], it.want["ends"])
    safety.check_after(store, _after(store, steps, lists, asked))


def _after(
    store: Store, steps: Sequence[Step], lists: Mapping[str, AddressSet], asked: Mapping[str, AddressSet]
) -> Outlook:
    """Return what decides once all are put back: an allow rule may go together with what it protected from."""
    rules = list(of(steps, "rules", mode="enforce"))
    back = [rule for it in rules for rule in _wanted(it)]
    gone = [(cast("Kind", it.key[1]), it.target) for it in rules]
    coming, default = _filters(store, steps), _default(store, steps)
    return Outlook(store, lists=lists, more=back, gone=gone, filters=coming, asked=asked, default=default)


def _default(store: Store, steps: Sequence[Step]) -> InForce | None:
    """Return the default once it is put back; None if it stays."""
    step = next((it for it in steps if it.key == ("default",)), None)
    if step is None:
        return None
    policy = configured.in_force(store)
    its = parsed(str(step.want["value"]) if step.want else "") or (policy.default if policy else None)
    return wanted_in_force(its) if its else InForce("pass", False)


def _filters(store: Store, steps: Sequence[Step]) -> list[Filter] | None:
    """Return the filters, in order, once all are put back; None: they stay."""
    mine = list(of(steps, "filters"))
    if not mine:
        return None
    touched = {it.key[0] for it in mine}
    stay = [it for it in FilterStore(store).alive(time.time()) if it.name not in touched]
    back = [of_image(it.want) for it in mine if it.want is not None and not it.over]
    return sorted([*stay, *back], key=lambda it: (it.position, it.name))


def _wanted(it: Step) -> Iterator[NewRule]:
    """Yield what each origin wants of a rule once it is put back."""
    now, kind = time.time(), cast("Kind", it.key[1])
    if it.want is not None and not it.over:
        yield NewRule(kind, it.target, it.want["reason"], it.want["source"], it.want["created"], it.want["expires"])
    for part in it.others:
        yield NewRule(kind, it.target, part.reason, part.source, now, part.expires)
