# SPDX-License-Identifier: GPL-2.0
"""Random walks over the command line with two instances: attach, rules, lists, filters, undo, kills, clocks, ends.

    sudo env PYTHONPATH=.:tests:netns-lab .venv/bin/python tests/long/state_machine.py --seconds 600

After each step the kernel is asked about packets, and decides as the model says (tests/support/policy_model.py). A
difference is printed with its seed and the steps that led there: `--seed N` walks the same way.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from support.walk import Found, walk
from topology import Lab


def main() -> int:
    """Walk until the time or the steps are over; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000, help="at most so many in all")
    parser.add_argument("--each", type=int, default=150, help="steps of a walk, then a new one (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=480, help="no step begins after that (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="of the first walk (default: the time)")
    parser.add_argument("--verbose", action="store_true", help="print each step before it is taken")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was made is removed
    first = int(time.time()) if asked.seed is None else asked.seed
    began, seed, steps = time.monotonic(), first, 0
    tally: Counter[str] = Counter()

    def say(line: str) -> None:
        if asked.verbose:
            print(f"{time.monotonic() - began:.1f} {line}", flush=True)

    with Lab(f"xgwalk{os.getpid()}", owner=os.getpid()) as lab:
        while steps < asked.steps and (left := asked.seconds - (time.monotonic() - began)) > 0:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    made = walk(Path(folder), lab, seed, min(asked.each, asked.steps - steps), left, say)
                except Found as found:
                    print(found)
                    return 1
            tally += made.tally
            steps, seed = steps + made.tally.total(), seed + 1
    print(f"{steps:,} steps, seeds {first} to {seed - 1}, 0 differences, {time.monotonic() - began:.0f} s")
    print(f"of them: {', '.join(f'{count:,} {what}' for what, count in sorted(tally.items()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
