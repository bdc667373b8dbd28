# SPDX-License-Identifier: GPL-2.0
"""`xdpguard tcp` while something happens, and the things that happen."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from topology import INTERFACE, OUTSIDE4, OUTSIDE6, OUTSIDE_MAC, SERVER4, SERVER6, SERVER_MAC, Lab

from support.command import Command
from support.patience import patient
from support.traffic import Family, eventually
from xdpguard.bench.ends import insn
from xdpguard.dataplane.sys import kernel
from xdpguard.net.links import Links
from xdpguard.net.netns import entered

_READY = 60.0  # seconds until a command has its programs in place, at most


class Running:
    """A `tcp` command that goes on until it is stopped. Its output goes to a file, so that it never waits for us."""

    def __init__(self, command: Command, folder: Path, *arguments: str) -> None:
        self._out = folder / f"out-{len(list(folder.iterdir()))}"
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(
                command.line("tcp", *arguments),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.PIPE,
                env=command.environment,
            )
        assert self.process.stderr is not None
        self.first = self._line()
        assert "note: " in self.first, self.first + self.process.stderr.read().decode()

    def _line(self) -> str:
        assert self.process.stderr is not None
        ready, _, _ = select.select([self.process.stderr], [], [], patient(_READY))
        assert ready, "the command did not say that it is ready"
        return self.process.stderr.readline().decode()

    def lines(self) -> list[str]:
        """What it has printed so far."""
        return self._out.read_text(encoding="utf-8").splitlines()

    def objects(self) -> list[Any]:
        """Likewise, as JSON; a line that is not whole yet is left out."""
        text = self._out.read_text(encoding="utf-8")
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def stop(self, number: int = signal.SIGINT) -> list[str]:
        """Ends it; returns all that it has printed. Its exit code must be 0, and what it said no traceback."""
        self.process.send_signal(number)
        assert self.process.stderr is not None
        errors = self.process.stderr.read().decode()
        code = self.process.wait(patient(60))
        assert code == 0, (code, errors)
        assert "Traceback" not in errors, errors
        self.notes = errors
        return self.lines()

    def close(self) -> None:
        """Ends it, however it stands."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(patient(60))
        if self.process.stderr:
            self.process.stderr.close()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def rows(lines: list[str]) -> list[dict[str, str]]:
    """Lines of CSV by the names in the first."""
    return list(csv.DictReader(io.StringIO("\n".join(lines))))


def listener(lab: Lab, family: Family = 4, port: int = 0, backlog: int = 64) -> socket.socket:
    """A listener in the server's namespace; on a port of its own."""
    with entered(lab.server):
        made = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((SERVER4 if family == 4 else SERVER6, port))
    made.listen(backlog)
    return made


def connected(lab: Lab, to: socket.socket) -> tuple[socket.socket, socket.socket]:
    """A connection from outside to a listener: the client's end and the server's."""
    with entered(lab.outside):
        client = socket.socket(to.family)
    client.settimeout(patient(30))
    client.bind((OUTSIDE4 if to.family == socket.AF_INET else OUTSIDE6, 0))
    client.connect(to.getsockname())
    to.settimeout(patient(30))
    server, _ = to.accept()
    server.settimeout(patient(30))
    return client, server


@contextmanager
def serving(to: socket.socket, answer: int) -> Iterator[None]:
    """Answers each connection's requests with so many bytes, until the other end closes."""

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while connection.recv(65_536):
                connection.sendall(bytes(answer))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = to.accept()
                connection.settimeout(patient(60))
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    to.settimeout(None)
    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield
    finally:
        to.shutdown(socket.SHUT_RDWR)
        thread.join(patient(30))


def ask(client: socket.socket, question: bytes, answer: int) -> None:
    """Sends a question, reads the whole answer."""
    client.sendall(question)
    while answer > 0:
        got = client.recv(65_536)
        assert got, "the connection ended early"
        answer -= len(got)


@contextmanager
def asking(lab: Lab, address: tuple[Any, ...], times: int, answer: int = 10) -> Iterator[socket.socket]:
    """A client outside that has asked so often, and still has its connection."""
    with entered(lab.outside):
        client = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    with client:
        client.settimeout(patient(60))
        client.connect(address[:2])
        for _ in range(times):
            ask(client, b"?", answer)
        yield client


@contextmanager
def losing(lab: Lab, one_in: int) -> Iterator[None]:
    """The server's end drops one frame in so many, at random."""
    program = b"".join(
        (
            insn(0x85, 0, 0, 7),  # r0 = bpf_get_prandom_u32()
            insn(0x94, 0, 0, one_in),  # r0 %= N
            insn(0x15, 0, 2, 0),  # if it is 0: to drop
            insn(0xB7, 0, 0, 2),  # r0 = XDP_PASS
            insn(0x95),  # exit
            insn(0xB7, 0, 0, 1),  # r0 = XDP_DROP
            insn(0x95),  # exit
        )
    )
    links = Links()
    link = links.get(INTERFACE, lab.server)
    descriptor = kernel.load_xdp(program, "lab_loss")
    try:
        links.attach(link, descriptor, "native", None)
        try:
            yield
        finally:
            links.detach(link, "native", descriptor)
    finally:
        os.close(descriptor)


def half_open(lab: Lab, port: int, number: int) -> None:
    """So many SYNs from addresses that answer nothing; again, if floods of other tests have pushed some out."""
    frames = [
        bytes(
            Ether(src=OUTSIDE_MAC, dst=SERVER_MAC)
            / IP(src=f"16.2.0.{place + 1}", dst=SERVER4)
            / TCP(sport=4000, dport=port, flags="S", options=[("MSS", 1460)])
        )
        for place in range(number)
    ]
    waiting = ["ss", "-tnH", "state", "syn-recv", "sport", "=", f":{port}"]
    with entered(lab.outside):
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with sender:
        sender.bind((INTERFACE, 0))
        for _ in range(5):
            for frame in frames:
                sender.send(frame)
            if eventually(lambda: len(lab.run(lab.server, waiting).stdout.splitlines()) == number, 2):
                return
    raise AssertionError(f"port {port} does not hold {number} half-open connections")


def kernel_counts(lab: Lab, *namespaces: str) -> Counter[str]:
    """What the kernel has counted in these namespaces: `nstat`, with its names."""
    found: Counter[str] = Counter()
    for namespace in namespaces:
        for line in lab.run(namespace, ["nstat", "-asz"]).stdout.splitlines():
            words = line.split()
            if len(words) > 1 and words[1].isdigit():
                found[words[0]] += int(words[1])
    return found


_SS_NAMES = {
    "ESTAB": "ESTABLISHED",
    "SYN-SENT": "SYN_SENT",
    "SYN-RECV": "SYN_RECV",
    "FIN-WAIT-1": "FIN_WAIT1",
    "FIN-WAIT-2": "FIN_WAIT2",
    "TIME-WAIT": "TIME_WAIT",
    "CLOSE-WAIT": "CLOSE_WAIT",
    "LAST-ACK": "LAST_ACK",
    "LISTEN": "LISTEN",
    "CLOSING": "CLOSING",
}


def ss(lab: Lab, namespace: str) -> Counter[str]:
    """Sockets by state, as `ss -tan` has them."""
    lines = lab.run(namespace, ["ss", "-tanH"]).stdout.splitlines()
    return Counter(_SS_NAMES[line.split()[0]] for line in lines if not line.startswith("UNCONN"))


def states(document: Any, namespace: str) -> Counter[str]:
    """Sockets by state, of a document of `tcp states --json`."""
    (found,) = [it for it in document["namespaces"] if it["netns"] == namespace]
    return Counter({state: number for state, number in found["states"].items() if number})


def python(lab: Lab, namespace: str, program: str, *arguments: object) -> subprocess.Popen[str]:
    """Starts a Python program in a namespace, with pipes."""
    line = [sys.executable, "-c", program, *map(str, arguments)]
    return lab.start(namespace, line, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def programs_of(pid: int) -> set[int]:
    """Ids of the BPF programs that a process holds."""
    found = set()
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed just now
            for line in path.read_text().splitlines():
                if line.startswith("prog_id:"):
                    found.add(int(line.split()[1]))
    return found


def loaded() -> set[int]:
    """Ids of all BPF programs in the kernel."""
    found, number = set(), 0
    while (following := kernel.next_program(number)) is not None:
        found.add(following)
        number = following
    return found


def with_addresses(lines: Iterable[str]) -> list[str]:
    """The lines that have an address of the kernel's memory, with page tables of four levels or five."""
    return [line for line in lines if re.search(r"0xff[0-9a-f]{14}", line)]
