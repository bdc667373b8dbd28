# SPDX-License-Identifier: GPL-2.0
"""Two namespaces on one link, for topologies that the lab has not: a host whose `eth0` is guarded, and the outside."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support.command import Command, on
from support.patience import patient
from support.service import Service
from xdpguard.closeable import opened
from xdpguard.dataplane.sys import kernel
from xdpguard.net.links import Links
from xdpguard.net.netns import entered

INTERFACE = "eth0"
PORT = 8000
NETWORK = "10.77.1"  # of 24 bits; the host is .1, the outside .2
HOST4, OUTSIDE4 = f"{NETWORK}.1", f"{NETWORK}.2"
HOST_MAC, OUTSIDE_MAC = "02:00:00:77:00:01", "02:00:00:77:00:02"
XDP_PASS = bytes.fromhex("b7000000020000009500000000000000")


class Namespaces(ABC):
    """Namespaces that are removed at the end. Use as a context manager; `_make` makes the first ones, with `more`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._made: list[str] = []

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def run(self, netns: str, line: str, data: str | None = None) -> str:
        """Runs a command in a namespace; returns what it printed."""
        words = ["ip", "netns", "exec", netns, *line.split()]
        done = subprocess.run(words, input=data, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (line, done.stderr)
        return done.stdout

    def more(self, suffix: str) -> str:
        """One more namespace."""
        netns = f"{self.name}-{suffix}"
        subprocess.run(["ip", "netns", "add", netns], check=True)
        self._made.append(netns)
        self.run(netns, "ip link set lo up")
        return netns

    @abstractmethod
    def _make(self) -> None: ...

    def _remove(self) -> None:
        for netns in reversed(self._made):
            subprocess.run(["ip", "netns", "del", netns], check=False, capture_output=True)


class Field(Namespaces):
    """A host and the outside."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.host, self.outside = f"{name}-h", f"{name}-o"

    def link(self, name: str = INTERFACE, netns: str = "") -> Any:
        """A link of the host, or of another namespace."""
        return Links().get(name, netns or self.host)

    def connects(self, address: str = HOST4, port: int = PORT) -> bool:
        """Whether a client outside gets back what it sends."""
        return echoed(self.outside, address, port)

    def serving(
        self, netns: str = "", port: int = PORT, device: str = ""
    ) -> contextlib.AbstractContextManager[socket.socket]:
        """As `served`, on the host or in another namespace."""
        return served(netns or self.host, port, device)

    def send(self, frame: bytes, times: int = 1) -> None:
        """Sends a frame from outside."""
        with entered(self.outside), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind((INTERFACE, 0))
            for _ in range(times):
                raw.send(frame)

    def _make(self) -> None:
        for suffix in ("h", "o"):
            self.more(suffix)
        self.run(
            self.host,
            f"ip link add {INTERFACE} address {HOST_MAC} type veth"
            f" peer name {INTERFACE} address {OUTSIDE_MAC} netns {self.outside}",
        )
        self.run(self.host, f"ip address add {HOST4}/24 dev {INTERFACE}")
        self.run(self.outside, f"ip address add {OUTSIDE4}/24 dev {INTERFACE}")
        for netns in (self.host, self.outside):
            self.run(netns, f"ip link set {INTERFACE} up")
        self.run(
            self.host, "sysctl -qw net.ipv4.tcp_syncookies=2 net.ipv4.tcp_timestamps=2 net.ipv4.conf.all.arp_ignore=1"
        )
        put_pass(INTERFACE, self.outside)


def put_pass(interface: str, netns: str) -> None:
    """A program on an interface: a veth sends what XDP answers only to a peer that has one."""
    program = kernel.load_xdp(XDP_PASS, "outside")
    try:
        Links().attach(Links().get(interface, netns), program, "native", None)
    finally:
        os.close(program)


def echoed(netns: str, address: str, port: int = PORT) -> bool:
    """Whether a client in a namespace gets back what it sends."""
    with entered(netns):
        client = socket.socket()
    with client:
        client.settimeout(1.5)
        try:
            client.connect((address, port))
            client.sendall(b"hello")
            return client.recv(16) == b"hello"
        except OSError:
            return False


@contextlib.contextmanager
def served(netns: str, port: int = PORT, device: str = "") -> Iterator[socket.socket]:
    """A listener that sends back what it gets, on every address; ``device``: bound to that."""
    with entered(netns):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if device:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        listener.bind(("", port))
        listener.listen(64)
    thread = threading.Thread(target=_serve, args=(listener,), daemon=True)
    thread.start()
    try:
        yield listener
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@contextlib.contextmanager
def watching(command: Command) -> Iterator[Service]:
    """The service, which has begun to watch."""
    with Service(command) as service:
        assert service.says("watching"), service.lines
        yield service


def _serve(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_echo, args=(connection,), daemon=True).start()


def _echo(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        connection.settimeout(patient(20))
        while data := connection.recv(1 << 16):
            connection.sendall(data)


def reasons(command: Command, interface: str = INTERFACE) -> dict[str, int]:
    """Packets by reason."""
    found = on(command.json("stats"), interface)["reasons"]
    return {name: row["packets"] for name, row in found.items()}


def shown(command: Command, interface: str = INTERFACE) -> Any:
    """What guard show tells of the interface."""
    return on(command.json("guard", "show"), interface)


def macs(command: Command, netns: str) -> set[str]:
    """The further addresses in the guard's map."""
    from xdpguard.dataplane.sys import abi
    from xdpguard.dataplane.sys.pins import Pins

    pins = Pins(Path("/sys/fs/bpf"), command.instance)
    with opened(pins.open_link("macs", INTERFACE, netns, 4, abi.MAC.size)) as descriptor:
        keys, _, count = kernel.entries(descriptor, abi.MAC.size, 4)
    return {keys[at * 8 : at * 8 + 6].hex(":") for at in range(count)}
