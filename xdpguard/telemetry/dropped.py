# SPDX-License-Identifier: GPL-2.0
"""The sources, destinations and ports of dropped packets: estimated from samples, since the first reading.

The drops of a reason counted between two readings are attributed in equal shares to the samples of that reason taken
meanwhile: sums are exact, and the ranking is right as far as some dozens of samples a second allow. An end sampled only
once or twice in a flood is not reported: out of a million spoofed sources, those would be random ones.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xdpguard.capture.packet import TCP, UDP, Packet, decode
from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.sys.layouts.arrays import dtype
from xdpguard.dataplane.sys.layouts.counts import Drop
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.errors import XdpguardError
from xdpguard.telemetry.counters import Counters
from xdpguard.telemetry.drops import FILTER, Place, kept_memory

By = Literal["source", "destination", "port"]
Decided = tuple[int, int]  # what dropped a packet: RULE, LIST or FILTER, and its slot or number
End = tuple[bytes, int]  # address of 4 or 16 bytes, and a port or 0
Gains = defaultdict[End, list[tuple[float, bool]]]  # the weight of each sample, and whether it is new

_MAX_ENDS = 10_000  # ends kept
_MIN_SAMPLES = 3  # samples
_SMOOTHED = 5.0  # s: time constant of the rates
_DROP = dtype(Drop)


class Share(NamedTuple):
    """The drops attributed to one end: packets, recent packets/s, and the number of samples behind them."""

    drops: float
    rate: float
    samples: int = 1

    @property
    def significant(self) -> bool:
        """Whether the figure is more than chance."""
        return self.samples >= _MIN_SAMPLES or self.drops <= 2 * self.samples


class Dropped:
    """Estimates drops by end with each reading; `by` holds the results so far."""

    def __init__(self, pins: Pins) -> None:
        self._pins = pins
        self._before: dict[Place, tuple[int, dict[str, int]]] = {}  # time of the last sample, drops by reason
        self._read_at = 0.0
        self.by: dict[By, dict[End, Share]] = {"source": {}, "destination": {}, "port": {}}
        self.filters: dict[int, dict[End, Share]] = {}  # by the slot of the filter that dropped: sources
        self.decided: dict[bytes, Decided] = {}  # by source: what dropped its packet that was sampled last

    def read(self, interfaces: Mapping[Place, Counters], at: float) -> None:
        """Add what has been dropped since the previous reading. ``at``: monotonic, s."""
        gained: dict[By, Gains] = {"source": Gains(list), "destination": Gains(list), "port": Gains(list)}
        filtered: defaultdict[int, Gains] = defaultdict(lambda: Gains(list))
        for place, counts in interfaces.items():
            for weight, row, new in self._shares(place, counts):
                packet = decode(bytes(row["frame"])[: row["captured"]])
                if packet is not None:
                    _add(gained, (weight, new), packet)
                    self.decided[packet.source] = int(row["entry"]), int(row["number"])
                    if row["entry"] == FILTER:
                        filtered[int(row["number"])][packet.source, 0].append((weight, new))
        seconds, self._read_at = at - self._read_at, at
        for name, shares in self.by.items():
            self.by[name] = _smoothed(shares, gained[name], max(seconds, 1e-3))
        # Those of other sources are forgotten together with their sums.
        self.decided = {it: self.decided[it] for it, _ in self.by["source"] if it in self.decided}
        self.filters = {
            slot: _smoothed(self.filters.get(slot, {}), filtered[slot], max(seconds, 1e-3))
            for slot in self.filters.keys() | filtered.keys()
        }

    def chance(self) -> Share:
        """Return the sum of the sources that were sampled too rarely to be named; its samples are those sources."""
        its = [share for share in self.by["source"].values() if not share.significant]
        return Share(sum(it.drops for it in its), sum(it.rate for it in its), len(its))

    def _shares(self, place: Place, counts: Counters) -> Iterable[tuple[float, np.void, bool]]:
        """Yield an interface's samples: how many drops each stands for, the sample, and whether it is new."""
        dropped = counts.drops()
        last, old = self._before.get(place, (0, dropped))
        samples = self._samples(place)
        for reason in abi.reasons():
            gain = dropped.get(reason.name, 0) - old.get(reason.name, 0)
            if gain <= 0:
                continue
            its = samples[samples["reason"] == reason.number]
            # Samples are read after the counters: if none is new, the latest may stem from drops not counted then.
            new = its["at"] > last
            its = its[new] if new.any() else its
            if not len(its):
                dropped[reason.name] = old[reason.name]  # attributed to the samples of the next reading
            for row in its:
                yield gain / len(its), row, bool(row["at"] > last)
        self._before[place] = int(samples["at"].max(initial=last)), dropped

    def _samples(self, place: Place) -> NDArray[np.void]:
        try:
            descriptor = self._pins.open_link("kept", *place, abi.DROP.size)
        except XdpguardError:
            return np.zeros(0, _DROP)  # detached just now
        try:
            with kept_memory(descriptor) as held:
                found = np.frombuffer(held[: len(held) // abi.DROP.size * abi.DROP.size], _DROP)
        finally:
            os.close(descriptor)
        whole: NDArray[np.void] = found[(found["begun"] == found["done"]) & (found["at"] > 0)]
        return whole


def _add(gained: dict[By, Gains], weight: tuple[float, bool], packet: Packet) -> None:
    gained["source"][packet.source, 0].append(weight)
    gained["destination"][packet.destination, 0].append(weight)
    if packet.protocol in (TCP, UDP) and packet.has_ports:
        gained["port"][packet.destination, packet.destination_port].append(weight)


def _smoothed(shares: Mapping[End, Share], gained: Gains, seconds: float) -> dict[End, Share]:
    kept = math.exp(-seconds / _SMOOTHED)
    found = {end: share._replace(rate=share.rate * kept) for end, share in shares.items()}
    for end, weights in gained.items():
        old, drops = found.get(end, Share(0.0, 0.0, 0)), sum(weight for weight, _ in weights)
        fresh = sum(new for _, new in weights)
        found[end] = Share(old.drops + drops, old.rate + drops / seconds * (1 - kept), old.samples + fresh)
    if len(found) > _MAX_ENDS:
        most = sorted(found.items(), key=lambda it: it[1], reverse=True)[: _MAX_ENDS * 3 // 4]
        found = dict(most)
    return found
