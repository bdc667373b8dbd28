# SPDX-License-Identifier: GPL-2.0
"""The samples of a scrape: one per series."""

from __future__ import annotations

from typing import NamedTuple

from xdpguard.metrics.catalogue import FAMILIES
from xdpguard.units import visible


class Sample(NamedTuple):
    """One series: a metric of the catalogue, the values of its labels, and its value.

    For a histogram that is the sum; ``buckets`` are cumulative counts by upper bound, the last one infinity.
    """

    name: str
    labels: tuple[str, ...]
    value: float
    buckets: tuple[tuple[float, int], ...] = ()


class Gathering(list[Sample]):
    """The samples of one scrape."""

    def put(self, name: str, value: float, *labels: str, buckets: tuple[tuple[float, int], ...] = ()) -> None:
        """Add a series."""
        assert len(labels) == len(FAMILIES[name].labels), name
        # Interface names may be invalid UTF-8, or steer a terminal; label values must not.
        its = tuple(visible(it.encode("utf-8", "replace").decode()) for it in labels)
        self.append(Sample(name, its, value, buckets))
