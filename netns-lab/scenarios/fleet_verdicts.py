# SPDX-License-Identifier: GPL-2.0
"""What the kernels of real hosts do with packets of clients, all the time: a datagram of each client, again and again.

So it is seen when a ban came into force and when it ended, whatever the services say, or while they are dead.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from topology import CLIENTS4, SERVER4, Lab

from xdpguard.net.netns import entered

_PORT = 7009
_EVERY = 0.05  # seconds between two rounds
_FLIGHT = 0.3  # seconds after which a datagram that has not come was dropped
_KEPT = 6000  # rounds that are remembered: five minutes
_CONTROL = CLIENTS4[-1]  # is never banned: what of it is lost was not dropped
BANNED: Sequence[str] = CLIENTS4[:-1]


class _Round(NamedTuple):
    """``sent``: when, Unix time; ``came``: of whom a datagram arrived."""

    sent: float
    came: set[str]


class _Host:
    def __init__(self, lab: Lab) -> None:
        self.rounds: deque[_Round] = deque(maxlen=_KEPT)
        self._number = 0
        self._known: dict[int, _Round] = {}
        with entered(lab.server):
            self._receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._receiver.bind(("", _PORT))
        self._receiver.setblocking(False)
        with entered(lab.outside):
            self._senders = {it: socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for it in CLIENTS4}
        for address, sender in self._senders.items():
            sender.bind((address, 0))
            sender.connect((SERVER4, _PORT))

    def look(self) -> None:
        """Sends a round, and takes what has come."""
        self._number += 1
        made = self._known[self._number] = _Round(time.time(), set())
        self._known.pop(self._number - 100, None)
        for sender in self._senders.values():
            sender.send(b"%d" % self._number)
        self.rounds.append(made)
        while True:
            try:
                data, (address, _) = self._receiver.recvfrom(64)
            except BlockingIOError:
                return
            if found := self._known.get(int(data)):
                found.came.add(address)

    def close(self) -> None:
        """Closes its sockets."""
        for it in (self._receiver, *self._senders.values()):
            it.close()


class Verdicts:
    """A thread that sends, by host."""

    def __init__(self, labs: dict[str, Lab]) -> None:
        self._hosts = {name: _Host(lab) for name, lab in labs.items()}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends it."""
        self._ended.set()
        self._thread.join()
        for it in self._hosts.values():
            it.close()

    def dropped(self, host: str, client: str, start: float, end: float) -> list[float]:
        """When datagrams of a client were dropped there, Unix time, of those that were sent between two times."""
        end = min(end, time.time() - _FLIGHT)
        rounds = [it for it in list(self._hosts[host].rounds) if start <= it.sent <= end]
        return [it.sent for it in rounds if client not in it.came and _CONTROL in it.came]

    def seen(self, host: str, start: float, end: float) -> int:
        """In how many rounds between two times the client came that is never banned."""
        return sum(start <= it.sent <= end and _CONTROL in it.came for it in list(self._hosts[host].rounds))

    def _main(self) -> None:
        while not self._ended.wait(_EVERY):
            for it in self._hosts.values():
                it.look()
