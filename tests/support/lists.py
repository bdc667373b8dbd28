# SPDX-License-Identifier: GPL-2.0
"""What the tests of named lists share: who still gets an answer, big files, killing a command at a chosen step."""

from __future__ import annotations

import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from topology import CLIENTS4, CLIENTS6, INTERFACE, OUTSIDE4, OUTSIDE6, Lab

from support.command import Command, Result, on
from support.patience import patient
from support.traffic import PORT, Family, server_address
from xdpguard.control.ruleset import Ruleset
from xdpguard.dataplane.build.program import KernelDataplane
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables.lists import ListMaps
from xdpguard.net.netns import entered
from xdpguard.store.database import Store
from xdpguard.store.lists import ListStore, NamedList

EVERYBODY = frozenset(range(len(CLIENTS4)))
BIG = 500_000
_WAIT = patient(20.0)  # seconds for an answer that must come
_GRACE = 0.05  # seconds more for one that must not


def answered(lab: Lab, family: Family) -> frozenset[int]:
    """The clients, by number, whose datagram is echoed; each sends one.

    The last one is sent by an address that nobody lists: once it is back, so are those before it that passed.
    """
    clients, last = (CLIENTS4, OUTSIDE4) if family == 4 else (CLIENTS6, OUTSIDE6)
    found = set()
    sockets = []
    with selectors.DefaultSelector() as selector:
        try:
            with entered(lab.outside):
                for number, address in enumerate([*clients, last]):
                    made = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
                    sockets.append(made)
                    made.bind((address, 0))
                    selector.register(made, selectors.EVENT_READ, number)
            for made in sockets:
                made.sendto(b"hello", (server_address(family), PORT))
            end = time.monotonic() + _WAIT
            while (left := end - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    selector.unregister(key.fileobj)
                    found.add(key.data)
                    if key.data == len(clients):
                        end = time.monotonic() + _GRACE
        finally:
            for made in sockets:
                made.close()
    assert len(clients) in found, "positive control: whoever is in no list gets an answer"
    return frozenset(found - {len(clients)})


def without(*clients: int) -> frozenset[int]:
    """All clients but these."""
    return EVERYBODY - set(clients)


def received(lab: Lab) -> int:
    """UDP datagrams that reached the server's stack."""
    with entered(lab.server):
        text = Path("/proc/thread-self/net/snmp").read_text(encoding="ascii")
    names, values = (line.split() for line in text.splitlines() if line.startswith("Udp:"))
    row = dict(zip(names[1:], values[1:], strict=True))
    return int(row["InDatagrams"]) + int(row["NoPorts"]) + int(row["InErrors"])


def reasons(command: Command) -> Any:
    """The counters of the lab's interface by reason."""
    return on(command.json("stats"), INTERFACE)["reasons"]


def shown(command: Command, name: str) -> Any:
    """What `lists show` says of one list."""
    (found,) = command.json("lists", "show", name)
    return found


def write_big(path: Path, seed: int, *others: str, count: int = BIG) -> None:
    """Writes so many distinct addresses that no host has (240.0.0.0/4), and others in the middle of them."""
    numbers = np.unique(np.random.default_rng(seed).integers(0xF0000000, 0xFFFF0000, count + count // 50, np.uint32))
    texts = [f"{n >> 24}.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}" for n in numbers[: count - len(others)].tolist()]
    texts[count // 2 : count // 2] = others
    assert len(texts) == count
    path.write_text("\n".join(texts) + "\n")


def maps(command: Command) -> ListMaps:
    """The lists' maps in the kernel, behind the controller's back. Use as a context manager."""
    return ListMaps(Pins(Path("/sys/fs/bpf"), command.instance))


def killed(command: Command, folder: Path, step: str, *arguments: str, after: bool = False) -> None:
    """Runs a command that kills itself before, or after, it calls a method: "module:Class.method"."""
    module, _, name = step.partition(":")
    owner, method = name.split(".")
    script = folder / "killed.py"
    script.write_text(
        "import os, signal, sys\n"
        f"from {module} import {owner} as owner\n"
        f"real = owner.{method}\n"
        "def killed(*a, **k):\n"
        f"    {after} and real(*a, **k)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"owner.{method} = killed\n"
        "from xdpguard.cli.app import run\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        env=command.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=patient(60),
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, (step, done)


def looked(command: Command) -> dict[str, tuple[NamedList, int | None]]:
    """What `lists show` says, without a process: by name, the list with all its hits, and what the kernel holds."""
    with Store(command.store, read_only=True) as store:
        book = Ruleset(store, KernelDataplane(Pins(Path("/sys/fs/bpf"), command.instance))).lists
        shares = book.shares()
        return {
            it.its.name: (
                it.its._replace(packets=it.packets, bytes=it.bytes),
                shares[it.its.name].held if shares else None,
            )
            for it in book.in_force()
        }


def hits(command: Command, name: str) -> int:
    """Packets that a list has caught."""
    return looked(command)[name][0].packets


def clear(command: Command, *keep: str) -> None:
    """Takes away every list and rule that a test has made, and what a command that it killed has left."""
    for verb in ("block", "unblock"):
        command.ok(verb, "203.0.113.250")
    with Store(command.store, read_only=True) as store:
        names = [it.name for it in ListStore(store).all() if it.name not in keep]
        rules = store.rules()
    done: list[Result] = [command("lists", "remove", *names)] if names else []
    for kind, undo in (("block", ["unblock"]), ("allow", ["disallow", "--force"])):
        targets = [str(rule.target) for rule in rules if rule.kind == kind]
        if targets:
            done.append(command(*undo, *targets))
    assert not [result for result in done if result.code], done
