# SPDX-License-Identifier: GPL-2.0
"""A fleet under 200 random faults at most: after each, all hosts agree again, and bans have ended in time.

    sudo env PYTHONPATH=.:tests:netns-lab .venv/bin/python tests/long/fleet.py --seconds 600 --seed 3

The machine is that of netns-lab/scenarios/fleet, whose other options it takes as well.
"""

from __future__ import annotations

import sys

from scenarios.fleet import main

if __name__ == "__main__":
    sys.exit(main(["--chaos", "200", *sys.argv[1:]]))
