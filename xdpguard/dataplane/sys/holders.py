# SPDX-License-Identifier: GPL-2.0
"""The processes that hold a program: those with a descriptor of it, or of a link to it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from xdpguard.process import name_of

_MOST = 3  # named


def holders(prog_id: int) -> str:
    """Return the processes that hold a program, in words; empty if none does: a link set with `ip` needs no process."""
    found = [f"{name} (pid {pid})" for pid, name in _processes(prog_id)]
    more = f" and {len(found) - _MOST} more" if len(found) > _MOST else ""
    return ", ".join(found[:_MOST]) + more


def _processes(prog_id: int) -> Iterator[tuple[int, str]]:
    mark = f"prog_id:\t{prog_id}\n"
    for entry in os.scandir("/proc"):
        # A process may end at any time.
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and _holds(Path(entry.path), mark):
                yield int(entry.name), name_of(int(entry.name))


def _holds(process: Path, mark: str) -> bool:
    for descriptor in os.scandir(process / "fd"):
        with contextlib.suppress(OSError):
            if str(Path(descriptor.path).readlink()).startswith(("anon_inode:bpf-prog", "anon_inode:bpf_link")):
                its = (process / "fdinfo" / descriptor.name).read_text(encoding="ascii", errors="replace")
                if mark in its:
                    return True
    return False
