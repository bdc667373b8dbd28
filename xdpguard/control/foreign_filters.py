# SPDX-License-Identifier: GPL-2.0
"""The filters of another system: which of those it wants fit beside the others, and cut off nothing the host needs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from xdpguard.control.filter_lists import FilterLists
from xdpguard.control.filter_order import NEW, with_source
from xdpguard.control.filter_outlook import cutting
from xdpguard.control.filter_set import check_fits
from xdpguard.control.filters import Filters
from xdpguard.errors import XdpguardError
from xdpguard.net.sockets import Protected
from xdpguard.policy.filter import FILTERS, Filter, NewFilter
from xdpguard.policy.foreign import Refused
from xdpguard.policy.rule import Mode
from xdpguard.policy.target import Prefix


class ForeignFilters:
    """The filters of one origin, in one mode."""

    def __init__(self, filters: Filters, origin: str, mode: Mode, now: Callable[[], float]) -> None:
        self._filters = filters
        self._origin = origin
        self._mode: Mode = mode
        self._now = now

    def planned(
        self,
        wanted: Mapping[str, NewFilter],
        asked: Collection[str] | None,
        needed: Collection[Protected],
        allowed: Collection[Prefix],
    ) -> tuple[list[Filter] | None, list[Refused]]:
        """Return all filters, in order, as they are to be, None if they stay as they are; and what is refused.

        ``asked``: the names that this is about, None for all of the origin; those not in ``wanted`` go. ``needed`` and
        ``allowed``: what filters must not cut off, and what they cannot.
        """
        held = self._filters.stored.all()
        mine = {it.name: it.as_new() for it in held if it.source == self._origin and it.alive(self._now())}
        rest = {} if asked is None else {name: it for name, it in mine.items() if name not in asked}
        if not wanted and len(rest) == len(mine):
            return None, []
        # In shadow mode all only count; otherwise those that were meant to.
        new = wanted if self._mode == "enforce" else {name: it._replace(mode="shadow") for name, it in wanted.items()}
        # In a put those that are there keep their places.
        order = dict.fromkeys([*(() if asked is None else mine), *new])

        def without(denied: Collection[str]) -> list[Filter]:
            found = {name: it for name, it in {**rest, **new}.items() if name not in denied}
            return with_source(held, self._origin, [found[name] for name in order if name in found])

        denied = self._in_the_way(held, new, len(rest))
        planned = without(denied)
        while cut := {name: why for name, why in self._cutting(planned, needed, allowed) if name in new}:
            denied |= cut
            planned = without(denied)
        fault = self._fault(planned) if planned != held else ""
        if fault:
            denied |= {name: fault for name in new if name not in denied and not _as_before(new[name], mine)}
            planned = without(denied)
        return None if planned == held else planned, [Refused(name, why) for name, why in denied.items()]

    def apply(self, planned: Sequence[Filter]) -> None:
        """Make these all filters there are, as part of a change."""
        self._filters.apply(planned)

    def remove(self, names: Collection[str]) -> int:
        """Remove filters of the origin; return how many."""
        held = self._filters.stored.all()
        left = [it for it in held if it.source != self._origin or it.name not in names]
        if len(left) < len(held):
            self._filters.apply(left)
        return len(held) - len(left)

    def _in_the_way(self, held: Sequence[Filter], new: Mapping[str, NewFilter], rest: int) -> dict[str, str]:
        """Return which new ones have no place beside those of others, and why."""
        others = {it.name: it.source for it in held if it.source != self._origin and it.alive(self._now())}
        lists, room, found = FilterLists(self._filters.changes.store), FILTERS - len(others) - rest, {}
        for name, it in new.items():
            missing = next(lists.missing([it.stored(0, NEW)]), None)
            if name in others:
                found[name] = f"there is another filter of this name here, of origin {others[name]}"
            elif missing is not None:
                found[name] = f"it asks the list {missing[1]}, which is not here"
            elif room <= 0:
                found[name] = f"there is no room: there may be {FILTERS:,} filters"
            else:
                room -= 1
        return found

    def _cutting(
        self, planned: Sequence[Filter], needed: Collection[Protected], allowed: Collection[Prefix]
    ) -> Iterator[tuple[str, str]]:
        """Yield the filters of the origin that would cut off what the host needs, and what that is."""
        alive = [it for it in planned if it.alive(self._now())]
        lists = FilterLists(self._filters.changes.store)
        for need in needed:
            if not any(prefix.covers(need.address) for prefix in allowed):
                for its, does in cutting(alive, lists, need.address, need.ports, need.service):
                    if its.source == self._origin:
                        yield its.name, f"{need.address} is {need.words}, and it {does}"

    def _fault(self, planned: Sequence[Filter]) -> str:
        """Return why no set in the kernel can hold these filters; empty if one can."""
        alive = [it for it in planned if it.alive(self._now())]
        try:
            check_fits(
                [it._replace(slot=slot) for slot, it in enumerate(alive)], FilterLists(self._filters.changes.store)
            )
        except XdpguardError as error:
            return str(error)
        return ""


def _as_before(its: NewFilter, mine: Mapping[str, NewFilter]) -> bool:
    """Return whether a filter is there already, whatever its end and its reason are."""
    held = mine.get(its.name)
    return held is not None and its == held._replace(reason=its.reason, created=its.created, expires=its.expires)
