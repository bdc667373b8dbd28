# SPDX-License-Identifier: GPL-2.0
"""Many hosts that join at once: each connects and reads the snapshot and what changed since, as real ones do.

A thousand interpreters that also understand 100,000 entries each would measure this machine's Python, so that these
only check the snapshot's digest. What one host needs to understand it is measured apart. Usage: fleet_load.py URL
FOLDER FIRST COUNT; they begin when told on standard input.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

from scenarios.fleet_parts import pipe

from xdpguard.errors import XdpguardError
from xdpguard.fleet import snapshot
from xdpguard.fleet.client import connected
from xdpguard.policy.fleet import Fleet

_TRIES = 20
_WAIT = 30.0  # seconds for a connection to a server to which a thousand connect at once
_PAUSE, _LONGEST = 1.0, 30.0  # seconds between two attempts, as link.py has them


async def _join(settings: Fleet) -> tuple[float, int, int]:
    """Joins; returns when it had all, monotonic seconds, the bytes of the snapshot, and how many entries came after."""
    pause = _PAUSE
    for _ in range(_TRIES):
        try:
            async with connected(settings, wait=_WAIT) as connection:
                place, head = await connection.place(), await snapshot.head(connection)
                if head is None:
                    raise SystemExit("there is no snapshot")
                data = await snapshot.packed(connection, head)
                newer = await connection.read(after=head.last) if place.last > head.last else []
                return time.monotonic(), len(data), len(newer)
        except XdpguardError:
            await asyncio.sleep(random.uniform(pause / 2, pause))
            pause = min(_LONGEST, pause * 2)
    raise SystemExit(f"{settings.name} could not join")


async def _join_all(hosts: list[Fleet]) -> list[tuple[float, int, int]]:
    return await asyncio.gather(*map(_join, hosts))


def join(url: str, folder: Path, count: int, processes: int) -> tuple[float, int, int]:
    """Has so many hosts join; returns seconds until the last had all, bytes of its snapshot, and entries after it."""
    each = -(-count // processes)
    workers = [
        subprocess.Popen(
            [sys.executable, str(Path(__file__)), url, str(folder), str(first), str(min(each, count - first))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for first in range(0, count, each)
    ]
    try:
        for it in workers:
            pipe(it.stdout).readline()
        start = time.monotonic()
        for it in workers:
            pipe(it.stdin).write("go\n")
            pipe(it.stdin).flush()
        last = max(tuple(its) for it in workers for its in json.loads(pipe(it.stdout).readline()))
    finally:
        for it in workers:
            it.kill()
            it.communicate()
    return last[0] - start, last[1], last[2]


def main() -> None:
    """Join with so many hosts when told to."""
    url, folder, first, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    names = [f"sim{number}" for number in range(first, first + count)]
    hosts = [Fleet((url,), name, str(folder / "hosts" / f"{name}.toml")) for name in names]
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(asyncio.run(_join_all(hosts))), flush=True)


if __name__ == "__main__":
    main()
