# SPDX-License-Identifier: GPL-2.0
"""Real sockets in the lab: a server that echoes, clients that try. A socket belongs to the namespace it was made in."""

from __future__ import annotations

import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from topology import CLIENTS4, CLIENTS6, SERVER4, SERVER6, Lab

from support.patience import patient
from xdpguard.bench.flood import MAX_SECONDS
from xdpguard.net.netns import entered

Family = Literal[4, 6]
Protocol = Literal["tcp", "udp"]
PORT = 7000
_WAIT = patient(0.4)  # seconds a client waits: the lab answers in far less than a millisecond
_FLOOD = Path(__file__).parents[2] / "netns-lab" / "flood.py"


def server_address(family: Family) -> str:
    """The lab server's address."""
    return SERVER4 if family == 4 else SERVER6


def client_address(family: Family, number: int = 0) -> str:
    """One of the outside end's client addresses."""
    return CLIENTS4[number] if family == 4 else CLIENTS6[number]


class Echo:
    """Echoes TCP and UDP, IPv4 and IPv6, on PORT in the server's namespace. Use as a context manager."""

    def __init__(self, lab: Lab, port: int = PORT) -> None:
        self._selector = selectors.DefaultSelector()
        self._running = True
        with entered(lab.server):
            for family in (socket.AF_INET, socket.AF_INET6):
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    listener = socket.socket(family, kind)
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    if family == socket.AF_INET6:
                        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    listener.bind(("", port))
                    if kind == socket.SOCK_STREAM:
                        listener.listen(64)
                    self._selector.register(listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Echo:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._running = False
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()

    def _serve(self) -> None:
        while self._running:
            for key, _ in self._selector.select(0.05):
                assert isinstance(key.fileobj, socket.socket)
                self._answer(key.fileobj)

    def _answer(self, listener: socket.socket) -> None:
        try:
            if listener.type == socket.SOCK_DGRAM:
                data, sender = listener.recvfrom(2048)
                listener.sendto(data, sender)
                return
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(_WAIT)
                connection.sendall(connection.recv(2048))
        except OSError:
            return


def works(lab: Lab, family: Family, protocol: Protocol, client: int = 0, port: int = PORT, wait: float = _WAIT) -> bool:
    """Whether a client gets an echo: a TCP connection with data both ways, or a UDP question and answer.

    ``wait``: seconds for each of them; more than a few where a SYN may be lost and sent again.
    """
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with entered(lab.outside):
        attempt = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind)
    with attempt:
        attempt.settimeout(wait)
        attempt.bind((client_address(family, client), 0))
        try:
            attempt.connect((server_address(family), port))
            attempt.sendall(b"hello")
            return attempt.recv(2048) == b"hello"
        except OSError:
            return False


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Waits for a condition, at most so long. The pause is that of an event that does not come.

    It is longer than asking takes: a condition that runs a command would keep a CPU busy from what it waits for.
    """
    end = time.monotonic() + patient(seconds)
    while (began := time.monotonic()) < end:
        if condition():
            return True
        threading.Event().wait(min(0.25, max(0.02, 3 * (time.monotonic() - began))))
    return condition()


def lasting(seconds: float) -> str:
    """How long a flood lasts, as an argument: long enough to be seen on this machine."""
    return str(min(MAX_SECONDS, patient(seconds)))


def flood_command(lab: Lab, *arguments: str) -> list[str]:
    """The command line of netns-lab/flood.py from the lab's outside."""
    return [sys.executable, str(_FLOOD), *arguments, "--netns", lab.outside, "--json"]


def start_flood(lab: Lab, *arguments: str) -> subprocess.Popen[str]:
    """Starts a flood; the caller waits for it."""
    return subprocess.Popen(flood_command(lab, *arguments), stdout=subprocess.PIPE, text=True)
