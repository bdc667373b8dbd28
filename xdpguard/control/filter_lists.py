# SPDX-License-Identifier: GPL-2.0
"""What the named lists that filters ask hold now, as ranges of addresses."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from xdpguard.errors import XdpguardError
from xdpguard.policy.filter import Filter
from xdpguard.policy.matching.model import Field, ListTest, Match, Range, Test
from xdpguard.policy.rule import CONFIG, MODES
from xdpguard.store.database import Store
from xdpguard.store.lists import ListStore, NamedList

if TYPE_CHECKING:
    from xdpguard.lists.addresses import AddressSet

_FOUR = (Field.IP_SADDR, Field.IP_DADDR)


class FilterLists:
    """The lists of one store by name: the enforced one, or else the one in shadow, which drops nothing by itself.

    ``coming``: the entries of lists that are about to be put in force.
    """

    def __init__(self, store: Store, coming: Mapping[str, AddressSet] | None = None) -> None:
        self._stores = [ListStore(store, mode) for mode in MODES]
        self._found: dict[str, tuple[NamedList, ListStore] | None] = {}
        self._tests: dict[ListTest, Test] = {}
        self._sets: dict[str, AddressSet] = {name: its.at(time.time()) for name, its in (coming or {}).items()}

    def missing(self, filters: Iterable[Filter]) -> Iterator[tuple[Filter, str]]:
        """Yield the filters that ask a list that does not exist, with the list's name."""
        return ((it, name) for it in filters for name in it.lists if self._its(name) is None)

    def resolved(self, match: Match) -> Match:
        """Return a match with its lists as ranges; a test of a list that does not exist holds for nobody."""
        if not match.lists:
            return match
        return match._replace(tests=match.tests + tuple(map(self.test, match.lists)), lists=())

    def entries(self, name: str) -> AddressSet | None:
        """Return what a list holds now, or None if there is none of that name."""
        if name not in self._sets and (its := self._its(name)):
            self._sets[name] = its[1].in_force(name)
        return self._sets.get(name)

    def changes_at(self, filters: Sequence[Filter]) -> float | None:
        """Return when the next entry of a list that filters ask ends (Unix time); None: never."""
        names = {name for it in filters for name in it.lists}
        ends = [its[0].timing.next for its in map(self._its, names) if its]
        return min((end for end in ends if end is not None), default=None)

    def test(self, it: ListTest) -> Test:
        """Return a test of a list as one of ranges."""
        if it not in self._tests:
            self._tests[it] = Test(it.field, self._tested(it))
        return self._tests[it]

    def _tested(self, it: ListTest) -> tuple[Range, ...]:
        entries = self.entries(it.name)
        if entries is None:
            return ()  # also when negated: a list that was lost is not to make a filter match everybody
        ranges = _ranges(entries, it.field in _FOUR)
        return _complement(ranges, it.field.bits) if it.negated else tuple(ranges)

    def _its(self, name: str) -> tuple[NamedList, ListStore] | None:
        if name not in self._found:
            pairs = ((stored.find(name), stored) for stored in self._stores)
            self._found[name] = next(((its, stored) for its, stored in pairs if its), None)
        return self._found[name]


def _ranges(entries: AddressSet, four: bool) -> list[Range]:
    """Return the addresses of a family in a set as ranges, adjacent ones joined."""
    if four:
        sizes = (1 << 32 - int(length) for length in entries.length4)
        pairs = [(int(first), int(first) + size - 1) for first, size in zip(entries.network4, sizes, strict=True)]
    else:
        pairs = [
            ((int(high) << 64 | int(low)), (int(high) << 64 | int(low)) + (1 << 128 - int(length)) - 1)
            for high, low, length in zip(entries.high6, entries.low6, entries.length6, strict=True)
        ]
    joined: list[Range] = []
    for first, last in pairs:
        if joined and joined[-1][1] + 1 == first:
            joined[-1] = joined[-1][0], last
        else:
            joined.append((first, last))
    return joined


def _complement(ranges: Iterable[Range], bits: int) -> tuple[Range, ...]:
    found, begin = [], 0
    for first, last in ranges:
        if first > begin:
            found.append((begin, first - 1))
        begin = last + 1
    if begin < 1 << bits:
        found.append((begin, (1 << bits) - 1))
    return tuple(found)


def soon(at: float | None) -> bool:
    """Return whether a time has come (Unix time; None: never)."""
    return at is not None and at <= time.time()


def missing_list(its: Filter, name: str, gone: bool) -> XdpguardError:
    """Return the error for a filter that asks a list that does not exist; ``gone``: by this change."""
    if gone:
        remedy = f"remove that first: xdpguard filter remove {its.name}"
        if its.source == CONFIG:
            remedy = "take that out of [[filters]] in the configuration file first"
        return XdpguardError(f"the filter {its.name} asks the list {name}", f"nothing was changed; {remedy}")
    return XdpguardError(
        f"there is no list {name}, which the filter {its.name} asks",
        f"nothing was changed; load it: xdpguard lists load {name} FILE; with --shadow it drops nothing by itself",
    )
