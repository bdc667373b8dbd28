# SPDX-License-Identifier: GPL-2.0
"""What /proc tells about a process, as text that is safe to print."""

from __future__ import annotations


def name_of(pid: int) -> str:
    """Return a process's name as the kernel stores it, without control characters; empty if it no longer exists."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 (called often)
            return "".join(it if it.isprintable() else "?" for it in file.read().rstrip("\n"))
    except OSError:
        return ""
