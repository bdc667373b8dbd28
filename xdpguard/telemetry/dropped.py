# SPDX-License-Identifier: GPL-2.0
"""Whose packets are dropped, to whom and to which ports: estimated from samples, since the first reading.

Each drop of a reason that was counted between two readings is put down to the samples of that reason taken meanwhile,
in equal shares: sums are exact, and who has most of them is right, as far as some dozens of samples a second tell. Who
was met once or twice in a flood is nobody to be named: of a million spoofed sources those would be the ones by chance.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xdpguard.capture.packet import TCP, UDP, decode
from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.sys.layouts.arrays import dtype
from xdpguard.dataplane.sys.layouts.counts import Drop
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.errors import XdpguardError
from xdpguard.telemetry.counters import Counters
from xdpguard.telemetry.drops import Place, kept_memory

By = Literal["source", "destination", "port"]
End = tuple[bytes, int]  # address of 4 or 16 octets, and a port or 0
Gains = defaultdict[End, list[tuple[float, bool]]]  # weights of its samples, and whether they are new

_REMEMBERED = 10_000  # ends
_MET = 3  # samples
_SMOOTHED = 5.0  # s: time constant of the rates
_DROP = dtype(Drop)


class Share(NamedTuple):
    """What one end has lost: packets, and packets/s of late; and how many samples say so."""

    drops: float
    rate: float
    samples: int = 1

    @property
    def sure(self) -> bool:
        """Whether that is more than chance."""
        return self.samples >= _MET or self.drops <= 2 * self.samples


class Dropped:
    """Reads again and again; `by` has what was found so far."""

    def __init__(self, pins: Pins) -> None:
        self._pins = pins
        self._before: dict[Place, tuple[int, dict[str, int]]] = {}  # time of the last sample, drops by reason
        self._read_at = 0.0
        self.by: dict[By, dict[End, Share]] = {"source": {}, "destination": {}, "port": {}}

    def read(self, interfaces: Mapping[Place, Counters], at: float) -> None:
        """Takes in what has been dropped since the reading before. ``at``: monotonic, s."""
        gained: dict[By, Gains] = {"source": Gains(list), "destination": Gains(list), "port": Gains(list)}
        for place, counts in interfaces.items():
            for weight, frame, new in self._shares(place, counts):
                _add(gained, (weight, new), frame)
        seconds, self._read_at = at - self._read_at, at
        for name, shares in self.by.items():
            self.by[name] = _smoothed(shares, gained[name], max(seconds, 1e-3))

    def _shares(self, place: Place, counts: Counters) -> Iterable[tuple[float, bytes, bool]]:
        """Samples of an interface, how many drops each stands for, and whether it is new."""
        dropped = counts.drops()
        last, old = self._before.get(place, (0, dropped))
        samples = self._samples(place)
        for reason in abi.reasons():
            gain = dropped.get(reason.name, 0) - old.get(reason.name, 0)
            if gain <= 0:
                continue
            its = samples[samples["reason"] == reason.number]
            # Samples are read behind the counters: where none is new, the last ones are of drops not counted then.
            new = its["at"] > last
            its = its[new] if new.any() else its
            if not len(its):
                dropped[reason.name] = old[reason.name]  # put down to the samples of the next reading
            for row in its:
                yield gain / len(its), bytes(row["frame"])[: row["captured"]], bool(row["at"] > last)
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


def _add(gained: dict[By, Gains], weight: tuple[float, bool], frame: bytes) -> None:
    packet = decode(frame)
    if packet is None:
        return
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
    if len(found) > _REMEMBERED:
        most = sorted(found.items(), key=lambda it: it[1], reverse=True)[: _REMEMBERED * 3 // 4]
        found = dict(most)
    return found
