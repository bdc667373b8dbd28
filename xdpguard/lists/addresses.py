# SPDX-License-Identifier: GPL-2.0
"""A set of addresses as disjoint prefixes, IPv4 and IPv6, in numpy arrays: the contents of a list once it is read.

Overlapping and adjacent ranges are merged, and each range is split into the fewest prefixes that cover it: the form the
kernel's tables need. A list whose ranges would be split into far more prefixes than it has entries is refused. Entries
may have an end: each address then has the latest of all entries that hold it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xdpguard.errors import UsageError
from xdpguard.lists import ranges, timed
from xdpguard.lists.prefixes6 import joined6
from xdpguard.lists.ranges import U8, U32, U64, Bools, Ranges, Wide
from xdpguard.lists.ranges4 import count4, merged4, split4
from xdpguard.lists.timed import Given
from xdpguard.policy.target import Prefix

# How many prefixes a list may split into: so many for each entry, and so many anyway.
GROWTH = 8
FREE = 1 << 20

_PACKED4 = np.dtype([("network", "<u4"), ("length", "u1")])
_PACKED6 = np.dtype([("high", "<u8"), ("low", "<u8"), ("length", "u1")])


class Ends(NamedTuple):
    """The ends of prefixes, IPv4 and IPv6: Unix time, 0 for none."""

    four: U32
    six: U32


class AddressSet(NamedTuple):
    """Disjoint prefixes in ascending order: networks in host byte order with host bits zero, lengths in bits.

    ``ends``: None if no prefix has one.
    """

    network4: U32
    length4: U8
    high6: U64
    low6: U64
    length6: U8
    ends: Ends | None = None

    def __len__(self) -> int:
        """Return the number of prefixes, of both families."""
        return self.network4.size + self.high6.size

    @property
    def ends4(self) -> U32:
        """The end of each IPv4 prefix: Unix time, 0 for none."""
        return self.ends.four if self.ends else np.zeros(self.network4.size, np.uint32)

    @property
    def ends6(self) -> U32:
        """The end of each IPv6 prefix: Unix time, 0 for none."""
        return self.ends.six if self.ends else np.zeros(self.high6.size, np.uint32)

    def at(self, now: float) -> AddressSet:
        """Return what is in force at a time (Unix time)."""
        if self.ends is None:
            return self
        return self._where(*((its == 0) | (its > now) for its in self.ends))

    def has_all(self, version: int) -> bool:
        """Return whether the set has every address of an IP version."""
        lengths = np.bincount(self.length4 if version == 4 else self.length6).tolist()
        width = 32 if version == 4 else 128
        held: int = sum(count << (width - length) for length, count in enumerate(lengths))
        return held == 1 << width

    def valid(self) -> bool:
        """Return whether these are disjoint prefixes in ascending order, without host bits."""
        if (self.length4 > 32).any() or (self.length6 > 128).any():
            return False
        host4 = np.uint64(0xFFFFFFFF) >> self.length4.astype(np.uint64)
        last4 = self.network4 | host4
        six = Wide(self.high6, self.low6)
        host6 = Wide(*ranges.host_bits(self.length6))
        last6 = Wide(self.high6 | host6.high, self.low6 | host6.low)
        whole = not (self.network4 & host4).any() and bool((six & host6).zero().all())
        apart = bool((self.network4[1:] > last4[:-1]).all())
        return whole and apart and bool(six.at(slice(1, None)).above(last6.at(slice(None, -1))).all())

    def no_shorter(self, shortest4: int, shortest6: int) -> AddressSet:
        """Return the prefixes of at least these lengths, in bits."""
        return self._where(self.length4 >= shortest4, self.length6 >= shortest6)

    def holding(self, address: Prefix) -> Prefix | None:
        """Return the prefix that contains an address, or overlaps a prefix; None if there is none."""
        found = self.entry(address)
        return found[0] if found else None

    def entry(self, address: Prefix) -> tuple[Prefix, int | None] | None:
        """Return the prefix that `holding` returns, and its end (Unix time, None: never)."""
        number = int.from_bytes(address.network, "big")
        width = len(address.network) * 8
        last = number | ((1 << (width - address.length)) - 1)
        place = self._place(last, address.version)
        if place < 0:
            return None
        found = self.prefix(address.version, place)
        if int.from_bytes(found.network, "big") | ((1 << (width - found.length)) - 1) < number:
            return None
        end = self.ends[0 if address.version == 4 else 1][place] if self.ends else 0
        return found, int(end) or None

    def prefix(self, version: int, place: int) -> Prefix:
        """Return one of the prefixes."""
        if version == 4:
            return Prefix(int(self.network4[place]).to_bytes(4, "big"), int(self.length4[place]))
        number = int(self.high6[place]) << 64 | int(self.low6[place])
        return Prefix(number.to_bytes(16, "big"), int(self.length6[place]))

    def packed(self) -> tuple[bytes, bytes, bytes]:
        """Encode both families, and the ends, as bytes, for the store."""
        four = np.empty(self.network4.size, _PACKED4)
        four["network"], four["length"] = self.network4, self.length4
        six = np.empty(self.high6.size, _PACKED6)
        six["high"], six["low"], six["length"] = self.high6, self.low6, self.length6
        return four.tobytes(), six.tobytes(), self.packed_ends()

    def packed_ends(self) -> bytes:
        """Encode the ends alone, as `packed` does: empty if no prefix has one."""
        return b"".join(its.astype("<u4").tobytes() for its in self.ends or ())

    def _where(self, four: Bools, six: Bools) -> AddressSet:
        left = Ends(self.ends.four[four], self.ends.six[six]) if self.ends else None
        columns = (self.network4[four], self.length4[four], self.high6[six], self.low6[six], self.length6[six])
        return AddressSet(*columns, left if left and (left.four.any() or left.six.any()) else None)

    def _place(self, last: int, version: int) -> int:
        """Return the index of the last prefix that begins no later than ``last``; -1 if there is none."""
        if version == 4:
            return int(np.searchsorted(self.network4, np.uint32(last), "right")) - 1
        high, low = np.uint64(last >> 64), np.uint64(last & (1 << 64) - 1)
        begin = int(np.searchsorted(self.high6, high, "left"))
        end = int(np.searchsorted(self.high6, high, "right"))
        return begin + int(np.searchsorted(self.low6[begin:end], low, "right")) - 1


def unpacked(four: bytes, six: bytes, ends: bytes = b"", shift: int = 0) -> AddressSet:
    """Decode the bytes of `AddressSet.packed`, with ends ``shift`` seconds later. Raise ValueError if they are not."""
    a, b = np.frombuffer(four, _PACKED4), np.frombuffer(six, _PACKED6)
    columns = [np.ascontiguousarray(its[name]) for its in (a, b) for name in its.dtype.names or ()]
    whole = np.frombuffer(ends, "<u4")
    if ends and whole.size != a.size + b.size:
        raise ValueError("not an end for each prefix")
    if shift:
        whole = np.where(whole == 0, 0, np.clip(whole.astype(np.int64) + shift, 1, timed.LATEST)).astype(np.uint32)
    its = Ends(whole[: a.size].astype(np.uint32), whole[a.size :].astype(np.uint32)) if ends else None
    return AddressSet(columns[0], columns[1], columns[2], columns[3], columns[4], its)


def aggregate(
    first4: U32,
    last4: U32,
    high6: U64,
    low6: U64,
    length6: U8,
    ranges6: Ranges | None = None,
    ends: Given | None = None,
) -> tuple[AddressSet, int]:
    """Build a set from IPv4 ranges (first and last address), IPv6 prefixes and IPv6 ranges, in any order.

    Returns the set, and the number of duplicate entries. Raises UsageError, before any prefix is made, if the ranges
    would be split into far more prefixes than there are entries.
    """
    given = first4.size + high6.size
    if ends is not None and any(its.any() for its in ends):
        whole6 = (ranges6 or Ranges.none()).and_prefixes(high6, low6, length6)
        return _aggregate_timed(timed.of4(first4, last4), whole6, ends)
    begin4, end4, duplicates4 = merged4(first4, last4)
    if ranges6 is None or not ranges6.size:
        _check_count(given, count4(begin4, end4) + high6.size)
        high, low, length, duplicates6 = joined6(high6, low6, length6)
    else:
        joined, duplicates6 = ranges.merged(ranges6.and_prefixes(high6, low6, length6))
        _check_count(given + ranges6.size, count4(begin4, end4) + ranges.count(joined))
        high, low, length = ranges.prefixes(joined)
    return AddressSet(*split4(begin4, end4), high, low, length), duplicates4 + duplicates6


def _aggregate_timed(ranges4: Ranges, ranges6: Ranges, ends: Given) -> tuple[AddressSet, int]:
    """Build a set of entries with ends; ``ranges6`` are the ranges before the prefixes."""
    four, until4, duplicates4 = timed.disjoint(ranges4, ends.four)
    six, until6, duplicates6 = timed.disjoint(ranges6, np.concatenate((ends.ranges6, ends.six)))
    _check_count(ranges4.size + ranges6.size, ranges.count(four) + ranges.count(six))
    _, network4, length4, ends4 = timed.prefixes(four, until4)
    high, low, length, ends6 = timed.prefixes(six, until6)
    columns = network4.astype(np.uint32), length4 - np.uint8(96), high, low, length
    return AddressSet(*columns, Ends(ends4, ends6)), duplicates4 + duplicates6


def _check_count(given: int, prefixes: int) -> None:
    most = max(FREE, GROWTH * given)
    if prefixes > most:
        raise UsageError(
            f"the {given:,} entries are ranges that only {prefixes:,} prefixes describe exactly, and there may be"
            f" {most:,}",
            "nothing was changed; widen the ranges to whole prefixes, such as 2001:db8::/64 for"
            " 2001:db8::1-2001:db8::ffff:ffff:ffff:fffe",
        )
