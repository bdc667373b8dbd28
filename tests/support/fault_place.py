# SPDX-License-Identifier: GPL-2.0
"""Where commands suffer faults: an instance attached in a namespace of its own, its state on a small file system."""

from __future__ import annotations

import contextlib
import os
import shlex
import sqlite3
import subprocess
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, Self

from support.command import Command
from support.policy_model import Probe
from support.verdicts import Asked
from xdpguard.dataplane.sys import kernel
from xdpguard.store.database import Store

INTERFACE = "flt0"
SPARE = "192.0.2.250"  # what is blocked to see that commands work again
BASE: tuple[tuple[tuple[str, ...], str | None], ...] = (
    (("block", "198.51.100.7", "--reason", "why"), None),
    (("block", "203.0.113.0/28", "--shadow"), None),
    (("block", "2001:db8:66::/64", "--for", "1d"), None),
    (("block", "--port", "99/udp"), None),
    (("allow", "2001:db8:66::7"), None),
    (("lists", "load", "base", "-"), "203.0.113.99\n198.51.100.128/26\n"),
    (("filter", "add", "first", "udp dport 5001", "--drop"), None),
)
PROBES = [
    Probe(source, port)
    for source in (
        *("198.51.100.7", "198.51.100.70", "198.51.100.140", "203.0.113.9", "203.0.113.99", "192.0.2.1"),
        *("2001:db8:66::7", "2001:db8:66::8"),
    )
    for port in (99, 5000, 5001, 5002)
]
_XDP_PASS = bytes.fromhex("b7000000020000009500000000000000")  # r0 = XDP_PASS; exit
_QUERIES = (
    "SELECT mode, kind, target, reason, expires IS NULL FROM rules ORDER BY 1, 2, 3",
    "SELECT mode, name, entries FROM lists ORDER BY 1, 2",
    "SELECT mode, name, four, six, ends FROM list_entries ORDER BY 1, 2",
    "SELECT mode, name, match, action FROM filters ORDER BY position",
    "SELECT key, value FROM facts WHERE key IN ('guard', 'default') ORDER BY key",
    "SELECT name, netns, observe FROM interfaces ORDER BY 1, 2",
)


class Seen(NamedTuple):
    """What is stored and what the kernel drops; None without a program."""

    stored: tuple[Any, ...]
    drops: tuple[bool, ...] | None

    def like(self, other: Seen, attached_again: bool) -> bool:
        """Whether it is the same; if the interface was attached again, what was recorded of it does not count."""
        if not attached_again:
            return self == other
        return self.stored[:-1] == other.stored[:-1]

    def unlike(self, other: Seen) -> str:
        """How it differs from what was to be."""
        both = zip(self.stored, other.stored, strict=True)
        said = [f"stored {now}, not {wanted}" for now, wanted in both if now != wanted]
        for probe, now, wanted in zip(PROBES, self.drops or (), other.drops or (), strict=False):
            said += [f"{probe.source}:{probe.port} dropped: {now}"] if now != wanted else []
        if (self.drops is None) != (other.drops is None):
            said.append(f"a program: {self.drops is not None}")
        return "; ".join(said)


class FaultPlace:
    """Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.netns = f"xgfault{os.getpid()}"
        self.command = Command(folder)
        self.asked = Asked(self.netns, INTERFACE)
        self.attach = ("attach", INTERFACE, "--netns", self.netns)
        self._foreign = Path("/sys/fs/bpf") / f"xgfault{os.getpid()}"
        self._held: list[sqlite3.Connection] = []

    def __enter__(self) -> Self:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(self.folder)], check=True)
        descriptor = kernel.load_xdp(_XDP_PASS, "somebodys")
        kernel.pin(str(self._foreign), descriptor)
        os.close(descriptor)
        self.link_back()
        return self

    def __exit__(self, *_: object) -> None:
        self.lift()
        self.command.clean()
        self._foreign.unlink(missing_ok=True)
        subprocess.run(["ip", "netns", "del", self.netns], check=False)
        subprocess.run(["umount", str(self.folder)], check=True)

    def base(self) -> Seen:
        """Make the instance anew, attached and with entries of each kind."""
        self.command.clean()
        for path in self.command.store.parent.glob("*"):
            path.unlink()
        self.command.ok(*self.attach, "--replace")
        for words, stdin in BASE:
            self.command.ok(*words, stdin=stdin)
        return self.seen()

    def seen(self) -> Seen:
        """What there is now."""
        with Store(self.command.store, read_only=True) as store:
            stored = tuple(tuple(store.execute(query)) for query in _QUERIES)
        return Seen(stored, self.drops())

    def drops(self) -> tuple[bool, ...] | None:
        """Which of the probes are dropped; None without a program of ours."""
        number = self.asked.program()
        if not number:
            return None
        descriptor = kernel.program_by_id(number)
        try:
            if kernel.program_info(descriptor).name == "somebodys":
                return None
        finally:
            os.close(descriptor)
        return tuple(self.asked.drops(it) for it in PROBES)

    def link_back(self) -> None:
        """Make namespace and interface, as far as they are not there."""
        if not Path("/run/netns", self.netns).exists():
            subprocess.run(["ip", "netns", "add", self.netns], check=True)
        if self.asked.exists():
            return
        inside = ["ip", "-n", self.netns, "link"]
        subprocess.run([*inside, "add", INTERFACE, "type", "veth", "peer", "name", "flt1"], check=True)
        for name in (INTERFACE, "flt1"):
            subprocess.run([*inside, "set", name, "up"], check=True)
        # Without it the program would be attached in generic mode, or could not answer.
        its = ["nsenter", f"--net=/run/netns/{self.netns}", "ip", "link", "set", "flt1", "xdpdrv", "pinned"]
        subprocess.run([*its, str(self._foreign)], check=True)

    def shell(self, fault: str) -> str:
        """The command that a fault is made by, within a command of xdpguard."""
        inside = f"nsenter --net=/run/netns/{self.netns} ip"
        return {
            "disk full": f"dd if=/dev/zero of={shlex.quote(str(self.folder / 'ballast'))} bs=4096 2>/dev/null || true",
            "interface gone": f"{inside} link del {INTERFACE}",
            "namespace gone": f"ip netns del {self.netns}",
            "program swapped": (
                f"{inside} link set {INTERFACE} xdpdrv off; {inside} link set {INTERFACE} xdpgeneric off;"
                f" {inside} link set {INTERFACE} xdpdrv pinned {self._foreign}"
            ),
            "pins deleted": f"rm -rf {shlex.quote(str(self.command.pins))}",
        }[fault]

    def begin(self, fault: str, random: Random) -> None:
        """Make a fault that is there before the command begins."""
        if fault == "read-only":
            subprocess.run(["mount", "-o", "remount,ro", str(self.folder)], check=True)
        elif fault == "store locked":
            self._held.append(sqlite3.connect(self.command.store, isolation_level=None))
            self._held[-1].execute("BEGIN EXCLUSIVE")
        elif fault == "store corrupted":
            data = bytearray(self.command.store.read_bytes())
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
            self.command.store.write_bytes(data)

    def damage(self, how: str) -> bytes:
        """Damage the store: zeroed, gone, or not at all if empty; return what is there then, which nobody may lose."""
        store = self.command.store
        if how == "gone":
            store.unlink()
        elif how == "zeroed":
            data = store.read_bytes()
            store.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
        return store.read_bytes() if how == "zeroed" else b""

    def lift(self) -> None:
        """Take away what a fault has left."""
        for database in self._held:
            database.close()
        self._held.clear()
        subprocess.run(["mount", "-o", "remount,rw", str(self.folder)], check=False, stderr=subprocess.DEVNULL)
        (self.folder / "ballast").unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self.link_back()
