# SPDX-License-Identifier: GPL-2.0
"""Random faults of a fleet: after each, all hosts must soon hold the same, and a ban that was put before it must end
in the kernels when it is to end, whatever died.
"""

from __future__ import annotations

import random
import sys
import time
from contextlib import ExitStack
from typing import NamedTuple

from scenarios.fleet_faults import Faults
from scenarios.fleet_hosts import Simulated
from scenarios.fleet_parts import Figure, Real, Server, block, key_of, wait_for
from scenarios.fleet_proxy import Proxy
from scenarios.fleet_verdicts import BANNED, Verdicts

_AGREE = 30.0  # seconds within which all hosts must agree
_GIVE_UP = 120.0  # seconds after which they never will
_LATE = 1.0  # seconds by which a ban may outlive its end
_PROCESSES = 2


class Ban:
    """A short one of a client, for all hosts. ``end``: Unix time."""

    def __init__(self, server: Server, client: str, seconds: float) -> None:
        self.client = client
        self.put = time.time()
        self.end = self.put + seconds
        self._server = server
        self._key = key_of("operator", client)
        server.put({self._key: block(client, seconds)})

    def delete(self) -> None:
        """Takes it out of the bucket."""
        self._server.put({self._key: None})

    def outlived(self, verdicts: Verdicts, skew: dict[str, int]) -> tuple[int, float]:
        """Waits for the end; on how many hosts it was in force, and by how much it outlived it where it did so most.

        A host goes by its own clock: what a clock that is behind makes of it is not judged.
        """
        time.sleep(max(0.0, self.end + 1.5 * _LATE - time.time()))
        force, most = 0, 0.0
        for host, ahead in skew.items():
            force += bool(verdicts.dropped(host, self.client, self.put, self.end))
            if not verdicts.seen(host, self.end, time.time()):
                raise RuntimeError(f"{host}: no packets come from a client that is not banned")
            if ahead >= 0:
                late = verdicts.dropped(host, self.client, self.end, time.time())
                most = max(most, late[-1] - self.end) if late else most
        return force, most


class Chaos:
    """The fleet while faults happen to it."""

    def __init__(self, server: Server, real: list[Real], simulated: Simulated, verdicts: Verdicts) -> None:
        self._server = server
        self._real = real
        self._simulated = simulated
        self._verdicts = verdicts
        self.took: dict[str, list[float]] = {}
        self.outlived: list[float] = []
        self.in_force = 0

    def happens(self, faults: Faults, name: str, ban: Ban) -> None:
        """One fault, and what comes of it."""
        faults.by_name[name]()
        start = time.monotonic()
        while not (faults.arrived() and self.agreed()) and time.monotonic() < start + _GIVE_UP:
            if time.monotonic() > start + _AGREE:
                _tell(f"  {name}: {self._disagreeing()}")
                time.sleep(2)
            time.sleep(0.1)
        self.took.setdefault(name, []).append(time.monotonic() - start)
        force, late = ban.outlived(self._verdicts, faults.skew)
        self.in_force += force
        self.outlived.append(late)
        faults.mend()
        ban.delete()

    def agreed(self) -> bool:
        """Whether all hosts know what the bucket holds, and the real ones hold it, but for what has ended."""
        standing = [it.standing().state for it in self._real]
        digests = {it.digest for it in standing} | self._simulated.digests()
        if len(digests) > 1:
            return False
        wanted = self._server.wanted()
        ended = sum(it.expires is not None and it.expires < time.time() + 2 for it in wanted.all_wanted())
        return digests == {wanted.digest} and all(
            it.wanted - ended <= it.held + it.refused <= it.wanted for it in standing
        )

    def _disagreeing(self) -> list[str]:
        """Names the hosts that do not, and how they stand."""
        digest = self._server.wanted().digest
        found = [
            f"{name} {its}"
            for answer in self._simulated.ask("digests")
            for name, its in answer.items()
            if its[0] != digest or not its[2]
        ]
        for it in self._real:
            its = it.standing()
            words = [its.connected, its.failed, its.state.digest == digest, its.state.wanted, its.state.held]
            found.append(f"{it.name} {words} {its.state.refused} {its.state.keeping} {it.said[-1][1]}")
        return found


class Bounds(NamedTuple):
    """How many faults at most, in how many seconds; and the seed of their order."""

    faults: int
    seconds: float
    seed: int


def chaos(server: Server, real: list[Real], hosts: int, bounds: Bounds, stack: ExitStack) -> list[Figure]:
    """Faults; returns how long it took until all hosts agreed, by fault, and by how much bans outlived."""
    until = time.monotonic() + bounds.seconds
    proxy = Proxy(server.port, bounds.seed)
    stack.callback(proxy.close)
    url = f"nats://127.0.0.1:{proxy.port}"
    real[0].join(url, server.folder / "operator.toml")
    for it in real[1:]:
        it.join(url, server.folder / "hosts" / f"{it.name}.toml")
    simulated = Simulated(url, server.folder, hosts, _PROCESSES)
    stack.callback(simulated.end)
    verdicts = Verdicts({it.name: it.lab for it in real})
    stack.callback(verdicts.close)
    chosen = random.Random(bounds.seed)
    faults, its = Faults(server, proxy, real, simulated, chosen), Chaos(server, real, simulated, verdicts)
    faults.change(50)
    wait_for(its.agreed, "the fleet agrees at first")
    names = list(faults.by_name)
    for number in range(bounds.faults):
        if number and time.monotonic() > until:
            break
        if number % len(names) == 0:
            chosen.shuffle(names)
        name = names[number % len(names)]
        its.happens(faults, name, Ban(server, BANNED[number % len(BANNED)], chosen.uniform(1, 5)))
        words = f"agree in {its.took[name][-1]:.1f} s, a ban outlives its end by {its.outlived[-1]:.2f} s"
        _tell(f"{number + 1} of {bounds.faults}: {name}: {words}")
    return [*(_figure(name, found) for name, found in its.took.items()), _ends(its, len(real) * len(its.outlived))]


def _figure(name: str, its: list[float]) -> Figure:
    late = sum(it > _AGREE for it in its)
    words = f"{max(its):.1f} s at most" + (f", {late} too late" if late else "")
    return Figure(f"{name} ({len(its)} times): all agree", f"{_AGREE:.0f} s", words, not late)


def _ends(its: Chaos, most: int) -> Figure:
    words = f"{max(its.outlived):.2f} s at most, in force {its.in_force} of {most} times"
    return Figure("a ban outlives its end on any host", f"{_LATE:.0f} s", words, max(its.outlived) <= _LATE)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
