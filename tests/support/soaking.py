# SPDX-License-Identifier: GPL-2.0
"""Hours in minutes: floods, reloads, list swaps, ends of rules, kills and restarts; and what must not grow or drift."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import NamedTuple

from topology import INTERFACE, SERVER4, Lab

from support.command import Command, on
from support.patience import patient
from support.service import Run
from support.traffic import PORT, Echo, client_address, eventually, start_flood, works
from xdpguard.dataplane.sys import kernel
from xdpguard.net.netns import entered

BLOCKED = 5  # the client whose packets are dropped and counted
_LEAKING = Path(__file__).with_name("leaking")
_MEMORY = 12 << 20  # bytes that a process may grow by once it has seen everything
_FEW = 4  # descriptors that come and go with what it just does
_KERNEL = 1 << 20  # bytes of maps, which lists of other sizes make differ


class Size(NamedTuple):
    """What a service has: bytes of its own memory, descriptors, threads; bytes and number of the instance's maps."""

    memory: int
    descriptors: int
    threads: int
    maps: int
    pins: int


def size_of(process: int, pins: Path) -> Size:
    """Measure a service and the maps that its instance has pinned."""
    proc = Path("/proc", str(process))
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    files = [it for it in pins.rglob("*") if it.is_file()]
    return Size(
        int(status["RssAnon"].split()[0]) << 10,
        len(list((proc / "fd").iterdir())),
        int(status["Threads"]),
        sum(map(_locked, files)),
        len(files),
    )


def _locked(pin: Path) -> int:
    """The bytes of kernel memory of a pinned map, as the kernel counts them."""
    descriptor = kernel.open_pin(str(pin))
    try:
        lines = Path("/proc/self/fdinfo", str(descriptor)).read_text().splitlines()
    finally:
        os.close(descriptor)
    return next((int(it.split()[1]) for it in lines if it.startswith("memlock")), 0)


def grown(first: Size, last: Size) -> list[str]:
    """What has grown."""
    limits = Size(_MEMORY, _FEW, 1, _KERNEL, 0)
    names = Size._fields
    both = zip(names, first, last, limits, strict=True)
    return [f"{name} grew from {old:,} to {new:,}" for name, old, new, most in both if new > old + most]


class Soak:
    """Runs cycles. ``leak``: the service leaks, which must be found."""

    def __init__(self, command: Command, lab: Lab, seed: int, leak: bool = False) -> None:
        self._command, self._lab, self._random = command, lab, Random(seed)
        self.findings: list[str] = []
        self.tally: Counter[str] = Counter()
        self.sizes: list[Size] = []
        self._sent = 0
        self._path = os.pathsep.join([*([str(_LEAKING)] if leak else []), os.environ.get("PYTHONPATH", "")])
        config = command.state / "soak.toml"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text('[metrics]\nlisten = ""\n')
        self._config = ("--config", str(config))

    def run(self, seconds: float, cycles: int = 8) -> None:
        """Go on for so long, with a service that is killed and started again after so many cycles."""
        end = time.monotonic() + seconds
        self._command.ok("attach", INTERFACE, "--netns", self._lab.server, *self._config)
        self._command.ok("block", client_address(4, BLOCKED))
        over = threading.Event()
        client = threading.Thread(target=self._connect, args=(over,))
        with Echo(self._lab):
            client.start()
            try:
                while time.monotonic() < end and not self.findings:
                    self._service(end, cycles)
            finally:
                over.set()
                client.join()
            self._counters()

    def _service(self, end: float, cycles: int) -> None:
        """One service, from its start to its death."""
        run = Run(self._command, *self._config, PYTHONPATH=self._path)
        try:
            if not run.says("watching"):
                self.findings.append(f"run does not watch: {run.lines}")
                return
            sizes = []
            for cycle in range(cycles):
                self._cycle(run)
                if cycle:  # by then it has loaded all that it needs
                    sizes.append(size_of(run.pid, self._command.pins))
                if time.monotonic() > end and len(sizes) > 1:
                    break
            self.sizes += sizes
            self.findings += grown(sizes[0], sizes[-1])
        finally:
            how = self._random.choice((signal.SIGKILL, signal.SIGTERM))
            self.tally[f"ended by {how.name}"] += 1
            run.end(how)
        began = time.monotonic()
        self._command.ok("block", "192.0.2.250", "--for", "1s")
        if (took := time.monotonic() - began) > patient(20):
            self.findings.append(f"a command waited {took:.0f} s after the service had died")

    def _cycle(self, run: Run) -> None:
        """A flood, and everything else meanwhile."""
        if run.process.poll() is not None:
            self.findings.append(f"run has ended: {run.lines[-5:]}")
            return
        rate, kind = str(self._random.choice((5_000, 20_000))), self._random.choice(("syn", "udp"))
        flood = start_flood(self._lab, kind, "--port", str(PORT), "--rate", rate, "--seconds", "3")
        try:
            after = len(run.lines)
            run.signal(signal.SIGHUP)
            if not run.says("configuration reloaded", after=after):
                self.findings.append(f"no reload: {run.lines[after:]}")
            self._change()
            self._blocked_packets()
        finally:
            out, _ = flood.communicate(timeout=patient(60))
        self.tally["packets"] += int(out.split('"packets": ')[1].split(",")[0])
        self.tally["cycles"] += 1

    def _change(self) -> None:
        number = self._random.randrange(200)
        for words, stdin in (
            (("block", f"198.51.100.{number}", "--for", "2s"), None),
            (("lists", "load", "soak", "-", "--force"), "".join(f"203.0.{number}.{it}\n" for it in range(1, 250))),
            (("filter", "add", "soak", f"udp dport {5000 + number}", "--drop", "--replace"), None),
        ):
            done = self._command(*words, stdin=stdin)
            if done.code:
                self.findings.append(f"{words}: {done}")
            self.tally["changes"] += 1

    def _blocked_packets(self) -> None:
        """Packets of the blocked client, each of which counts once."""
        with entered(self._lab.outside):
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sender:
            sender.bind((client_address(4, BLOCKED), 0))
            for _ in range(200):
                sender.sendto(b"soak", (SERVER4, PORT))
        self._sent += 200

    def _connect(self, over: threading.Event) -> None:
        """A client that goes on connecting; each connection must be served."""
        while not over.is_set():
            if works(self._lab, 4, "tcp", wait=patient(5)):
                self.tally["connections"] += 1
            else:
                self.findings.append("a connection was not served")
                return
            over.wait(0.02)

    def _counters(self) -> None:
        """What the program counts, what the rule counts and what was sent are the same number."""

        def told() -> tuple[int, int]:
            rules = self._command.json("rules")
            (hits,) = (it["packets"] for it in rules if it["target"] == client_address(4, BLOCKED))
            return on(self._command.json("stats"), INTERFACE)["reasons"]["deny"]["packets"], hits

        if not eventually(lambda: told() == (self._sent, self._sent), 5):
            self.findings.append(f"{self._sent} packets were sent; counted, and hits of the rule: {told()}")
