# SPDX-License-Identifier: GPL-2.0
"""Packets/s that one core drops: live frames of one source, sent by the other core as fast as it can.

What did not fit in the receiver's ring never arrived: a rate counts what arrived, and is reported only if almost none
of it got through to the server.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

from xdpguard.bench import tools
from xdpguard.bench.ends import XDP_PASS
from xdpguard.bench.flood import Flood, Sender
from xdpguard.bench.maker import drop_at_once
from xdpguard.bench.packets import FAMILIES, SOURCES, Addresses, Family, texts
from xdpguard.bench.process import settled_kernel_memory
from xdpguard.bench.results import Rate, Results
from xdpguard.bench.wire import SERVER4, Lab
from xdpguard.bench.workspace import Commands, Workspace
from xdpguard.dataplane.sys import kernel
from xdpguard.errors import XdpguardError
from xdpguard.net.links import Links
from xdpguard.net.netns import entered

_ROUNDS, _SECONDS = 3, 1.0
_QUICK_ROUNDS, _QUICK_SECONDS = 1, 0.3
_STRAYS = 0.001  # fraction of packets that may get through: those sent before a rule is in force everywhere


class _Defence(NamedTuple):
    """What drops, the number of addresses in its set, and whether the sender is a listed or a blocked source."""

    name: str
    entries: int
    listed: bool
    up: AbstractContextManager[None]


def measure(workspace: Workspace, addresses: Addresses, entries: int, results: Results) -> None:
    """Add the rates to the results."""
    rounds, seconds = (_QUICK_ROUNDS, _QUICK_SECONDS) if results.quick else (_ROUNDS, _SECONDS)
    lab = workspace.lab
    addresses.write(workspace.folder / "listed", entries)
    addresses.write(workspace.folder / "listed4", entries, (4,))
    listed = texts(4, addresses.sources("listed", 4, entries))[0]
    blocked = next(addresses.blocked())

    def sender(source: str) -> Sender:
        return Sender(Flood("syn", source, SERVER4, seconds=seconds), lab.outside, lab.interface)

    with sender(listed) as from_listed, sender(blocked) as from_blocked:
        for defence in _defences(workspace, addresses, entries, blocked):
            workspace.say(f"rates: {defence.name}")
            try:
                with defence.up:
                    settled_kernel_memory()  # freeing a large set keeps a core busy
                    found = [dropped(lab, from_listed if defence.listed else from_blocked) for _ in range(rounds)]
            except tools.Unavailable as error:
                results.skipped[defence.name] = str(error)
                continue
            results.rates.append(Rate(defence.name, defence.entries, statistics.median(found)))


def dropped(lab: Lab, sender: Sender) -> float:
    """Return the packets/s that the receiver took. Raise XdpguardError if they were not dropped."""
    usable = os.sched_getaffinity(0)
    core = lab.split_cores()
    before = _delivered(lab)
    os.sched_setaffinity(0, {core})
    try:
        sent = sender.send()
    finally:
        os.sched_setaffinity(0, usable)
    taken, through = sent.packets - sent.lost, _delivered(lab) - before
    if through > taken * _STRAYS:
        raise XdpguardError(
            f"{through:,} of {taken:,} packets that should have been dropped got through",
            "this is a bug in the bench or in the tool that should drop them; please report it",
        )
    return taken / sent.seconds


def _delivered(lab: Lab) -> int:
    """Return the packets that the server's network stack accepted."""
    with entered(lab.server):
        lines = Path("/proc/thread-self/net/snmp").read_text(encoding="ascii").splitlines()
    names, values = (line.split() for line in lines[:2])
    return int(values[names.index("InDelivers")])


def _defences(workspace: Workspace, addresses: Addresses, entries: int, blocked: str) -> Iterator[_Defence]:
    lab = workspace.lab
    commands = workspace.instance("rates")
    yield _Defence("XDP_DROP at once", 0, True, _attached(lab, drop_at_once()))
    yield _Defence("xdpguard, list", entries, True, _listed(workspace, commands))
    yield _Defence("xdpguard, blocked by hand", entries, False, _blocked(commands, blocked))
    denied = {family: addresses.sources("listed", family, SOURCES) for family in FAMILIES}
    yield _Defence("xdp-filter", SOURCES, True, _xdp_filter(lab, denied))
    for name, (family, hook) in {"ingress": tools.nft_ingress(lab), "raw prerouting": tools.nft_raw()}.items():
        yield _Defence(f"nftables set, {name}", entries, True, _nft(workspace, family, hook))
    yield _Defence("ipset, raw prerouting", entries, True, _ipset(workspace, entries))


@contextmanager
def _attached(lab: Lab, program: int) -> Iterator[None]:
    """Attach a program to the server's interface; takes ownership of its descriptor."""
    links = Links()
    try:
        links.attach(links.get(lab.interface, lab.server), program, "native", None)
    finally:
        os.close(program)
    try:
        yield
    finally:
        tools.detach(lab)


def passing(lab: Lab) -> AbstractContextManager[None]:
    """Attach a program that passes everything to the server's interface."""
    # Frames sent by XDP arrive only at a veth that has a program itself; this also gives all the same receive path.
    return _attached(lab, kernel.load_xdp(XDP_PASS, "bench_pass"))


@contextmanager
def _listed(workspace: Workspace, commands: Commands) -> Iterator[None]:
    """Attach with the list; stays attached for the measurement of a hand-made block."""
    commands.attach(workspace.lab.interface)
    commands.fill(workspace.folder / "listed")
    yield


@contextmanager
def _blocked(commands: Commands, address: str) -> Iterator[None]:
    commands("block", address, "--force")
    try:
        yield
    finally:
        commands("detach", "--all")


@contextmanager
def _xdp_filter(lab: Lab, denied: dict[Family, bytes]) -> Iterator[None]:
    with tools.xdp_filter(lab, denied):
        yield


@contextmanager
def _nft(workspace: Workspace, family: str, hook: str) -> Iterator[None]:
    tools.need("nft")
    lab, path = workspace.lab, workspace.folder / "nft"
    tools.nft_file(path, workspace.folder / "listed4", family, hook)
    with passing(lab):
        tools.run(lab, ["nft", "-f", str(path)])
        try:
            yield
        finally:
            tools.run(lab, ["nft", "delete", "table", family, tools.SET])


@contextmanager
def _ipset(workspace: Workspace, entries: int) -> Iterator[None]:
    for tool in ("ipset", "iptables"):
        tools.need(tool)
    lab, path = workspace.lab, workspace.folder / "ipset"
    tools.ipset_file(path, workspace.folder / "listed4", entries)
    with passing(lab):
        tools.run(lab, ["ipset", "restore", "-file", str(path)])
        try:
            tools.iptables(lab, "-A")
            try:
                yield
            finally:
                tools.iptables(lab, "-D")
        finally:
            tools.run(lab, ["ipset", "destroy", tools.SET])
