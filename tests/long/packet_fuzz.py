# SPDX-License-Identifier: GPL-2.0
"""Frames of every kind and their mutations through the program, and scapy's opinion of each.

    sudo env PYTHONPATH=.:tests:netns-lab .venv/bin/python tests/long/packet_fuzz.py --packets 5000000

A round is a seed: a thousand frames, each under ten sets of rules, lists and filters. Verdict, reason and every counter
are compared. Seeds are printed; `--seed N --packets 1` repeats one, with the same corpus. `--corpus DIR` holds captures
(pcap, pcapng) and raw frames (any other file) to begin from, and is given a raw frame for each new way in which a frame
is built, and the frame of a difference.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

from support import oracle
from support.bench import one_cpu
from support.corpus import frames_of, keep
from support.fuzzing import VARIANTS, Asked, Difference, Fuzz

_TURN = 20  # rounds of a variant, before it is another one's turn


class Run:
    """Rounds, as many as are asked for."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self._asked = asked
        self._folder: Path | None = asked.corpus
        self._corpus = frames_of(self._folder) if self._folder else []
        self._began = time.monotonic()
        self.packets, self.seed, self.kept = 0, asked.seed, 0
        self.reasons: Counter[str] = Counter()
        self.shapes = {oracle.dissect(frame).shape for frame in self._corpus}

    @property
    def goes_on(self) -> bool:
        """Whether there are packets left to run, and time."""
        more: bool = self.packets < self._asked.packets
        return more and time.monotonic() - self._began < self._asked.seconds

    def turn(self, variant: str) -> None:
        """Run some rounds of a variant. Raise Difference."""
        with Fuzz(variant) as fuzz:
            fuzz.shapes = self.shapes
            try:
                if self._corpus:
                    own = [Asked(frame, oracle.dissect(frame)) for frame in self._corpus]
                    self.packets += fuzz.run(own, self.seed)
                for _ in range(_TURN):
                    if self.goes_on:
                        self.packets += fuzz.round(self.seed, self._corpus, self._keep)
                        self.seed += 1
            except Difference as error:
                error.add_note(f"--seed {self.seed} --variant {variant} --packets 1")
                self._keep(error.frame, "difference-")
                raise
            self.reasons.update(fuzz.reasons)

    def _keep(self, frame: bytes, prefix: str = "") -> None:
        if self._folder and frame:
            keep(self._folder, frame, prefix)
            self.kept += 1


def main() -> int:
    """Run the packets; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packets", type=int, default=5_000_000, help="at least so many (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3600, help="end after the round that reaches it")
    parser.add_argument("--seed", type=int, default=1, help="of the first round (default: %(default)s)")
    parser.add_argument("--variant", choices=VARIANTS, help="of the program (default: one after the other)")
    parser.add_argument("--corpus", type=Path, help="folder of frames to begin from, and for those that are new")
    asked = parser.parse_args()
    run, began = Run(asked), time.monotonic()
    variants = [asked.variant] if asked.variant else list(VARIANTS)
    turns = 0
    with one_cpu():
        while run.goes_on:
            run.turn(variants[turns % len(variants)])
            turns += 1
    spent = time.monotonic() - began
    print(
        f"{run.packets:,} packets, seeds {asked.seed} to {run.seed - 1}, {len(run.shapes):,} kinds of frames, "
        f"0 differences, {spent:.0f} s, {run.packets / spent:,.0f} packets/s"
    )
    print(", ".join(f"{count:,} {name}" for name, count in run.reasons.most_common()))
    if asked.corpus:
        print(f"{run.kept} frames kept in {asked.corpus}")
    return 0 if run.packets >= asked.packets else 1


if __name__ == "__main__":
    sys.exit(main())
