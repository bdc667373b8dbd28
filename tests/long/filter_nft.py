# SPDX-License-Identifier: GPL-2.0
"""Random filters against nftables, on random packets: each must match what nft's rule of the same words matches.

    sudo env PYTHONPATH=.:tests:netns-lab .venv/bin/python tests/long/filter_nft.py --seconds 300

Each round has a seed, which is printed with the first difference: `--seed N --rounds 1` repeats that round.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from support.expressions import conjunctions
from support.nft import PACKETS, Oracle, compare, usable
from topology import Lab

_FILTERS = 60  # of a round


def compared(lab: Lab, number: int) -> int:
    """One round: other packets and other filters. Returns how often any matched; AssertionError where they differ."""
    oracle, total = Oracle(lab, number), 0

    @seed(number)
    @settings(
        max_examples=1, database=None, deadline=None, phases=(Phase.generate,), suppress_health_check=list(HealthCheck)
    )
    @given(st.lists(conjunctions().filter(usable), min_size=_FILTERS, max_size=_FILTERS))
    def once(texts: Sequence[str]) -> None:
        nonlocal total
        total += compare(oracle, texts)

    once()
    return total


def main() -> int:
    """Run rounds; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300, help="no round begins after that (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1_000_000, help="at most so many")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first round; default: the time")
    asked = parser.parse_args()
    began, done, total = time.monotonic(), 0, 0
    with Lab(f"xgnft{os.getpid()}", owner=os.getpid()) as lab:
        while done < asked.rounds and time.monotonic() - began < asked.seconds:
            try:
                total += compared(lab, asked.seed + done)
            except AssertionError as error:
                print(f"seed {asked.seed + done}: {error}", flush=True)
                return 1
            done += 1
    print(
        f"seeds {asked.seed} to {asked.seed + done - 1}: {done * _FILTERS:,} filters on {PACKETS} packets each, both as"
        f" given and as xdpguard writes them; {total:,} matches, no difference from nft"
    )
    return 0 if total else 1


if __name__ == "__main__":
    sys.exit(main())
