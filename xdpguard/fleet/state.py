# SPDX-License-Identifier: GPL-2.0
"""What the fleet wants: the entries of all publishers, put together. It holds no connection and decides nothing."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from xdpguard.fleet.keys import OPERATOR, SETTLED, Key
from xdpguard.fleet.message import FleetList, Record, decode
from xdpguard.policy.filter import NewFilter
from xdpguard.policy.foreign import Entry
from xdpguard.policy.origins import later
from xdpguard.policy.rule import GUARD

Target = tuple[str, str]  # the kind and the target as keys have them
_BITS = 1 << 256
LONG_AGO = 7200.0  # seconds; more than clocks may differ


class Message(NamedTuple):
    """A change of one key, as the server numbered it; ``data`` is None where the key was deleted.

    ``at``: when the server stored it, Unix time by its clock; 0 where nobody asked.
    """

    sequence: int
    key: str
    data: bytes | None
    at: float = 0.0


class State:
    """The union of what publishers want. A target is wanted while any of them names it; the latest end counts.

    ``broken``: keys whose values are refused, each with why; ``settled``: the stream that an operator wants hosts to
    follow exactly; ``pending``: what this host has still to publish, which counts here; ``own``: what it has published;
    ``lists``: those that the operator wants, by name.
    """

    def __init__(self, name: str = "") -> None:
        """``name``: under which this host publishes."""
        self.name = name
        self.own: dict[Target, Record] = {}
        self.broken: dict[str, str] = {}
        self.settled = ""
        self.pending: dict[Target, Record] = {}
        self.lists: dict[str, FleetList] = {}
        self._numbers: Counter[str] = Counter()  # of keys, by publisher
        self._held: dict[str, tuple[int, Record | None]] = {}
        self._by_target: dict[Target, dict[str, Record]] = {}
        self._marks: dict[Target, int] = {}
        self._sum = 0

    @property
    def keys(self) -> int:
        """How many keys publishers have."""
        return self._numbers.total()

    def __len__(self) -> int:
        return len(self._by_target)

    @property
    def sources(self) -> int:
        """How many sources anybody blocks."""
        return sum(kind == "block" for kind, _ in self._by_target)

    @property
    def digest(self) -> str:
        """A digest of all wanted targets and their ends, the same on all hosts that hold the same. 16 hex digits.

        It is a sum of SHA-256 hashes, so that a change costs one hash, however many entries there are.
        """
        return f"{self._sum:064x}"[:16]

    def take(self, messages: Iterable[Message]) -> set[Target]:
        """Take changes, in whatever order, also twice; return the targets that they touch."""
        return {found for it in messages for found in self._take(it)}

    def become(self, messages: Iterable[Message]) -> set[Target]:
        """Become exactly what a snapshot of the bucket holds; return all targets that may have changed."""
        before, pending = set(self._by_target), self.pending
        self.__init__(self.name)  # type: ignore[misc]
        self.pending = pending
        self.take(messages)
        return before | set(self._by_target)

    def wanted(self, target: Target, ban_after: int = 0, here: bool = True) -> Entry | FleetList | None:
        """Return what is wanted of a target; None if nothing is. ``here``: with what is still to be published.

        ``ban_after``: bans of guards count once so many hosts have made them; 0: each does. Those that ended long ago,
        of hosts that no longer take theirs back, do not.
        """
        its = dict(self._by_target.get(target, {}))
        if here and (mine := self.pending.get(target)):
            its[mine.key.host] = mine
        late = time.time() - LONG_AGO
        if ban_after and sum(it.origin == GUARD and not it.ended(late) for it in its.values()) < ban_after:
            its = {host: it for host, it in its.items() if it.origin != GUARD}
        return _joined([its[host] for host in sorted(its)])

    def all_wanted(self, ban_after: int = 0, without: Collection[Target] = ()) -> Iterator[Entry]:
        """Yield all entries that are wanted, in an order that is the same on all hosts.

        An operator's come first, then the first of each publisher, then the second: a host may take only so many, and
        a publisher that has too many is to crowd out itself.
        """
        ranks = self._ranks()
        order = sorted(self._by_target.keys() | self.pending.keys(), key=lambda it: (ranks.get(it, -1), it))
        for target in order:
            found = self.wanted(target, ban_after) if target not in without else None
            if found is not None and not isinstance(found, FleetList):
                yield found

    def over(self, most: int) -> dict[str, int]:
        """Return the publishers of more entries than that, with how many. An operator may have any number."""
        return dict(sorted(it for it in self._numbers.items() if it[1] > most and it[0] != OPERATOR))

    def surplus(self, most: int) -> set[Target]:
        """Return the targets before which each of their publishers has so many others: the same on all hosts."""
        ranks = self._ranks() if self.over(most) else {}
        return {target for target, rank in ranks.items() if rank >= most}

    def _ranks(self) -> dict[Target, int]:
        """Return how many targets a publisher has before each, of several the fewest; -1 for those of an operator."""
        ranks: dict[Target, int] = {}
        numbers: Counter[str] = Counter()
        for target in sorted(self._by_target):
            its = self._by_target[target]
            ranks[target] = -1 if OPERATOR in its else min(numbers[host] for host in its)
            numbers.update(its.keys())
        return ranks

    def publishers(self, target: Target) -> list[str]:
        """Return who wants a target."""
        return sorted(self._by_target.get(target, {}))

    def record(self, key: Key) -> Record | None:
        """Return the entry of a key, or None."""
        return self._by_target.get(target_of(key), {}).get(key.host)

    def _take(self, message: Message) -> Iterator[Target]:
        sequence, name, data, _ = message
        known, before = self._held.get(name, (0, None))
        if sequence <= known:
            return
        if name == SETTLED:
            self.settled = (data or b"")[:100].decode("utf-8", "replace")
            return
        record = None
        self.broken.pop(name, None)
        if data is not None:
            try:
                record = decode(name, data)
            except ValueError as error:
                self.broken[name] = str(error)
        if record is None and data is None:
            self._held.pop(name, None)
        else:
            self._held[name] = sequence, record
        for key in {it.key for it in (before, record) if it}:
            yield self._set(key, record)

    def _set(self, key: Key, record: Record | None) -> Target:
        target = target_of(key)
        its = self._by_target.setdefault(target, {})
        self._numbers[key.host] += (record is not None) - (key.host in its)
        if record is None:
            its.pop(key.host, None)
        else:
            its[key.host] = record
        if key.host == self.name:
            self._set_own(target, record)
        if not its:
            del self._by_target[target]
        entry = self.wanted(target, here=False)
        if target[0] == "list":
            self.lists.pop(target[1], None)
        if isinstance(entry, FleetList):
            self.lists[entry.name] = entry
        mark = 0 if entry is None else _mark(target, entry)
        self._sum = (self._sum + mark - self._marks.pop(target, 0)) % _BITS
        if entry is not None:
            self._marks[target] = mark
        return target

    def _set_own(self, target: Target, record: Record | None) -> None:
        if record is None:
            self.own.pop(target, None)
        else:
            self.own[target] = record


def target_of(key: Key) -> Target:
    """Return the kind and target of a key, whoever publishes it."""
    return key.kind, str(key).split(".", 2)[2]


def _joined(records: list[Record]) -> Entry | FleetList | None:
    if not records:
        return None
    found = records[0].entry
    if isinstance(found, FleetList):
        return found
    for it in records[1:]:
        end = later(found.expires, it.entry.expires)
        if isinstance(found, NewFilter):
            found = found._replace(expires=end)
        else:
            found = found._replace(expires=end, reason=found.reason or it.entry.reason)
    return found


def _mark(target: Target, entry: Entry | FleetList) -> int:
    end = "" if entry.expires is None else repr(float(entry.expires))
    does = f"{entry.text} {entry.does} {entry.mode}" if isinstance(entry, NewFilter) else ""
    does = entry.digest if isinstance(entry, FleetList) else does
    text = "\0".join((*target, end, does))
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
