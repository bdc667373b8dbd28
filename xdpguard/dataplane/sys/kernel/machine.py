# SPDX-License-Identifier: GPL-2.0
"""What the running kernel is, and what it runs on."""

from __future__ import annotations

import platform
import re
from pathlib import Path


def release() -> tuple[int, int] | None:
    """Return the running kernel's version, major and minor; None when its name does not begin with one."""
    match = re.match(r"(\d+)\.(\d+)", platform.release())
    return (int(match[1]), int(match[2])) if match else None


def boot_id() -> str:
    """Name the present boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def reads_locked() -> bool:
    """Return whether the kernel keeps programs from reading its memory (lockdown=confidentiality)."""
    try:
        return "[confidentiality]" in Path("/sys/kernel/security/lockdown").read_text(encoding="ascii")
    except OSError:
        return False


def possible_cpus() -> int:
    """Return the number of possible CPUs: one more than the highest id, the size of every per-CPU value."""
    return _cpus("possible")


def present_cpus() -> int:
    """Return the number of CPUs plugged in: one more than the highest id. Often far fewer than possible ones."""
    return _cpus("present")


def _cpus(which: str) -> int:
    text = Path(f"/sys/devices/system/cpu/{which}").read_text(encoding="ascii")
    return int(text.strip().replace(",", "-").split("-")[-1]) + 1
