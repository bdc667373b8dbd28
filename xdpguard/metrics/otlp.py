# SPDX-License-Identifier: GPL-2.0
"""Push the figures by OTLP over HTTP, from a thread: the only module that imports opentelemetry.

The collector already has sums, so they bypass the SDK's instruments and go to the exporter directly. Names lose _total,
which storage back ends append again, and carry their unit. When a sum was zero is unknown, so no start time is sent.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from typing import Any

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from xdpguard import __version__
from xdpguard.metrics.catalogue import FAMILIES
from xdpguard.metrics.collector import Collector
from xdpguard.metrics.samples import Sample
from xdpguard.policy.metrics import shown

_log = logging.getLogger(__name__)

_PATIENCE = 10.0  # seconds a push may take
_CLOSING = 2.0  # seconds to wait for a push in progress


class Pusher:
    """Pushes every ``interval`` seconds until it is stopped. A failing receiver is logged once."""

    def __init__(self, collector: Collector, url: str, interval: float, name: str) -> None:
        """``name``: the instance's name."""
        # The exporter logs the same at every push; we log it once.
        logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
        logging.getLogger("opentelemetry").propagate = False
        self._collector = collector
        self._url = url
        self._shown = shown(url)
        self._interval = interval
        self._resource = Resource.create({"service.name": "xdpguard", "service.instance.id": name})
        self._exporter = OTLPMetricExporter(endpoint=url, timeout=_PATIENCE)
        self._failing = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="otlp", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop pushing."""
        self._ended.set()
        self._exporter.shutdown()
        self._thread.join(_CLOSING)

    def _work(self) -> None:
        due = time.monotonic()
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._interval, time.monotonic())
            failed = self._push()
            if self._ended.is_set():
                return
            if failed and not self._failing:
                _log.warning(
                    f"metrics could not be pushed to {self._shown}{failed}; check that it is running; will retry"
                )
            elif self._failing and not failed:
                _log.info(f"metrics are pushed to {self._shown} again")
            self._failing = bool(failed)

    def _push(self) -> str:
        """Push once; return why it failed, empty if it did not."""
        try:
            data = encoded(self._collector.gather(), self._resource, time.time_ns())
            done = self._exporter.export(data)
        except Exception as error:  # the next push may succeed
            return f": {str(error).replace(self._url, self._shown)}"
        return "" if done is MetricExportResult.SUCCESS else ": it does not answer, or rejects them"


def encoded(samples: Iterable[Sample], resource: Resource, now: int) -> MetricsData:
    """Convert samples for the exporter. ``now``: Unix time, ns."""
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.name, []).append(sample)
    metrics = [_metric(name, its, now) for name, its in found.items()]
    scope = ScopeMetrics(InstrumentationScope("xdpguard", __version__), metrics, "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _metric(name: str, samples: list[Sample], now: int) -> Metric:
    family = FAMILIES[name]
    data: Sum | Gauge | Histogram
    if family.kind == "histogram":
        data = Histogram([_distribution(it, now) for it in samples], AggregationTemporality.CUMULATIVE)
    else:
        points = [NumberDataPoint(_labels(it), 0, now, _number(it.value)) for it in samples]
        data = Sum(points, AggregationTemporality.CUMULATIVE, True) if family.kind == "counter" else Gauge(points)
    return Metric(name.removesuffix("_total"), family.help, family.unit, data)


def _distribution(sample: Sample, now: int) -> HistogramDataPoint:
    """Convert a histogram: OTLP buckets are not cumulative, and minimum and maximum are unknown."""
    bounds, counts = zip(*sample.buckets, strict=True)
    each = [count - before for count, before in zip(counts, (0, *counts), strict=False)]
    unknown: Any = None
    return HistogramDataPoint(
        _labels(sample), 0, now, counts[-1], sample.value, each, list(bounds[:-1]), min=unknown, max=unknown
    )


def _number(value: float) -> float:
    return value if isinstance(value, float) else int(value)  # or true or false


def _labels(sample: Sample) -> dict[str, str]:
    return dict(zip(FAMILIES[sample.name].labels, sample.labels, strict=True))
