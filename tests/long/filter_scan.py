# SPDX-License-Identifier: GPL-2.0
"""Random packets against random sets of filters: verdicts and hits of the program, and of a linear scan in Python.

    sudo env PYTHONPATH=.:tests:netns-lab .venv/bin/python tests/long/filter_scan.py --packets 1000000

Each round has a seed, which is printed with the first difference: `--seed N --packets 1` repeats that round.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence

from support.bench import Bench, one_cpu
from support.filters import Pools, Seen, scan, seen

from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.tables.classifier import ClassifierFilter, compiled
from xdpguard.dataplane.tables.filters import FilterTables

NOW = 1_000_000  # of the fake clock, ns
DROP = 1  # enum xdp_action
FRAMES = 2000  # of a round, for each of its sets
SETS = (1, 5, 64, 200, 1024)  # filters
VALUES = (3, 10, 40, 300, 1000)  # that a field's tests and packets share


class Rounds:
    """Runs rounds of packets. Close it."""

    def __init__(self) -> None:
        self._bench = Bench("filterscan", fake_clock=True, check_flags=False, check_source=False)
        self._tables = FilterTables(self._bench.pins)
        self._bench.set_clock(NOW)
        self.decided: Counter[str] = Counter()

    def close(self) -> None:
        """Free the program and its maps."""
        self._tables.close()
        self._bench.close()

    def run(self, seed: int) -> int:
        """Run one round; return its packets. SystemExit when program and scan differ."""
        pools = Pools(seed, VALUES[seed % len(VALUES)])
        self._tables.empty()
        drawn = (pools.frame() for _ in range(FRAMES))
        # What is refused before the filters are asked tells nothing about them.
        sound = [frame for frame in drawn if self._bench.send(frame).reason in ("pass", "fragment")]
        asked = [(frame, seen(frame)) for frame in sound]
        for number, size in enumerate(SETS):
            self._compare(pools.filters(size), asked, f"--seed {seed}, set {number} of {size} filters", seed + number)
        return len(asked) * len(SETS)

    def _compare(
        self, filters: Sequence[ClassifierFilter], asked: Sequence[tuple[bytes, Seen]], where: str, generation: int
    ) -> None:
        self._tables.clear_hits(range(abi.FILTER_SLOTS))
        self._tables.replace(*compiled(filters, generation + 1))
        matched: Counter[int] = Counter()
        for frame, its in asked:
            expected = scan(filters, frame, NOW, its=its)
            matched.update(expected.matched)
            action = "no filter" if expected.decides is None else filters[expected.decides].action
            self.decided[action] += 1
            if (kernel.test_run(self._bench.fd, frame).verdict == DROP) != (action == "drop"):
                raise SystemExit(f"{where}: not {action}: {frame.hex()}")
        hits = self._tables.hits()
        for slot in range(len(filters)):
            if hits(slot)[0] != matched[slot]:
                raise SystemExit(f"{where}: filter {slot} has {hits(slot)[0]} hits, not {matched[slot]}")


def main() -> int:
    """Run as many rounds as the packets need; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packets", type=int, default=1_000_000, help="at least so many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first round (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=480, help="end after the round that reaches it")
    asked = parser.parse_args()
    began, seed, packets = time.monotonic(), asked.seed, 0
    rounds = Rounds()
    try:
        with one_cpu():
            while packets < asked.packets and time.monotonic() - began < asked.seconds:
                packets += rounds.run(seed)
                seed += 1
    finally:
        rounds.close()
    decided = ", ".join(f"{count:,} {action}" for action, count in sorted(rounds.decided.items()))
    print(f"{packets:,} packets, seeds {asked.seed} to {seed - 1}, 0 differences, {time.monotonic() - began:.0f} s")
    print(f"decided: {decided}")
    return 0 if packets >= asked.packets else 1


if __name__ == "__main__":
    sys.exit(main())
