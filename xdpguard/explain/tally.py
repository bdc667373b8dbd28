# SPDX-License-Identifier: GPL-2.0
"""Totals of answers by reason, flags and source; differences between two programs; unmet expectations."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xdpguard.capture.packet import text
from xdpguard.dataplane.build.probe import FILTER, VERDICTS, Answers
from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.tables.shadow import CLASSES
from xdpguard.explain.tallied import Change, FilterCount, ReasonCount, Source, Tallied
from xdpguard.policy.filter import Filter, FilterHits

Numbers = NDArray[np.int64]
Expected = Literal["drop", "pass"]

_BY_FILTERS = [it.number for it in abi.reasons() if it.name in ("filter", "filter_limit")]
UNKNOWN = abi.REASON_SLOTS - 1  # in place of a reason: the frame was cut too early to tell
_MOST_SOURCES = 200_000  # kept at once; the rarest are discarded
_SOURCES = 5  # named for each filter
_FIRST = 5  # packets whose numbers are given for each change


class Batch(NamedTuple):
    """Frames in the order of the capture: numbers, original lengths in bytes, and which were cut too early."""

    numbers: Numbers
    lengths: Numbers
    cut: NDArray[np.bool_]


def reason_names() -> dict[int, str]:
    """Return the names of reasons by number, with UNKNOWN as ``cut``."""
    return {reason.number: reason.name for reason in abi.reasons()} | {UNKNOWN: "cut"}


class Tally:
    """Totals of what one program does with a capture."""

    def __init__(self) -> None:
        self.packets = np.zeros((abi.REASON_SLOTS, 2), np.int64)  # by reason: enforced, observed only
        self.bytes = np.zeros((abi.REASON_SLOTS, 2), np.int64)
        self.flag_sets = np.zeros(256, np.int64)
        self.protocols = np.zeros(len(abi.PROTOCOLS), np.int64)
        self.sources: Counter[tuple[int, bytes]] = Counter()
        self.shadow = np.zeros(len(CLASSES), np.int64)  # packets that a shadow entry would count, by class
        self.sources_whole = True  # no source has been discarded
        self.filtered: Counter[tuple[int, int, bytes]] = Counter()  # by slot, and source, of what a filter would drop
        self.filters: list[FilterCount] = []  # what `name_filters` has made of that
        self.slots: dict[int, str] = {}  # their names, by slot
        self._dropping = np.isin(
            np.arange(abi.REASON_SLOTS), [it.number for it in abi.reasons() if it.action == "DROP"]
        )

    def add(self, answers: Answers, batch: Batch) -> NDArray[np.int64]:
        """Add a batch; return the reason of each frame."""
        reasons = np.where(batch.cut, UNKNOWN, answers["reason"].astype(np.int64))
        column = np.where(batch.cut, 0, answers["observed"].astype(np.int64))
        np.add.at(self.packets, (reasons, column), 1)
        np.add.at(self.bytes, (reasons, column), batch.lengths)
        segments = answers["tcp_flags"][answers["segment"] == 1]
        self.flag_sets += np.bincount(segments, minlength=256)
        shadowed = answers["shadow_class"][(answers["shadow"] > 0) & ~batch.cut]
        self.shadow += np.bincount(shadowed, minlength=len(CLASSES))
        ip = answers["ip_version"]
        self.protocols += np.bincount(answers["protocol"][ip > 0], minlength=len(abi.PROTOCOLS))
        for version, size in ((4, 4), (6, 16)):
            chosen = answers["source"][self._dropping[reasons] & (ip == version)].tolist()
            self.sources.update(Counter((version, bytes(source[:size])) for source in chosen))
            self._add_filtered(answers[ip == version], version, size)
        if len(self.sources) > _MOST_SOURCES:
            self.sources = Counter(dict(self.sources.most_common(_MOST_SOURCES // 2)))
            self.sources_whole = False
        if len(self.filtered) > _MOST_SOURCES:
            self.filtered = Counter(dict(self.filtered.most_common(_MOST_SOURCES // 2)))
        return reasons

    def _add_filtered(self, answers: Answers, version: int, size: int) -> None:
        """Add the sources of packets that a filter drops, or would, being in shadow."""
        for slots in (filter_slots(answers), answers["shadow_filter"].astype(np.int64)):
            chosen = slots > 0
            pairs = zip((slots[chosen] - 1).tolist(), answers["source"][chosen].tolist(), strict=True)
            self.filtered.update(Counter((slot, version, bytes(source[:size])) for slot, source in pairs))

    def name_filters(self, filters: Iterable[Filter], matched: Mapping[int, FilterHits]) -> None:
        """Take over what filters, in order, have matched, by slot."""
        sources: dict[int, list[Source]] = defaultdict(list)
        for (slot, _, source), count in self.filtered.most_common():
            if len(sources[slot]) < _SOURCES:
                sources[slot].append(Source(text(source), count))
        for its in filters:
            self.slots[its.slot] = its.name
            if hits := matched.get(its.slot):
                most = sources[its.slot]
                found = FilterCount(name=its.name, action=its.does, mode=its.mode, sources=most, **hits._asdict())
                self.filters.append(found)

    def flags(self) -> dict[str, int]:
        """Return TCP segments by flag."""
        values = np.arange(256)
        return {name: int(self.flag_sets[values >> bit & 1 == 1].sum()) for bit, name in enumerate(abi.FLAGS)}

    def top_sources(self, count: int) -> list[tuple[str, int]]:
        """Return the sources with the most dropped packets, each with how many."""
        return [(text(source), number) for (_, source), number in self.sources.most_common(count)]

    def named(self) -> Tallied:
        """Return all totals, by name."""
        reasons = {}
        for number, name in reason_names().items():
            packets, lengths = self.packets[number].tolist(), self.bytes[number].tolist()
            if sum(packets) or number != UNKNOWN:
                reasons[name] = ReasonCount(packets[0], lengths[0], packets[1], lengths[1])
        return Tallied(
            packets=int(self.packets.sum()),
            bytes=int(self.bytes.sum()),
            dropped=int(self.packets[self._dropping, 0].sum()),
            would_drop=int(self.packets[self._dropping, 1].sum()),
            reasons=reasons,
            flags=self.flags(),
            protocols=dict(zip(abi.PROTOCOLS, self.protocols.tolist(), strict=True)),
            shadow=dict(zip(CLASSES, self.shadow.tolist(), strict=True)) if self.shadow.any() else None,
            blocked_sources=[Source(*it) for it in self.top_sources(10)],
            blocked_sources_exact=self.sources_whole,
            filters=self.filters,
        )


def filter_slots(answers: Answers) -> Numbers:
    """Return 1 + the slot of the filter that drops each packet; 0: none does."""
    by_filter = (answers["entry"] == FILTER) & np.isin(answers["reason"], _BY_FILTERS)
    return np.where(by_filter, answers["number"].astype(np.int64) + 1, 0)


class Difference:
    """The changes that a second program would make. ``slots``: names of filters by slot, of both programs."""

    def __init__(self) -> None:
        self.slots: tuple[dict[int, str], dict[int, str]] = {}, {}
        self._found: dict[tuple[int, ...], tuple[int, int, tuple[int, ...]]] = {}

    def add(self, one: tuple[Numbers, Answers], other: tuple[Numbers, Answers], batch: Batch) -> None:
        """Add a batch: reasons and answers of both programs."""
        verdicts = one[1]["verdict"].astype(np.int64), other[1]["verdict"].astype(np.int64)
        columns = (one[0], other[0], *verdicts, filter_slots(one[1]), filter_slots(other[1]))
        differs = ((columns[0] != columns[1]) | (columns[2] != columns[3])) & ~batch.cut
        if not differs.any():
            return
        rows = np.stack([column[differs] for column in columns], axis=1)
        numbers, lengths = batch.numbers[differs], batch.lengths[differs]
        for key in np.unique(rows, axis=0):
            same = (rows == key).all(axis=1)
            place = tuple(key.tolist())
            packets, total, first = self._found.get(place, (0, 0, ()))
            first = (*first, *numbers[same][: _FIRST - len(first)].tolist())
            self._found[place] = (packets + int(same.sum()), total + int(lengths[same].sum()), first)

    def changes(self) -> list[Change]:
        """Return all changes, the most frequent first."""
        names = reason_names()
        found = [
            Change(
                names[key[0]],
                names[key[1]],
                VERDICTS[key[2]],
                VERDICTS[key[3]],
                *values,
                self.slots[0].get(key[4] - 1),
                self.slots[1].get(key[5] - 1),
            )
            for key, values in self._found.items()
        ]
        return sorted(found, key=lambda change: -change.packets)


class Expectation:
    """The expectation that every packet is dropped, or that none is."""

    def __init__(self, what: Expected) -> None:
        self.what = what
        self.failed = 0
        self.first = (0, "", "")  # number, verdict, reason
        self.slot = -1  # of the filter that drops it

    def add(self, reasons: Numbers, answers: Answers, batch: Batch) -> None:
        """Check a batch. A frame that was cut too early counts as not meeting the expectation."""
        dropped = (answers["verdict"] == VERDICTS.index("DROP")) & ~batch.cut
        wrong = ~dropped if self.what == "drop" else dropped | batch.cut
        if wrong.any() and not self.failed:
            place = int(np.argmax(wrong))
            name = reason_names()[int(reasons[place])]
            self.first = (int(batch.numbers[place]), VERDICTS[int(answers["verdict"][place])], name)
            self.slot = int(filter_slots(answers[place : place + 1])[0]) - 1
        self.failed += int(wrong.sum())
