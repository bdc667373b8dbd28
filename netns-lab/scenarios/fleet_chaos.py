# SPDX-License-Identifier: GPL-2.0
"""Random faults of a fleet, entries put and deleted meanwhile: after each, all hosts must soon hold the same."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack

from scenarios.fleet_hosts import Simulated
from scenarios.fleet_parts import Figure, Real, Server, block, key_of, wait_for
from scenarios.fleet_proxy import Proxy

_AGREE = 30.0  # seconds within which all hosts must agree
_GIVE_UP = 120.0  # seconds after which they never will
_PROCESSES = 2


class Fleet:
    """The fleet, and what can go wrong with it. Each fault leaves it whole; hosts have yet to notice."""

    def __init__(
        self, server: Server, proxy: Proxy, real: list[Real], simulated: Simulated, chosen: random.Random
    ) -> None:
        self._server = server
        self._proxy = proxy
        self._real = real
        self._simulated = simulated
        self._random = chosen
        self._keys: list[str] = []
        self._number = 0
        self.faults: dict[str, Callable[[], None]] = {
            "server killed, its data kept": self._killed,
            "server killed, its data lost, then fleet publish": self._emptied,
            "link cut": self._cut,
            "host killed": self._host,
            "messages lost": self._lossy,
            "messages doubled": self._doubled,
            "host floods the bucket": self._flood,
            "publisher's clock 4 minutes off": self._skewed,
        }

    def change(self, count: int, skew: float = 0.0) -> None:
        """Puts and deletes some entries."""
        rows: dict[str, bytes | None] = {}
        for _ in range(count):
            if self._keys and self._random.random() < 0.4:
                rows[self._keys.pop(self._random.randrange(len(self._keys)))] = None
            else:
                self._number += 1
                address = f"203.0.{self._number // 250 % 250}.{self._number % 250}"
                key = key_of(self._random.choice(("operator", "web1", "sim3")), address)
                rows[key] = block(address, skew=skew)
                self._keys.append(key)
        self._server.put(rows)

    def agreed(self, digest: str) -> bool:
        """Whether all hosts have that digest, and the real ones hold what is wanted."""
        if self._simulated.digests() != {digest}:
            return False
        standing = [it.status()["here"] for it in self._real]
        return all(it["digest"] == digest and it["held"] + it["refused"] == it["wanted"] for it in standing)

    def disagreeing(self, digest: str) -> list[str]:
        """Names the hosts that do not, and how they stand."""
        found = [
            f"{name} {its}"
            for answer in self._simulated.ask("digests")
            for name, its in answer.items()
            if its[0] != digest
        ]
        for it in self._real:
            status = it.status()
            here = status["here"]
            if here["digest"] != digest or here["held"] + here["refused"] != here["wanted"]:
                words = [status["connected"], status["failed"], here["wanted"], here["held"], here["keeping"]]
                found.append(f"{it.name} {words} {it.said[-1][1]}")
        return found

    def _killed(self) -> None:
        self._server.kill()
        time.sleep(self._random.uniform(0, 3))
        self._server.start()
        self.change(5)

    def _emptied(self) -> None:
        wanted = len(self._server.wanted())
        self._server.kill()
        self._server.start(empty=True)
        self._server.ask(lambda it: it.make())
        operator = self._real[0]
        wait_for(lambda: operator.status()["here"]["keeping"], "a host notices that the server lost its data")
        operator.command("fleet", "publish")
        found = len(self._server.wanted())
        if found != wanted:
            raise RuntimeError(f"of {wanted} entries {found} came back")
        self._keys = []

    def _cut(self) -> None:
        self._proxy.cut = True
        self._proxy.sever()
        self.change(5)
        time.sleep(self._random.uniform(0, 5))
        self._proxy.cut = False

    def _host(self) -> None:
        host = self._random.choice(self._real)
        self.change(3)
        host.kill()
        self.change(5)
        host.start()

    def _lossy(self) -> None:
        self._proxy.lose = 0.3
        self.change(10)
        time.sleep(0.5)
        self._proxy.lose = 0.0

    def _doubled(self) -> None:
        self._proxy.double = 0.5
        self.change(10)
        time.sleep(0.5)
        self._proxy.double = 0.0

    def _flood(self) -> None:
        self._simulated.ask("flood 500")

    def _skewed(self) -> None:
        self.change(5, skew=self._random.choice((-240.0, 240.0)))


def chaos(server: Server, real: list[Real], hosts: int, count: int, seed: int, stack: ExitStack) -> list[Figure]:
    """So many faults; returns how long it took until all hosts agreed, by fault."""
    proxy = Proxy(server.port, seed)
    stack.callback(proxy.close)
    url = f"nats://127.0.0.1:{proxy.port}"
    real[0].join(url, server.folder / "operator.toml")
    for it in real[1:]:
        it.join(url, server.folder / "hosts" / f"{it.name}.toml")
    simulated = Simulated(url, server.folder, hosts, _PROCESSES)
    stack.callback(simulated.end)
    chosen = random.Random(seed)
    fleet = Fleet(server, proxy, real, simulated, chosen)
    fleet.change(50)
    wait_for(lambda: fleet.agreed(server.wanted().digest), "the fleet agrees at first")
    took: dict[str, list[float]] = {name: [] for name in fleet.faults}
    for number in range(count):
        name = chosen.choice(list(fleet.faults))
        fleet.faults[name]()
        start = time.monotonic()
        while not fleet.agreed(server.wanted().digest) and time.monotonic() < start + _GIVE_UP:
            if time.monotonic() > start + _AGREE:
                print(f"  {name}: {fleet.disagreeing(server.wanted().digest)}", file=sys.stderr, flush=True)
            time.sleep(0.05)
        seconds = time.monotonic() - start
        took[name].append(seconds)
        print(f"{number + 1} of {count}: {name}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return [_figure(name, its) for name, its in took.items() if its]


def _figure(name: str, its: list[float]) -> Figure:
    late = sum(it > _AGREE for it in its)
    words = f"{max(its):.1f} s at most" + (f", {late} too late" if late else "")
    return Figure(f"{name} ({len(its)} times): all agree", f"{_AGREE:.0f} s", words, not late)
