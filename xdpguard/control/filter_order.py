# SPDX-License-Identifier: GPL-2.0
"""The filters as a change would leave them: pure functions from the list of before to that of after.

A filter of slot `NEW` is to be given one, and counts from zero.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection, Sequence

from xdpguard.errors import UsageError, XdpguardError
from xdpguard.policy.filter import FILTERS, Filter, NewFilter
from xdpguard.policy.origins import is_foreign
from xdpguard.policy.rule import CONFIG
from xdpguard.store.filters import GAP
from xdpguard.units import counted, moment

NEW = -1
_UNCHANGED = "nothing was changed"
_SHOW = "xdpguard filter list shows which exist"


def with_new(held: Sequence[Filter], new: NewFilter, before: str, replace: bool) -> list[Filter]:
    """Return them with a new one: before another, or last; with ``replace`` in the place of the one of its name."""
    now = time.time()
    there = next((it for it in held if it.name == new.name and it.alive(now)), None)
    rest = [it for it in held if it.name != new.name]
    if there is not None:
        if not replace:
            raise XdpguardError(f"there is a filter {new.name} already: {there.does} {there.text}", _other_name())
        check_own(there)
        as_it_counts = (there.text, there.action, there.limit, there.mode)
        same = as_it_counts == (new.text, new.action, new.limit, new.mode)
        made = there._replace(**new._asdict()) if same else new.stored(there.position, NEW)
        if not before:
            return [made if it.name == new.name else it for it in held]
        return _inserted(rest, [made], _place_of(rest, before))
    return _inserted(rest, [new.stored(0, NEW)], _place_of(rest, before))


def with_last(held: Sequence[Filter], new: Sequence[NewFilter], replace: bool) -> list[Filter]:
    """Return them with new ones behind all others, in their order; with ``replace`` instead of those of their names."""
    found = list(held)
    for it in new:
        found = with_new(found, it, "", replace)
    names = {it.name: place for place, it in enumerate(new)}
    rest = [it for it in found if it.name not in names]
    mine = sorted((it for it in found if it.name in names), key=lambda it: names[it.name])
    return _inserted(rest, mine, len(rest))


def without(held: Sequence[Filter], names: Collection[str]) -> list[Filter]:
    """Return them without some. Raise XdpguardError naming the first that does not exist."""
    for it in (found(held, name) for name in names):
        check_own(it)
    return [it for it in held if it.name not in names]


def moved(held: Sequence[Filter], name: str, before: str) -> list[Filter]:
    """Return them with one moved before another; with no other, to the end."""
    its = found(held, name)
    check_own(its)
    if name == before:
        raise UsageError(f"{name} cannot be before itself", "name another filter")
    rest = [it for it in held if it.name != name]
    return _inserted(rest, [its], _place_of(rest, before))


def promoted(held: Sequence[Filter], names: Collection[str]) -> list[Filter]:
    """Return them with some enforced, which count from zero. Raise XdpguardError if one cannot be."""
    for it in (found(held, name) for name in names):
        if it.mode != "shadow":
            raise XdpguardError(f"the filter {it.name} is enforced already", f"{_UNCHANGED}; {_SHOW}")
        if it.source == CONFIG:
            raise XdpguardError(
                f"the configuration file makes {it.name} a shadow filter",
                f"{_UNCHANGED}; remove shadow = true from it there, and reload or attach again",
            )
    return [it.as_new()._replace(mode="enforce").stored(it.position, NEW) if it.name in names else it for it in held]


def with_source(held: Sequence[Filter], source: str, wanted: Sequence[NewFilter]) -> list[Filter]:
    """Return them with exactly these of an origin, in this order; one that is as before keeps its hits.

    They stand together, where the first of them stood; without any, those of another system behind all others, those
    of the configuration file before them. One that does the same under the same name, made by hand or imported,
    becomes one of them.
    """
    now = time.time()
    names = {it.name: it for it in wanted}
    mine = {it.name: it for it in held if it.source == source or _same(it, names.get(it.name))}
    others = [it for it in held if it.name not in mine and (it.alive(now) or it.name not in names)]
    for it in others:
        if it.name in names:
            raise XdpguardError(
                f"the configuration file has a filter {it.name}, and there is one of that name made by hand",
                f"{_UNCHANGED}; remove that first: xdpguard filter remove {it.name}; or rename it in the file",
            )
    first = next((it.position for it in held if it.source == source), None)
    place = sum(1 for it in others if (is_foreign(source) if first is None else it.position < first))
    placed = [_as_before(mine.get(it.name), it) for it in wanted]
    whole = [*others[:place], *placed, *others[place:]]
    return whole if _ascending(whole) else _renumbered(whole)


def found(held: Sequence[Filter], name: str) -> Filter:
    """Return the filter of a name. Raise XdpguardError if there is none."""
    its = next((it for it in held if it.name == name), None)
    if its is not None and its.alive(time.time()):
        return its
    if its is not None and its.expires is not None:
        raise XdpguardError(f"the filter {name} ended by itself at {moment(its.expires)}", f"{_UNCHANGED}; {_SHOW}")
    raise XdpguardError(f"there is no filter {name}", f"{_UNCHANGED}; {_SHOW}")


def check_count(wanted: Sequence[Filter], now: float) -> None:
    """Raise XdpguardError if there are more filters than there may be (``now``: Unix time)."""
    more = sum(1 for it in wanted if it.alive(now)) - FILTERS
    if more > 0:
        raise XdpguardError(
            f"there may be {FILTERS:,} filters, and {counted(more, 'more does', 'more do')} not fit",
            f"{_UNCHANGED}; join filters that differ in one field by a set: udp sport {{ 53, 123 }}",
        )


def check_own(its: Filter) -> None:
    """Raise XdpguardError for a filter of the configuration file, which decides about it."""
    if its.source == CONFIG:
        raise XdpguardError(
            f"{its.name} is a filter of the configuration file",
            f"{_UNCHANGED}; change it in [[filters]] there, and attach again or reload",
        )


def _other_name() -> str:
    return f"{_UNCHANGED}; use --replace to put this one in its place, or another name"


def _same(its: Filter, new: NewFilter | None) -> bool:
    return new is not None and (its.match, its.action, its.limit, its.mode) == (
        new.match,
        new.action,
        new.limit,
        new.mode,
    )


def _as_before(its: Filter | None, new: NewFilter) -> Filter:
    if its is None:
        return new.stored(0, NEW)
    kept = new._replace(created=its.created)
    same = its.as_new()._replace(reason=new.reason, expires=new.expires, source=new.source) == kept
    return its._replace(**kept._asdict()) if same else kept.stored(its.position, NEW)


def _place_of(held: Sequence[Filter], before: str) -> int:
    if not before:
        return len(held)
    its = found(held, before)
    return next(place for place, it in enumerate(held) if it is its)


def _inserted(held: Sequence[Filter], its: Sequence[Filter], place: int) -> list[Filter]:
    """Return filters with others at a place among them; all get new positions only where no gap is left there."""
    low = held[place - 1].position if place else (held[0].position - 2 * GAP if held else 0)
    high = held[place].position if place < len(held) else low + 2 * GAP * len(its)
    step = (high - low) // (len(its) + 1)
    whole = [
        *held[:place],
        *(it._replace(position=low + step * number) for number, it in enumerate(its, start=1)),
        *held[place:],
    ]
    return whole if step else _renumbered(whole)


def _renumbered(held: Sequence[Filter]) -> list[Filter]:
    return [it._replace(position=GAP * number) for number, it in enumerate(held, start=1)]


def _ascending(held: Sequence[Filter]) -> bool:
    return all(one.position < other.position for one, other in itertools.pairwise(held))
