# SPDX-License-Identifier: GPL-2.0
"""An interface's counters: packets and bytes by reason, TCP flags, protocols. All exact, summed over the CPUs."""

from __future__ import annotations

from dataclasses import dataclass, field

from xdpguard.closeable import opened
from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.sys.layouts.base import places
from xdpguard.dataplane.sys.layouts.counts import Counters as Layout
from xdpguard.dataplane.sys.layouts.counts import ReasonCounts as ReasonLayout
from xdpguard.dataplane.sys.pins import Pins

# Places among the numbers of `sums`, and of a reason's among its own.
_SETS_AT, _PROTOCOLS_AT, _SKIPPED_AT = (places(Layout)[it] for it in ("flag_sets", "protocols", "sources_skipped"))
_SAMPLES, _LOST = (places(ReasonLayout)[it] for it in ("samples", "lost"))


@dataclass
class ReasonCounts:
    """Packets and bytes whose verdict was carried out, and those only observed."""

    packets: int = 0
    bytes: int = 0
    observed_packets: int = 0
    observed_bytes: int = 0


@dataclass
class Counters:
    """One interface's counters. Every packet is counted under exactly one reason, observed or not."""

    reasons: dict[str, ReasonCounts]
    flags: dict[str, int]
    flag_sets: dict[int, int]  # TCP segments by flags byte, only values that occurred
    protocols: dict[str, int]
    sources_skipped: int
    tuples_skipped: int
    cookies_valid: int
    events_lost: int
    # Sampled drops by reason, and samples lost because the ring was full; only reasons with any: bpf/drops.h.
    samples: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    packets: int = field(init=False)
    bytes: int = field(init=False)
    dropped: int = field(init=False)

    def __post_init__(self) -> None:
        counts = self.reasons.values()
        self.packets = sum(count.packets + count.observed_packets for count in counts)
        self.bytes = sum(count.bytes + count.observed_bytes for count in counts)
        self.dropped = sum(self.reasons[name].packets for name in dropping())

    def drops(self) -> dict[str, int]:
        """Return packets by reason that were dropped, or would have been if they were only observed."""
        counts = {name: self.reasons[name] for name in dropping()}
        return {name: count.packets + count.observed_packets for name, count in counts.items()}

    @property
    def samples_lost(self) -> int:
        """Samples lost, for all reasons."""
        return sum(self.lost.values())


def dropping() -> list[str]:
    """Return the reasons for which packets are dropped."""
    return [reason.name for reason in abi.reasons() if reason.action == "DROP"]


def read(pins: Pins, name: str, netns: str) -> Counters:
    """Read the counters of an attached interface. Raise XdpguardError if it has none."""
    with opened(pins.open_link("counters", name, netns, abi.COUNTERS.size)) as descriptor:
        return decode(sums(descriptor))


def sums(descriptor: int) -> list[int]:
    """Return the values of an open map of counters, summed over the CPUs, in the order of ``struct xg_counters``."""
    cpus = kernel.possible_cpus()
    width = (abi.COUNTERS.size + 7) & ~7  # the kernel rounds per-CPU values up to 8 bytes
    raw = kernel.lookup(descriptor, bytes(4), width * cpus)
    assert raw is not None  # an array always has its entries
    rows = [abi.COUNTERS.unpack_from(raw, cpu * width) for cpu in range(cpus)]
    return [sum(column) for column in zip(*rows, strict=True)]


def decode(numbers: list[int]) -> Counters:
    """Name the sums of ``struct xg_counters``."""
    sets = {value: count for value, count in enumerate(numbers[_SETS_AT:_PROTOCOLS_AT]) if count}
    rows = {r.name: numbers[r.number * abi.REASON_FIELDS : (r.number + 1) * abi.REASON_FIELDS] for r in abi.reasons()}
    return Counters(
        reasons={name: ReasonCounts(*row[:4]) for name, row in rows.items()},
        samples={name: row[_SAMPLES] for name, row in rows.items() if row[_SAMPLES]},
        lost={name: row[_LOST] for name, row in rows.items() if row[_LOST]},
        flags={
            name: sum(count for value, count in sets.items() if value >> bit & 1) for bit, name in enumerate(abi.FLAGS)
        },
        flag_sets=sets,
        protocols=dict(zip(abi.PROTOCOLS, numbers[_PROTOCOLS_AT:_SKIPPED_AT], strict=True)),
        sources_skipped=numbers[_SKIPPED_AT],
        tuples_skipped=numbers[_SKIPPED_AT + 1],
        cookies_valid=numbers[_SKIPPED_AT + 2],
        events_lost=numbers[_SKIPPED_AT + 3],
    )
