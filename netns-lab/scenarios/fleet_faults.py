# SPDX-License-Identifier: GPL-2.0
"""What can go wrong with a fleet, each at a random moment, entries put and deleted meanwhile."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from scenarios.fleet_hosts import Simulated
from scenarios.fleet_parts import Real, Server, block, key_of, wait_for
from scenarios.fleet_proxy import Proxy

from xdpguard.policy.rule import NewRule

_SKEW = 240  # seconds
_LONG = 3600.0  # seconds; what ends sooner is a ban whose end is watched


class Faults:
    """The fleet, and its faults. Each leaves it whole; hosts have yet to notice. ``skew``: by host, of its clock, s."""

    def __init__(
        self, server: Server, proxy: Proxy, real: list[Real], simulated: Simulated, chosen: random.Random
    ) -> None:
        self._server = server
        self._proxy = proxy
        self._real = real
        self._simulated = simulated
        self._random = chosen
        self._keys: list[str] = []
        self._own: set[str] = set()  # keys that hosts put while they may not have been able to publish them
        self._number = 0
        self.skew = {it.name: 0 for it in real}
        self.by_name: dict[str, Callable[[], None]] = {
            "server killed, its data kept": self._killed,
            "server killed, its data lost, then fleet publish": self._emptied,
            "link cut": self._cut,
            "host killed in mid-change": self._host,
            "host stands still": self._slow,
            "host's clock 4 minutes off": self._clock,
            "publisher's clock 4 minutes off": self._skewed,
            "messages lost": self._lossy,
            "messages twice": self._doubled,
            "messages out of order": self._delayed,
            "host floods the bucket": self._flood,
        }

    def change(self, count: int, skew: float = 0.0) -> None:
        """Puts and deletes some entries."""
        rows: dict[str, bytes | None] = {}
        for _ in range(count):
            if self._keys and self._random.random() < 0.4:
                rows[self._keys.pop(self._random.randrange(len(self._keys)))] = None
            else:
                address = self._address()
                key = key_of(self._random.choice(("operator", "web1", "sim3")), address)
                rows[key] = block(address, _LONG, skew)
                self._keys.append(key)
        self._server.put(rows)

    def arrived(self) -> bool:
        """Whether all that hosts put themselves is in the bucket."""
        if self._own:
            there = {it.key for it in self._server.ask(lambda it: it.read()) if it.data is not None}
            self._keys += self._own & there
            self._own -= there
        return not self._own

    def mend(self) -> None:
        """Sets the clocks right."""
        for it in self._real:
            if self.skew[it.name]:
                it.ahead(0)
                self.skew[it.name] = 0

    def _address(self) -> str:
        self._number += 1
        return f"203.0.{self._number // 250 % 250}.{self._number % 250}"

    def _put_there(self) -> None:
        """A host puts an entry, while its server is away."""
        host, address = self._random.choice(self._real), self._address()
        host.command("block", "--fleet", address, "--for", "1h")
        self._own.add(key_of("operator" if host is self._real[0] else host.name, address))

    def _killed(self) -> None:
        self._server.kill()
        self._put_there()
        time.sleep(self._random.uniform(0, 4))
        self._server.start()
        self.change(5)

    def _emptied(self) -> None:
        wanted = self._lasting()
        self._server.kill()
        self._server.start(empty=True)
        self._server.ask(lambda it: it.make())
        operator = self._real[0]
        wait_for(lambda: operator.standing().state.keeping, "a host notices that the server lost its data")
        operator.command("fleet", "publish")
        if (found := self._lasting()) != wanted:
            raise RuntimeError(f"of {len(wanted)} entries {len(found & wanted)} came back, {len(found - wanted)} more")
        self._keys = [key_of("operator", it) for it in wanted]

    def _lasting(self) -> set[str]:
        """Targets in the bucket that do not end soon."""
        soon = time.time() + _LONG / 2
        found = [it for it in self._server.wanted().all_wanted() if isinstance(it, NewRule)]
        return {str(it.target) for it in found if it.expires is None or it.expires > soon}

    def _cut(self) -> None:
        self._proxy.cut = True
        self._proxy.sever()
        self.change(5)
        if self._random.random() < 0.5:
            self._put_there()
        time.sleep(self._random.uniform(0, 4))
        self._proxy.cut = False

    def _host(self) -> None:
        host = self._random.choice(self._real)
        self.change(30)
        time.sleep(self._random.uniform(0, 0.2))
        host.kill()
        self.change(5)
        time.sleep(self._random.uniform(0, 3))
        host.start()

    def _slow(self) -> None:
        self.change(5)
        self._random.choice(self._real).stop(self._random.uniform(1, 6), lambda: self.change(10))

    def _clock(self) -> None:
        host = self._random.choice(self._real)
        self.skew[host.name] = self._random.choice((-_SKEW, _SKEW))
        host.ahead(self.skew[host.name])
        self._put_there()
        self.change(5)

    def _skewed(self) -> None:
        self.change(5, skew=self._random.choice((-float(_SKEW), float(_SKEW))))

    def _lossy(self) -> None:
        self._proxy.lose = 0.3
        self.change(10)
        time.sleep(0.5)
        self._proxy.lose = 0.0
        if self._random.random() < 0.7:  # else hosts notice by asking, up to half a minute later
            self.change(1)

    def _doubled(self) -> None:
        self._proxy.double = 0.5
        self.change(10)
        time.sleep(0.5)
        self._proxy.double = 0.0

    def _delayed(self) -> None:
        self._proxy.delay = 0.5
        for _ in range(3):
            self.change(8)
        time.sleep(0.5)
        self._proxy.delay = 0.0
        self.change(1)  # what is still held back comes after it

    def _flood(self) -> None:
        self._simulated.ask("flood 500")
