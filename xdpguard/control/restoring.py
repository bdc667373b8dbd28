# SPDX-License-Identifier: GPL-2.0
"""Rows of the store as they were before a change: what differs now, and how it is put back."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from xdpguard.control.default import described, parsed
from xdpguard.control.ruleset import Ruleset
from xdpguard.errors import XdpguardError
from xdpguard.policy.origins import ordered
from xdpguard.policy.rule import MODES, NewRule, Part, Rule
from xdpguard.policy.target import Target, parse_stored
from xdpguard.store import clock, journal
from xdpguard.store.database import Store
from xdpguard.store.journal import TABLES, Image, Touched
from xdpguard.store.timing import timing, whole

_GONE = {"allow": "no longer allowed", "block": "no longer blocked", "port": "open again"}
_WHAT = ("text", "action", "rate", "mode", "reason", "expires")  # of a filter, beside its place in the order
_COUNTED = ("text", "action", "rate", "mode")  # of a filter: what its hits are hits of
_NO_HITS = dict.fromkeys(("packets", "bytes", "limited_packets", "limited_bytes"), 0)
_BACK = {"allow": "allowed", "block": "blocked", "port": "closed"}


class Step(NamedTuple):
    """A row to put back: how it is to be, None for no row, and how it is now. ``after``: see `Touched`.

    ``others``: the parts in a rule of origins that have come to want it since the change, and keep it.
    """

    place: str
    key: tuple[str, ...]
    want: Image | None
    now: Image | None
    after: int | None
    columns: Sequence[str]  # of the table, now
    others: tuple[Part, ...] = ()
    ended: int = 0  # of the entries of a list that is to be there
    alone: bool = False  # the entries of a list whose own row stays as it is
    earlier: bool = False  # its ends are from before this boot
    over: bool = False  # its end has come by the clock, which may be wrong

    @property
    def target(self) -> Target:
        """The target of a rule."""
        _, kind, text = self.key
        return parse_stored(kind, text)  # type: ignore[arg-type]

    def words(self) -> str:
        """Describe what putting it back does; empty if another row of the change says so."""
        row = self.want or self.now or {}
        if self.place == "rules":
            return f"{self._verb(row)}: {row['target']}"
        name = f"{'shadow ' if row.get('mode') == 'shadow' else ''}list {row.get('name')}"
        if self.place == "list_entries" and self.alone:
            return f"{name}: its entries as before"
        if self.place == "lists":
            in_force = row["entries"] - self.ended
            count = f"{in_force:,} {'entry' if in_force == 1 else 'entries'}"
            return f"{name}: removed" if self.want is None else f"{name}: as before, {count}"
        if self.place == "filters":
            return self._filter_words()
        return self._fact_words() if self.place == "facts" else ""

    def _verb(self, row: Image) -> str:
        if self.over:
            return "ended by the clock"
        if self.want is None and self.others:
            return f"{_BACK[row['kind']]} still, by {', '.join(it.source for it in self.others)}"
        if row["mode"] == "shadow":
            return "no longer counted for" if self.want is None else "counted for as before"
        return _GONE[row["kind"]] if self.want is None else f"{_BACK[row['kind']]} as before"

    def _fact_words(self) -> str:
        text = str(self.want["value"]) if self.want else ""
        if self.key == ("guard",):
            held = json.loads(text or "{}") or {}
            return f"guard: set by hand is {', '.join(f'{key}={value}' for key, value in held.items()) or 'nothing'}"
        if self.key == ("default",):
            return f"default: {described(parsed(text))}"
        return ""

    def _filter_words(self) -> str:
        row = self.want or self.now or {}
        name = f"{'shadow ' if row['mode'] == 'shadow' else ''}filter {row['name']}"
        if self.want is None:
            return f"{name}: removed"
        same = self.now and all(self.now[it] == self.want[it] for it in self.want if it in self.now and it in _WHAT)
        over = ", and has ended by the clock" if self.over else ""
        return f"{name}: {'in its place of before' if same else 'as before'}{over}"


def steps(store: Store, rows: Sequence[Touched], strict: bool) -> list[Step]:
    """Return the rows that differ from what they were before; what was made in this boot and has ended since does not
    come back. What is of an earlier boot does: the clock may be wrong.

    ``strict``: raise XdpguardError if one is no longer as the change left it.
    """
    now, found = time.time(), []
    names = {place: journal.columns(store, place) for place in {it.place for it in rows}}
    for it in rows:
        if not names[it.place]:
            continue
        ended = it.before is not None and it.before.get("expires") is not None and it.before["expires"] <= now
        want = None if ended and not it.earlier else it.before
        there = journal.current(store, it.place, names[it.place], it.key)
        shifted = journal.shifted(it.place, want, there)
        if journal.checksum(it.place, want) == journal.checksum(it.place, there) and not shifted:
            continue
        over = ended and want is not None
        step = Step(it.place, it.key, want, there, it.after, names[it.place], earlier=it.earlier, over=over)
        if it.place == "rules":
            step = step._replace(others=_others(store, step, it.origins))
        if it.place == "lists" and want is not None:
            step = step._replace(ended=_ended(store, it.key, want, rows))
        if strict and (step.others or journal.checksum(it.place, there) != it.after):
            raise XdpguardError(
                f"{_named(it)} was changed since by something else, or its time has ended",
                "nothing was changed; xdpguard undo --force puts it back all the same",
            )
        found.append(step)
    told = {it.key for it in found if it.place == "lists"}
    return [it._replace(alone=it.key not in told) if it.place == "list_entries" else it for it in found]


def _ended(store: Store, key: tuple[str, ...], its: Image, rows: Sequence[Touched]) -> int:
    """Return how many entries of a list have ended, once it is put back."""
    known = next((it.before for it in rows if (it.place, it.key) == ("list_entries", key)), None)
    entries = known or journal.current(store, "list_entries", ["ends"], key) or {"ends": b""}
    return timing(entries["ends"], whole(its["shift"]), time.time()).ended


def _rule(store: Store, it: Step) -> Rule | None:
    mode, kind, _ = it.key
    return store.find(kind, [it.target], mode).get(it.target)  # type: ignore[arg-type]


def _others(store: Store, it: Step, origins: Collection[str]) -> tuple[Part, ...]:
    rule = _rule(store, it)
    return tuple(part for part in rule.parts if part.source not in origins) if rule else ()


def overrides(store: Store, its: Sequence[Step]) -> dict[str, Any]:
    """Return the overrides of ``guard set`` as they are once the rows are put back."""
    for it in its:
        if it.key == ("guard",):
            return dict(json.loads(it.want["value"] or "{}")) if it.want else {}
    return dict(json.loads(store.fact("guard") or "{}"))


def restore(ruleset: Ruleset, its: Sequence[Step]) -> None:
    """Put rows back and bring the kernel's rules and lists in line with them. The caller is within a change."""
    store = ruleset.store
    for it in its:
        if it.want is None and not it.others:
            same = " AND ".join(f"{name} = ?" for name in TABLES[it.place].key)
            store.execute(f"DELETE FROM {it.place} WHERE {same}", it.key)
    for mode, entries in zip(MODES, (ruleset.rules, ruleset.shadow_rules), strict=True):
        mine = [it for it in its if it.place in ("rules", "parts") and it.key[0] == mode]
        gone = [it.now["slot"] for it in mine if it.want is None and not it.others and it.now and it.place == "rules"]
        ruleset.changes.release(entries, gone)
        new = [it for it in mine if it.now is None and it.place == "rules"]
        slots = iter(entries.fresh_slots(len(new)))
        for it in mine:
            _put(store, it, {"slot": next(slots)} if it.now is None and it.place == "rules" else {})
        store.put((_joined(store, it) for it in mine if it.others), mode)
        if mine:
            entries.refill()
    for mode, lists in zip(MODES, (ruleset.lists, ruleset.shadow_lists), strict=True):
        mine = [it for it in its if it.place in ("lists", "list_entries") and it.key[0] == mode]
        for it in mine:
            _put(store, it, {"number": lists.stored.free_number()} if it.now is None and it.place == "lists" else {})
        if mine:
            lists.refill([it.key[1] for it in mine if it.place == "lists" and it.now is None and it.want])
            ruleset.filters.follow_lists([it.key[1] for it in mine])
    _restore_filters(ruleset, [it for it in its if it.place == "filters"])
    for it in its:
        if it.place == "facts":
            _put(store, it, {})
    back = ((journal.entry_of(it.place, it.key), it.earlier) for it in its if it.want is not None and not it.others)
    clock.mark(store, {entry: earlier for entry, earlier in back if entry is not None})


def _restore_filters(ruleset: Ruleset, its: Sequence[Step]) -> None:
    """Put filters back. One that matches or does something else than now counts from zero, as when it is replaced."""
    again = {it.key for it in its if it.want and not (it.now and all(it.want[key] == it.now[key] for key in _COUNTED))}
    gone = [it.now["slot"] for it in its if it.now and (it.want is None or it.key in again)]
    ruleset.changes.release(ruleset.filters, gone)
    slots = iter(ruleset.filters.fresh_slots(len(again)))
    for it in its:
        _put(ruleset.store, it, {"slot": next(slots), **_NO_HITS} if it.key in again else {})
    if its:
        ruleset.filters.refill(it.key[0] for it in its if it.want)


def _joined(store: Store, it: Step) -> tuple[NewRule, int]:
    """Return a rule with the parts that others have come to have in it since the change, and its slot."""
    rule = _rule(store, it)
    assert rule is not None  # it stays for the others
    theirs = {part.source for part in it.others}
    # What came to count before the part of this origin has left that among the others.
    own = rule.parts[:1] + tuple(part for part in rule.others if part.source not in {rule.source, *theirs})
    return rule.as_new().of(ordered([*(() if it.want is None else own), *it.others])), rule.slot


def _put(store: Store, it: Step, own: Image) -> None:
    """Write a row that is to be there. A new one gets what is ``own`` to it, and counts from zero."""
    if it.want is None:
        return
    known = set(it.columns) - TABLES[it.place].volatile
    row = {name: value for name, value in it.want.items() if name in known} | own
    if it.now is None:
        if it.place == "rules" and not store.execute("SELECT 1 FROM rules WHERE id = ?", (it.want["id"],)):
            row["id"] = it.want["id"]  # its place in the order of age
        marks = ", ".join("?" * len(row))
        store.execute(f"INSERT INTO {it.place} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))
        return
    same = " AND ".join(f"{name} = ?" for name in TABLES[it.place].key)
    new = ", ".join(f"{name} = ?" for name in row)
    store.execute(f"UPDATE {it.place} SET {new} WHERE {same}", (*row.values(), *it.key))


def of(its: Sequence[Step], place: str, **values: str) -> Iterator[Step]:
    """Yield the rows of a table that have these values."""
    for it in its:
        row = it.want or it.now or {}
        if it.place == place and all(row.get(name) == value for name, value in values.items()):
            yield it


def _named(it: Touched) -> str:
    if it.place in ("rules", "parts"):
        return f"the {'shadow rule' if it.key[0] == 'shadow' else 'rule'} for {it.key[2]}"
    if it.place in ("lists", "list_entries"):
        return f"the list {it.key[1]}"
    if it.place == "filters":
        return f"the filter {it.key[0]}"
    if it.place == "facts":
        return "the SYN guard's policy" if it.key == ("guard",) else "the configuration"
    return f"the attachment of {it.key[0]}"
