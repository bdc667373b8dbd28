# SPDX-License-Identifier: GPL-2.0
"""Every command that changes something, with every fault at every place: steps, calls of bpf(2), statements of SQLite.

    sudo env PYTHONPATH=.:tests:netns-lab .venv/bin/python tests/long/faults.py --seconds 600

Cases are drawn in the order of a seed, which is printed. After each: no rule is lost, nothing is half in force, the
error is one line with a remedy, and the next command works and finds all of the change or nothing of it.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

from support.fault_place import FaultPlace
from support.fault_rounds import Rounds


def main() -> int:
    """Run cases until the time is over; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1_000_000, help="at most so many")
    parser.add_argument("--seconds", type=float, default=480, help="no case begins after that (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="default: the time")
    parser.add_argument("--only", nargs="*", default=(), help="commands, by their names here")
    parser.add_argument("--fault", nargs="*", default=(), help="faults: kill, ENOSPC, 'disk full', ...")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was made is removed
    seed = int(time.time()) if asked.seed is None else asked.seed
    began, done, findings = time.monotonic(), 0, []
    with tempfile.TemporaryDirectory() as folder, FaultPlace(Path(folder)) as place:
        rounds = Rounds(place, seed, tuple(asked.only))
        for case in rounds.cases():
            if done >= asked.cases or time.monotonic() - began > asked.seconds:
                break
            if asked.fault and case.fault not in asked.fault:
                continue
            found = rounds.run(case)
            for it in found:
                print(it, flush=True)
            findings += found
            done += 1
    what = ", ".join(f"{count:,} {it}" for it, count in sorted(rounds.tally.items()))
    print(f"{done:,} cases, seed {seed}, {len(findings)} findings, {time.monotonic() - began:.0f} s")
    print(f"what became of them: {what}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
