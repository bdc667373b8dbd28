# SPDX-License-Identifier: GPL-2.0
"""From filters to the set that the program asks (bpf/stages/filterset.h): rows of bits by the values of each field.

A row is a number here, bit i for filter i. Where a field's ranges begin and end, its rows change; each row is stored
once, whichever fields and values lead to it.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.sys.layouts.filters import FIELDS, FilterHead
from xdpguard.dataplane.tables import filterentries
from xdpguard.dataplane.tables.filterentries import ClassifierFilter, FilterSetFull
from xdpguard.dataplane.tables.filterfields import OF_VERSION, tested
from xdpguard.dataplane.tables.rowpool import RowPool
from xdpguard.policy.matching.model import Field, Range

__all__ = ["Classifier", "ClassifierFilter", "FilterSetFull", "compiled"]

_U32 = NDArray[np.uint32]
_U64 = NDArray[np.uint64]
BOUNDS = 1 << 17  # ranges of addresses, of all four address fields together: see XG_FILTER_STEPS
_NODE = 1 << 15
_PAGE = 256
_TABLE = 512  # places of a field's table
_DATA = abi.FILTER_PLACES + abi.FILTER_TABLES * _TABLE * 2  # where pages begin
_LOWEST = 0x022FDD63CC95386D  # de Bruijn sequence: see xg_filter_lowest()
_ADDRESSES: tuple[tuple[Field, ...], ...] = ((Field.IP_SADDR, Field.IP_DADDR), (Field.IP6_SADDR, Field.IP6_DADDR))
# enum xg_filter_field, of fields without addresses; their tables have the same numbers.
_KEYS = {
    Field.VERSION: 2,
    Field.PROTOCOL: 3,
    Field.SPORT: 4,
    Field.DPORT: 5,
    Field.TCP_FLAGS: 6,
    Field.LENGTH: 7,
    Field.DSCP: 8,
    Field.TTL: 9,
    Field.FRAG_OFF: 10,
    Field.FRAGMENT: 11,
    Field.ICMP_TYPE: 12,
    Field.ICMP_CODE: 13,
    Field.VLAN_ID: 14,
}


class Classifier(NamedTuple):
    """A set of filters as the program reads it: the beginnings of both halves of the block."""

    lower: bytes
    upper: bytes


class _Spans(NamedTuple):
    """A field's values: where each span of them begins, and its entry. The first begins at 0."""

    starts: list[int]
    entries: _U32


def compiled(filters: Sequence[ClassifierFilter], generation: int = 1) -> Classifier:
    """Return the set of these filters, the first one first. Lists are to be resolved: ``match.lists`` is empty.

    ``generation``: another one for each set. FilterSetFull when a limit of the set is exceeded.
    """
    if len(filters) > abi.FILTERS:
        raise FilterSetFull(f"{len(filters)} filters, of at most {abi.FILTERS}")
    made = _Builder(filters)
    return made.block(generation)


class _Builder:
    """Builds one set."""

    def __init__(self, filters: Sequence[ClassifierFilter]) -> None:
        self._filters = filters
        self._all = (1 << len(filters)) - 1
        self._tests: dict[Field, list[tuple[int, tuple[Range, ...]]]] = {}
        for bit, its in enumerate(filters):
            for field, ranges in tested(its.match).items():
                self._tests.setdefault(field, []).append((bit, ranges))
        self._rows = RowPool()
        self._pages: dict[bytes, int] = {}
        self._tables = np.zeros((abi.FILTER_TABLES, _TABLE), np.uint16)
        self._nodes: list[_U32] = []
        self._node_count = self._bounds = 0
        self._lower, self._upper = bytearray(_DATA), bytearray()

    def block(self, generation: int) -> Classifier:
        """Return the set."""
        head = FilterHead(generation=generation)
        for version, fields in enumerate(_ADDRESSES):
            self._addresses(head, version, fields)
        for field, key in _KEYS.items():
            if field in self._tests:
                self._field(field, key)
        keys = [self._keys(head, version) for version in range(2)]
        head.keys = head.tables = _array(b"".join(keys))
        self._finish(head)
        return Classifier(bytes(self._lower), bytes(self._upper))

    def _keys(self, head: FilterHead, version: int) -> bytes:
        """Return which fields are looked up of packets of a version, besides addresses."""
        other = 6 if version == 0 else 4
        found = [key for field, key in _KEYS.items() if field in self._tests and OF_VERSION.get(field) != other]
        if not found and not head.addresses[version]:
            found = [_KEYS[Field.VERSION]]
            if Field.VERSION not in self._tests:
                self._field(Field.VERSION, found[0])
        head.fields[version] = len(found)
        return bytes(found).ljust(FIELDS, b"\0")

    def _spans(self, field: Field) -> _Spans:
        """Return the spans of a field's values with equal rows."""
        changes: dict[int, int] = {0: 0}
        tested, top = 0, 1 << field.bits
        for number, ranges in self._tests.get(field, ()):
            bit = 1 << number
            tested |= bit
            for first, last in ranges:
                changes[first] = changes.get(first, 0) ^ bit
                changes[last + 1] = changes.get(last + 1, 0) ^ bit
        changes.pop(top, None)
        starts = sorted(changes)
        rows = itertools.accumulate((changes[start] for start in starts), lambda one, other: one ^ other)
        untested = self._all & ~tested
        entries = np.fromiter((self._rows.entry(untested | row) for row in rows), np.uint32, len(starts))
        return _Spans(starts, entries)

    def _lacking(self, field: Field) -> int:
        """Return the entry for packets that lack a field."""
        tested = sum(1 << number for number, _ in self._tests.get(field, ()))
        return self._rows.entry(self._all & ~tested)

    def _field(self, field: Field, table: int) -> None:
        spans = self._spans(field)
        size = max(_PAGE, 1 << field.bits)
        widths = np.diff([*spans.starts, size])
        self._table(table, np.repeat(spans.entries, widths), self._lacking(field))

    def _table(self, table: int, entries: _U32, lacking: int) -> None:
        """Fill a field's table: its pages, and the one for packets that lack it. Values beyond are lacking, too."""
        places = self._tables[table]
        places[:] = self._page(np.full(_PAGE, lacking, np.uint32).tobytes())
        raw = entries.tobytes()
        for place in range(len(entries) // _PAGE):
            places[place] = self._page(raw[place * _PAGE * 4 : (place + 1) * _PAGE * 4])

    def _page(self, page: bytes) -> int:
        return self._pages.setdefault(page, len(self._pages))

    def _addresses(self, head: FilterHead, version: int, fields: Iterable[Field]) -> None:
        for which, field in enumerate(fields):
            if field not in self._tests:
                continue
            head.addresses[version] |= 1 << which
            spans = self._spans(field)
            self._bounds += len(spans.starts)
            if self._bounds > BOUNDS:
                raise FilterSetFull(f"the filters divide the addresses into more than {BOUNDS:,} ranges")
            if version == 0:
                starts = np.array(spans.starts, np.uint64)
                keys = np.arange(1 << 16, dtype=np.uint64) << np.uint64(16)
                first = np.searchsorted(starts, keys, "right") - 1
                last = np.searchsorted(starts, keys + np.uint64(0xFFFF), "right") - 1
                bounds = np.stack((starts.astype(np.uint32), spans.entries), axis=1)
                head.bounds4[which] = _placed(self._lower, bounds)
            else:
                first, last = self._ranges6(head, which, spans)
            entries = np.where(first == last, spans.entries[first], self._noded(first, last))
            self._table(which + (FIELDS if version else 0), entries.astype(np.uint32), self._lacking(field))

    def _ranges6(self, head: FilterHead, which: int, spans: _Spans) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Place the bounds of IPv6 addresses; return the first and last span of each key: see xg_filter_key6()."""
        raw = b"".join(start.to_bytes(16, "big") for start in spans.starts)
        bounds = np.frombuffer(raw, ">u8").reshape(-1, 2).astype(np.uint64)
        high = bounds[:, 0]
        base = int(high[1]) if len(high) > 1 else 0
        shift = max(0, (int(high[-1]) - base).bit_length() - 16)
        while (int(high[-1]) - base) >> shift >= 0xFFFE:
            shift += 1
        keys = np.where(high < base, 0, ((high - np.uint64(base)) >> np.uint64(shift)) + np.uint64(1)).astype(np.int64)
        places = np.arange(1 << 16)
        first = np.searchsorted(keys, places, "left") - 1
        last = np.searchsorted(keys, places, "right") - 1
        # A bound at the very beginning of a key's addresses.
        exact = {start: number for number, start in enumerate(spans.starts)}
        for place in np.flatnonzero(first != last).tolist():
            begin = (base + (place - 1 << shift)) << 64 if place else 0
            first[place] = exact.get(begin, first[place])
        head.base6[which], head.shift6[which] = base, shift
        head.bounds6[which] = _placed(self._upper, bounds)
        head.entries6[which] = _placed(self._upper, spans.entries)
        return first, last

    def _noded(self, first: NDArray[np.intp], last: NDArray[np.intp]) -> _U32:
        """Make a node of each key that has several spans; return the entries, those of the others meaningless."""
        several = first != last
        numbers = self._node_count + np.cumsum(several) - 1
        self._nodes.append(np.stack((first[several], last[several] - first[several] + 1), axis=1).astype(np.uint32))
        self._node_count += len(self._nodes[-1])
        numbers = np.where(several, numbers, 0)
        return (_NODE | numbers & (_NODE - 1) | numbers >> 15 << 16).astype(np.uint32)

    def _finish(self, head: FilterHead) -> None:
        entries, tests = filterentries.entries(self._filters)
        head.bits = (ctypes.c_uint8 * 64)(*_lowest_bits())
        head.count = len(self._filters)
        head.pages = _placed(self._lower, np.frombuffer(b"".join(self._pages), np.uint8))
        head.nodes = _placed(self._lower, np.concatenate(self._nodes) if self._nodes else np.empty(0, np.uint32))
        head.filters = _placed(self._lower, np.frombuffer(entries, np.uint8))
        head.bytes = _placed(self._lower, np.frombuffer(tests, np.uint8))
        head.rows = _placed(self._upper, np.frombuffer(self._rows.data(), np.uint8))
        self._lower[: ctypes.sizeof(head)] = bytes(head)
        self._lower[abi.FILTER_PLACES : _DATA] = self._tables.tobytes()
        # Offsets wrap at FILTER_HALF.
        room = abi.FILTER_HIGH, abi.FILTER_HALF
        for half, size in zip((self._lower, self._upper), room, strict=True):
            if len(half) > size:
                raise FilterSetFull(f"tables of {len(half):,} bytes, of at most {size:,}")


def _placed(half: bytearray, table: NDArray[np.generic]) -> int:
    """Append a table to a half, on a line of its own; return its offset."""
    half += bytes(-len(half) % 64)
    offset = len(half)
    half += table.tobytes()
    return offset


def _array(data: bytes) -> ctypes.Array[ctypes.c_uint8]:
    return (ctypes.c_uint8 * len(data))(*data)


def _lowest_bits() -> list[int]:
    found = [0] * 64
    for place in range(64):
        found[(_LOWEST << place & (1 << 64) - 1) >> 58] = place
    return found
