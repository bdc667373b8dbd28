# SPDX-License-Identifier: GPL-2.0
"""Log-linear histograms like HdrHistogram's: each power of two in eight equal buckets (bpf/tcp/histogram.h).

Percentiles are off by at most half a bucket, a sixteenth of the value; count and average are exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_PARTS = 8


def bounds(bucket: int) -> tuple[int, int]:
    """Return the lowest value of a bucket, and that of the next one."""
    if bucket < _PARTS:
        return bucket, bucket + 1
    power, part = divmod(bucket, _PARTS)
    width = 1 << power - 1
    return (_PARTS + part) * width, (_PARTS + part + 1) * width


@dataclass
class Histogram:
    """Counts by bucket, and the sum of the values."""

    counts: dict[int, int] = field(default_factory=dict)
    sum: int = 0

    @property
    def count(self) -> int:
        """The number of values."""
        return sum(self.counts.values())

    @property
    def average(self) -> float:
        """The mean; 0 without values."""
        return self.sum / self.count if self.counts else 0.0

    def add(self, bucket: int, count: int, total: int) -> None:
        """Add ``count`` values to a bucket; ``total`` is their sum."""
        if count:
            self.counts[bucket] = self.counts.get(bucket, 0) + count
            self.sum += total

    def percentile(self, share: float) -> float:
        """Return a percentile (0.5: the median), interpolated linearly within its bucket; 0 without values."""
        wanted, before = share * self.count, 0
        for bucket in sorted(self.counts):
            number = self.counts[bucket]
            if before + number >= wanted:
                low, high = bounds(bucket)
                return low + (high - low) * max(0.0, wanted - before) / number
            before += number
        return 0.0

    def powers(self) -> Mapping[int, int]:
        """Return counts by power of two: 0 and 1 under 0, 2 and 3 under 1, 4 to 7 under 2; in order, without gaps."""
        found: dict[int, int] = {}
        for bucket, number in self.counts.items():
            power = max(0, bounds(bucket)[0].bit_length() - 1)
            found[power] = found.get(power, 0) + number
        return {power: found.get(power, 0) for power in range(min(found, default=0), max(found, default=-1) + 1)}

    def minus(self, other: Histogram) -> Histogram:
        """Return what was added since ``other`` was read."""
        found = Histogram()
        for bucket, number in self.counts.items():
            if number - other.counts.get(bucket, 0):
                found.counts[bucket] = number - other.counts.get(bucket, 0)
        found.sum = self.sum - other.sum
        return found
