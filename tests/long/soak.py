# SPDX-License-Identifier: GPL-2.0
"""A soak: floods, reloads, list swaps, ends of rules, kills and restarts of the service, and a client that connects.

    sudo env PYTHONPATH=.:tests:netns-lab .venv/bin/python tests/long/soak.py --seconds 1200

Memory, descriptors and threads of the service and the kernel's maps must not grow, no lock may stay, counters agree
with what was sent, and every connection is served. `--leak` has the service leak on purpose: that must be found.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from support.command import Command
from support.soaking import Soak
from topology import Lab


def main() -> int:
    """Run the soak; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1200, help="how long (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="default: the time")
    parser.add_argument("--leak", action="store_true", help="let the service leak")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was made is removed
    seed = int(time.time()) if asked.seed is None else asked.seed
    with tempfile.TemporaryDirectory() as folder, Lab(f"xgsoak{os.getpid()}", owner=os.getpid()) as lab:
        command = Command(Path(folder) / "state")
        soak = Soak(command, lab, seed, asked.leak)
        try:
            soak.run(asked.seconds)
        finally:
            command.clean()
    print(f"seed {seed}: {', '.join(f'{count:,} {what}' for what, count in sorted(soak.tally.items()))}")
    if soak.sizes:
        print(f"the service, first and last: {soak.sizes[0]}\n{' ' * 29}{soak.sizes[-1]}")
    print("\n".join(soak.findings) or "0 findings")
    return 1 if soak.findings else 0


if __name__ == "__main__":
    sys.exit(main())
