# SPDX-License-Identifier: GPL-2.0
"""``events --follow`` and ``capture`` while they run, and the frames that make them say something."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import IO, Any

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from tied import tied
from topology import OUTSIDE_MAC, SERVER4, SERVER6, SERVER_MAC, Lab

from support.command import Command
from support.traffic import eventually
from xdpguard.net.netns import entered

ETHER = Ether(src=OUTSIDE_MAC, dst=SERVER_MAC)
WAIT = 60.0  # seconds


def tcp(source: str, flags: str = "A", dport: int = 80) -> bytes:
    """A segment to the server."""
    ip = IPv6(src=source, dst=SERVER6) if ":" in source else IP(src=source, dst=SERVER4)
    return bytes(ETHER / ip / TCP(sport=4000, dport=dport, flags=flags))


def udp(source: str, dport: int) -> bytes:
    """A datagram to the server."""
    return bytes(ETHER / IP(src=source, dst=SERVER4) / UDP(sport=4000, dport=dport))


def attach_lo(command: Command, lab: Lab) -> None:
    """Attaches the server's loopback as well."""
    subprocess.run(["ip", "-n", lab.server, "link", "set", "lo", "up"], check=True)
    command.ok("attach", "lo", "--netns", lab.server)


def send_on_lo(lab: Lab, frames: list[bytes]) -> None:
    """Sends frames from the server's loopback to itself."""
    with entered(lab.server):
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with sender:
        sender.bind(("lo", 0))
        for frame in frames:
            sender.send(frame)


class Following:
    """A command that goes on. Use as a context manager: it is ready within, and ends with it."""

    def __init__(self, command: Command, *arguments: str, file: Path | None = None) -> None:
        """``file``: what it writes, which begins when it is ready; else it says so."""
        self.lines: list[str] = []
        self.notes: list[str] = []
        self._file = file
        self._process = subprocess.Popen(
            tied(command.line(*arguments)),
            env=command.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._threads = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((self._process.stdout, self.lines), (self._process.stderr, self.notes))
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, stream: IO[str], into: list[str]) -> None:
        for line in stream:
            into.append(line.rstrip("\n"))

    def __enter__(self) -> Following:
        if not eventually(self._ready, WAIT):
            self.__exit__()
            raise AssertionError(self.notes)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()

    def _ready(self) -> bool:
        if self._file is not None:
            return self._file.exists() and self._file.stat().st_size > 0
        return any("drops" in line for line in self.notes)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def drops(self) -> list[Any]:
        """What it has shown with --json."""
        return [json.loads(line) for line in list(self.lines)]

    def shows(self, count: int) -> list[Any]:
        """The drops, once there are so many."""
        assert eventually(lambda: len(self.lines) >= count, WAIT), (self.lines, self.notes)
        return self.drops()

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        os.kill(self._process.pid, number)

    def ends(self, number: int = 0) -> int:
        """The exit code, once it has ended, after a signal if one is given."""
        if number:
            self.signal(number)
        code = self._process.wait(WAIT)
        for thread in self._threads:
            thread.join()
        assert not any("Traceback" in line for line in self.notes), self.notes
        return code

    def interrupted(self) -> str:
        """Ends it with Ctrl-C; what it says last."""
        assert self.ends(signal.SIGINT) == 0, self.notes
        return self.notes[-1]
