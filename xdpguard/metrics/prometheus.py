# SPDX-License-Identifier: GPL-2.0
"""The figures in Prometheus' formats: the only module that imports prometheus_client."""

from __future__ import annotations

import gzip
import math
import threading
import time
from collections.abc import Iterable
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector as Base

from xdpguard.metrics.catalogue import FAMILIES
from xdpguard.metrics.collector import Collector
from xdpguard.metrics.samples import Sample

_SHARE = 0.25  # of a core that making pages may take for long
_AHEAD = 0.25  # seconds of a core above that, before a page is given again
_LONGEST = 0.2  # seconds for which it is
_COUNTED = 0.05  # seconds of a page at most: the first one may load programs, and that comes once
_LEVEL = 1  # of compression; low, because the service's own work waits meanwhile


class Page(NamedTuple):
    """A response: its headers and its bytes."""

    headers: dict[str, str]
    body: bytes


class Exposition(Base):
    """Adapts the collector to prometheus_client. The registry belongs to this service alone."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._guard = threading.Lock()
        self._pages: dict[tuple[str, bool], tuple[float, Page]] = {}  # when each was begun, monotonic
        self._spent, self._looked = 0.0, time.monotonic()  # seconds above the share, and when that was

    def collect(self) -> Iterable[Metric]:
        """Return every metric that currently has a series."""
        return metrics(self._collector.gather())

    def page(self, accept: str, encodings: str) -> Page:
        """Return the figures in the format and encoding that the client accepts.

        They are of after the request; or, once requests have taken their share of a core, up to 0.2 s older.
        """
        encode, kind = choose_encoder(accept)
        packed, asked = bool(gzip_accepted(encodings)), time.monotonic()
        with self._guard:
            begun = time.monotonic()
            self._spent = max(0.0, self._spent - (begun - self._looked) * _SHARE)
            self._looked = begun
            made, page = self._pages.get((kind, packed), (0.0, None))
            if page is not None and (made >= asked or (self._spent > _AHEAD and begun - made < _LONGEST)):
                return page
            work = time.thread_time()
            body = encode(self._registry)
            headers = {"Content-Type": kind}
            if packed:
                headers["Content-Encoding"] = "gzip"
                body = gzip.compress(body, _LEVEL)
            page = Page(headers, body)
            self._pages[kind, packed] = begun, page
            self._spent += min(_COUNTED, time.thread_time() - work)
        return page


def metrics(samples: Iterable[Sample]) -> list[Metric]:
    """Group samples by metric, keeping their order."""
    found: dict[str, Metric] = {}
    for sample in samples:
        family = FAMILIES[sample.name]
        name = family.name.removesuffix("_total") if family.kind == "counter" else family.name
        metric = found.setdefault(sample.name, Metric(name, family.help, family.kind))
        labels = dict(zip(family.labels, sample.labels, strict=True))
        if family.kind != "histogram":
            metric.add_sample(sample.name, labels, sample.value)
            continue
        for bound, count in sample.buckets:
            metric.add_sample(
                f"{sample.name}_bucket", labels | {"le": "+Inf" if math.isinf(bound) else repr(bound)}, count
            )
        metric.add_sample(f"{sample.name}_count", labels, sample.buckets[-1][1])
        metric.add_sample(f"{sample.name}_sum", labels, sample.value)
    return list(found.values())
