# SPDX-License-Identifier: GPL-2.0
"""Time and memory of a whole process, and what it leaves in the kernel."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from xdpguard.errors import XdpguardError

_POLL = 2  # ms between two memory readings
_SETTLE, _PAUSE, _SETTLED = 100, 0.1, 256 << 10  # readings, seconds between them, bytes that count as no change
_HIGH_WATER = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
# BPF maps and netfilter sets are counted in these; page cache and processes are not.
_KERNEL = ("SUnreclaim", "VmallocUsed", "Percpu")


class Spent(NamedTuple):
    """A process's run time in seconds, and its peak memory in bytes."""

    seconds: float
    peak: int


def spend(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    stdin: Path | None = None,
) -> Spent:
    """Run a command to completion. Raise XdpguardError with its output if it fails."""
    with tempfile.TemporaryFile() as said, Path(stdin or os.devnull).open("rb") as given:
        begin = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=given, stdout=subprocess.DEVNULL, stderr=said, env=environment, cwd=folder
        )
        try:
            peak = _watch(process.pid)
            seconds = time.perf_counter() - begin
            code = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        if code:
            said.seek(0)
            words = said.read().decode("utf-8", "replace").strip()
            raise XdpguardError(
                f"{' '.join(command[-4:])} failed: {words.splitlines()[-1] if words else f'exit {code}'}",
                "run again with -v for its complete output",
                words,
            )
    return Spent(seconds, peak)


def kill_children() -> None:
    """Kill this process's children, including one that was just being started when it was interrupted."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == os.getpid():
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(int(path.parent.name), signal.SIGKILL)
                os.waitpid(int(path.parent.name), 0)


def kernel_memory() -> int:
    """Return the bytes the kernel uses itself; on an idle machine, the difference shows what was loaded in between."""
    found = {}
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0]) * 1024
    return sum(found.get(name, 0) for name in _KERNEL)


def settled_kernel_memory() -> int:
    """Return `kernel_memory` once it is stable: the kernel frees memory with a delay. Waits for that, with a bound."""
    before = kernel_memory()
    for _ in range(_SETTLE):
        time.sleep(_PAUSE)
        now = kernel_memory()
        if abs(now - before) < _SETTLED:
            return now
        before = now
    return before


def _watch(pid: int) -> int:
    """Follow a child's memory until it exits; return the peak.

    The usage that wait4(2) reports is unsuitable: a child starts with the peak of the process that forked it.
    """
    descriptor = os.pidfd_open(pid)
    peak = 0
    try:
        end = select.poll()
        end.register(descriptor, select.POLLIN)
        while True:
            # A child that has exited stays readable, without memory, until it is waited for.
            found = _HIGH_WATER.search(Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace"))
            peak = int(found[1]) * 1024 if found else peak
            if end.poll(_POLL):
                return peak
    finally:
        os.close(descriptor)
