# SPDX-License-Identifier: GPL-2.0
"""Simulated hosts of a fleet, many in one process: connection, snapshot, reconciliation and digest are the real ones.

What they lack is the kernel and the store. Usage: fleet_hosts.py URL FOLDER FIRST COUNT. Commands come on standard
input, a line each; each is answered by a line of JSON.
"""

from __future__ import annotations

import json
import resource
import selectors
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from scenarios.fleet_parts import pipe
from tied import tied

from xdpguard.fleet.batch import Sending
from xdpguard.fleet.keys import BUCKET
from xdpguard.fleet.link import Link
from xdpguard.fleet.message import Value, encode
from xdpguard.fleet.state import State
from xdpguard.policy.fleet import Fleet


class Host:
    """One of them. ``reached``: by key, when its change was taken, monotonic seconds."""

    def __init__(self, url: str, folder: Path, name: str) -> None:
        self.name = name
        self.state = State()
        self.known = False
        self.reached: dict[str, float] = {}
        self.link = Link(Fleet((url,), name, str(folder / "hosts" / f"{name}.toml")))

    def drain(self) -> None:
        """Takes what came."""
        for batch in self.link.taken():
            if batch.stream:
                self.state.become(batch.messages)
                self.known = True
            elif batch.messages:
                self.state.take(batch.messages)
                now = time.monotonic()
                self.reached.update((it.key, now) for it in batch.messages)


class Hosts:
    """All of a process."""

    def __init__(self, url: str, folder: Path, names: list[str]) -> None:
        self._selector = selectors.DefaultSelector()
        self.hosts = [Host(url, folder, name) for name in names]
        for host in self.hosts:
            self._selector.register(host.link.fileno(), selectors.EVENT_READ, host)
        self._selector.register(sys.stdin, selectors.EVENT_READ, None)

    def serve(self) -> None:
        """Until told to end."""
        while True:
            for key, _ in self._selector.select():
                if key.data is not None:
                    key.data.drain()
                elif not self._answer(sys.stdin.readline().split()):
                    return

    def _answer(self, words: list[str]) -> bool:
        match words:
            case ["digests"]:
                answer: object = {it.name: [it.state.digest, len(it.state), it.known] for it in self.hosts}
            case ["reached", key]:
                answer = sorted(it.reached[key] for it in self.hosts if key in it.reached)
            case ["flood", count]:
                answer = self._flood(int(count))
            case _:
                return False
        print(json.dumps(answer), flush=True)
        return True

    def _flood(self, count: int) -> int:
        """The first of them publishes as much as it can."""
        host, now = self.hosts[0], time.time()
        prefixes = [f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}" for number in range(count)]
        host.link.publish(
            [
                Sending(
                    BUCKET,
                    f"{host.name}.block.4-{bytes(map(int, it.split('.'))).hex()}-32",
                    encode(Value(1, "block", it, now, now + 3600)),
                )
                for it in prefixes
            ]
        )
        return count


class Simulated:
    """Processes with simulated hosts."""

    def __init__(self, url: str, folder: Path, count: int, processes: int) -> None:
        each = -(-count // processes)
        worker = str(Path(__file__))
        self._processes = [
            subprocess.Popen(
                tied([sys.executable, worker, url, str(folder), str(first), str(min(each, count - first))]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for first in range(0, count, each)
        ]

    def ask(self, command: str) -> list[Any]:
        """What each process answers."""
        for it in self._processes:
            pipe(it.stdin).write(f"{command}\n")
            pipe(it.stdin).flush()
        return [json.loads(pipe(it.stdout).readline()) for it in self._processes]

    def digests(self) -> set[str]:
        """Digests of all; the empty text for those that know nothing yet."""
        return {its[0] if its[2] else "" for answer in self.ask("digests") for its in answer.values()}

    def end(self) -> None:
        """Ends them."""
        for it in self._processes:
            it.kill()
            it.communicate()


def main() -> None:
    """Run until standard input says so."""
    url, folder, first, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    Hosts(url, folder, [f"sim{number}" for number in range(first, first + count)]).serve()


if __name__ == "__main__":
    main()
