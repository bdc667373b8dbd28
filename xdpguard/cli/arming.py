# SPDX-License-Identifier: GPL-2.0
"""Arm the undo of a change that must be confirmed: a timer of systemd, or a process that waits.

Both outlive the terminal, and run `hold`, which undoes what nobody has confirmed. Armed before the change is made, so
that no kill can leave a change without it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_BOOTED = Path("/run/systemd/system")  # there where systemd is process 1, see sd_booted(3)
_WAIT = 10.0  # seconds for systemd-run
_HANDED_DOWN = ("XDPGUARD_", "PYTHONPATH")  # without it another store would be looked at


def arm(instance: str, seconds: int) -> None:
    """See to it that `hold` runs once the seconds have passed, whatever becomes of this process and its terminal."""
    line = [sys.executable, "-P", "-m", "xdpguard.cli.hold", instance]
    if not (_BOOTED.is_dir() and _timer(line, seconds)):
        subprocess.Popen(
            line,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )


def _timer(line: list[str], seconds: int) -> bool:
    """Start a timer unit that runs a command; return whether it was started."""
    handed = [f"--setenv={name}={value}" for name, value in os.environ.items() if name.startswith(_HANDED_DOWN)]
    options = ["--quiet", "--collect", f"--on-active={seconds}s", "--timer-property=AccuracySec=100ms", *handed]
    try:
        done = subprocess.run(
            ["systemd-run", *options, "--", *line],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd="/",
            timeout=_WAIT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
