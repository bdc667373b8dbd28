# SPDX-License-Identifier: GPL-2.0
"""What a scrape gathers: one sample for each series."""

from __future__ import annotations

from typing import NamedTuple

from xdpguard.metrics.catalogue import FAMILIES


class Sample(NamedTuple):
    """One series: a metric of the catalogue, the values of its labels, and its value.

    Of a histogram that is the sum; ``buckets`` are how many were at most so much, the last of them all (infinity).
    """

    name: str
    labels: tuple[str, ...]
    value: float
    buckets: tuple[tuple[float, int], ...] = ()


class Gathering(list[Sample]):
    """The samples of one scrape."""

    def put(self, name: str, value: float, *labels: str, buckets: tuple[tuple[float, int], ...] = ()) -> None:
        """Adds a series."""
        assert len(labels) == len(FAMILIES[name].labels), name
        # A name of an interface may be no UTF-8; what is told must be.
        self.append(Sample(name, tuple(it.encode("utf-8", "replace").decode() for it in labels), value, buckets))
