# SPDX-License-Identifier: GPL-2.0
"""Rates between readings, and their history. Snapshots are never changed after they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xdpguard.dataplane.sys import abi
from xdpguard.telemetry.counters import Counters
from xdpguard.tui.floods import Flood, Floods
from xdpguard.tui.reading import ALL, Place, Reading, RuleHits

SAMPLES = 240
VERDICTS = ("pass", "drop", "answer")
_ACTIONS = {"PASS": "pass", "DROP": "drop", "TX": "answer"}
_INITIAL = 0x12, 0x02  # of SYN and ACK, SYN alone

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Trend:
    """An interface's totals, rates per second and past rates, by series: see `series`.

    An unknown rate is NaN. ``at``: when they were counted, monotonic, seconds.
    """

    at: float
    totals: dict[str, int]
    rates: dict[str, float]
    past: dict[str, Floats]


@dataclass(frozen=True)
class Snapshot:
    """A reading with its rates."""

    reading: Reading
    trends: dict[Place, Trend]  # also of ALL
    floods: dict[Place, Flood]
    rule_rates: Floats
    list_rates: dict[tuple[str, str], float]  # by the list's key
    filter_rates: dict[str, tuple[float, float]]  # by name: of all that it matched, and of what was above its limit


def series(counts: Counters) -> dict[str, int]:
    """Return totals by series: packets by verdict, ``reason NAME`` and ``tcp FLAG``, bytes as ``bytes VERDICT`` and
    ``bytes reason NAME``, initial SYNs as ``syns``, and others.

    A packet that was only observed counts as passed.
    """
    found = dict.fromkeys((*VERDICTS, *(f"bytes {it}" for it in VERDICTS), "would"), 0)
    for reason in abi.reasons():
        count = counts.reasons[reason.name]
        found[f"reason {reason.name}"] = count.packets + count.observed_packets
        found[f"bytes reason {reason.name}"] = count.bytes + count.observed_bytes
        found[f"would {reason.name}"] = count.observed_packets
        found[_ACTIONS[reason.action]] += count.packets
        found[f"bytes {_ACTIONS[reason.action]}"] += count.bytes
        found["pass"] += count.observed_packets
        found["bytes pass"] += count.observed_bytes
        if reason.action != "PASS":
            found["would"] += count.observed_packets
    found |= {f"tcp {name}": count for name, count in counts.flags.items()}
    mask, alone = _INITIAL
    found["syns"] = sum(count for flags, count in counts.flag_sets.items() if flags & mask == alone)
    found["valid"] = counts.cookies_valid
    found["skipped"] = counts.tuples_skipped
    return found


class History:
    """Turns readings into snapshots."""

    def __init__(self) -> None:
        self._before: Snapshot | None = None
        self._floods = Floods()

    def add(self, reading: Reading) -> Snapshot:
        """Return the snapshot of the next reading."""
        before = self._before
        trends = {}
        for it in reading.interfaces:
            if it.counts is not None:
                old = before.trends.get(it.place) if before else None
                trends[it.place] = _trend(series(it.counts), old, it.at)
        floods = self._floods.add(reading, trends)
        if trends:
            trends[ALL] = _together(list(trends.values()), before.trends.get(ALL) if before else None)
        lists = {it.key: float(it.found.packets) for it in reading.lists}
        seconds = reading.lists_at - before.reading.lists_at if before else 0.0
        old_lists = {it.key: it.found.packets for it in before.reading.lists} if before else {}
        self._before = Snapshot(
            reading,
            trends,
            floods,
            _rule_rates(reading.rules, before.reading.rules if before else None),
            {
                key: max(0.0, count - old_lists[key]) / seconds if key in old_lists and seconds > 0 else float("nan")
                for key, count in lists.items()
            },
            _filter_rates(reading, before.reading if before else None),
        )
        return self._before


def _trend(totals: dict[str, int], old: Trend | None, at: float) -> Trend:
    rates, past = {}, {}
    seconds = at - old.at if old else 0.0
    # Counters that shrank have restarted: the maps are removed with the last interface.
    fresh = old is None or seconds <= 0 or any(totals[name] < old.totals[name] for name in totals)
    for name, total in totals.items():
        rate = float("nan") if old is None or fresh else (total - old.totals[name]) / seconds
        rates[name] = rate
        earlier = old.past[name] if old else np.full(SAMPLES, np.nan)
        past[name] = np.append(earlier[1:], rate)
    return Trend(at, totals, rates, past)


def _together(trends: list[Trend], old: Trend | None) -> Trend:
    """Return the sums over interfaces. One that was attached just now has no rate yet, and adds none."""
    totals, rates, past = {}, {}, {}
    for name in trends[0].totals:
        totals[name] = sum(it.totals[name] for it in trends)
        known = [it.rates[name] for it in trends if not math.isnan(it.rates[name])]
        rates[name] = sum(known) if known else math.nan
        past[name] = np.append((old.past[name] if old else np.full(SAMPLES, np.nan))[1:], rates[name])
    return Trend(max(it.at for it in trends), totals, rates, past)


def _filter_rates(now: Reading, before: Reading | None) -> dict[str, tuple[float, float]]:
    """Return rates by name. One that was replaced since counts in another slot, and is new."""
    seconds = now.lists_at - before.lists_at if before else 0.0
    old = {(it.its.name, it.its.slot): it.hits for it in before.filters} if before and seconds > 0 else {}
    found = {}
    for its, hits in now.filters:
        earlier = old.get((its.name, its.slot))
        found[its.name] = (math.nan, math.nan)
        if earlier is not None:
            gained = hits.packets - earlier.packets, hits.limited_packets - earlier.limited_packets
            found[its.name] = (max(0.0, gained[0] / seconds), max(0.0, gained[1] / seconds))
    return found


def _rule_rates(now: RuleHits, old: RuleHits | None) -> Floats:
    rates = np.full(len(now.hits), np.nan)
    if old is None or now.at <= old.at or not len(old.hits):
        return rates
    places = np.minimum(np.searchsorted(old.of.ids, now.of.ids), len(old.of.ids) - 1)
    known = (old.of.ids[places] == now.of.ids) & (old.of.created[places] == now.of.created)
    gained = now.hits[known, 0].astype(np.float64) - old.hits[places[known], 0].astype(np.float64)
    rates[known] = np.maximum(gained, 0.0) / (now.at - old.at)
    return rates
