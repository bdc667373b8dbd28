# SPDX-License-Identifier: GPL-2.0
"""Time and memory that whole processes take to load a list of random IPv4 addresses."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from xdpguard.bench import tools
from xdpguard.bench.packets import Addresses, texts
from xdpguard.bench.process import Spent, kernel_memory, settled_kernel_memory, spend
from xdpguard.bench.results import Load, Results
from xdpguard.bench.workspace import Workspace
from xdpguard.errors import XdpguardError

_ROUNDS = 3
_CHANGED = 100  # one in this many entries is replaced in the reloaded list


def measure(workspace: Workspace, addresses: Addresses, entries: int, results: Results) -> None:
    """Add the loading times to the results."""
    rounds = 1 if results.quick else _ROUNDS
    listed = workspace.folder / "listed4"
    addresses.write(listed, entries, (4,))
    results.loading += _ours(workspace, addresses, entries, rounds)
    for tool, load in {"ipset": _ipset, "nft": _nft}.items():
        workspace.say(f"loading: {tool}")
        try:
            tools.need(tool)
            results.loading += load(workspace, entries, rounds)
        except tools.Unavailable as error:
            results.skipped[tool] = str(error)


def changed(entries: int) -> int:
    """Return how many entries of a list are replaced for the reload."""
    return max(1, entries // _CHANGED)


def _ours(workspace: Workspace, addresses: Addresses, entries: int, rounds: int) -> Iterator[Load]:
    folder = workspace.folder
    changed_list = folder / "changed"
    addresses.write(changed_list, entries, (4,), skip=changed(entries))
    commands = workspace.instance("loading")
    commands.attach(workspace.lab.interface)
    workspace.say("loading: xdpguard")
    before = settled_kernel_memory()
    spent = [commands.fill(folder / "listed4")]
    kernel = kernel_memory() - before
    again = []
    for _ in range(rounds - 1):
        again.append(commands.fill(changed_list))
        commands.empty()
        spent.append(commands.fill(folder / "listed4"))
    again.append(commands.fill(changed_list))
    yield from _loads("xdpguard", entries, spent, kernel)
    yield Load("xdpguard", "reload, 1 % changed", entries, _seconds(again), "s")
    one = texts(4, addresses.sources("clean", 4, 0))[0]
    block, unblock = [], []
    for _ in range(rounds):
        block.append(commands("block", one, "--force"))
        unblock.append(commands("unblock", one))
    yield Load("xdpguard", "block", entries, _seconds(block), "s")
    yield Load("xdpguard", "unblock", entries, _seconds(unblock), "s")


def _ipset(workspace: Workspace, entries: int, rounds: int) -> Iterator[Load]:
    path = workspace.folder / "ipset"
    tools.ipset_file(path, workspace.folder / "listed4", entries)
    yield from _theirs(
        workspace, "ipset", entries, rounds, ["ipset", "restore", "-file", str(path)], ["ipset", "destroy", tools.SET]
    )


def _nft(workspace: Workspace, entries: int, rounds: int) -> Iterator[Load]:
    path = workspace.folder / "nft"
    family, hook = tools.nft_raw()
    tools.nft_file(path, workspace.folder / "listed4", family, hook)
    remove = ["nft", "delete", "table", family, tools.SET]
    yield from _theirs(workspace, "nft", entries, rounds, ["nft", "-f", str(path)], remove)


def _theirs(
    workspace: Workspace, tool: str, entries: int, rounds: int, load: Sequence[str], remove: Sequence[str]
) -> Iterator[Load]:
    lab = workspace.lab
    line = ["ip", "netns", "exec", lab.server, *load]
    before = settled_kernel_memory()
    try:
        spent = [spend(line)]
    except XdpguardError as error:
        raise tools.Unavailable(str(error)) from error
    kernel = kernel_memory() - before
    for _ in range(rounds - 1):
        tools.run(lab, remove)
        spent.append(spend(line))
    yield from _loads(tool, entries, spent, kernel)


def _loads(tool: str, entries: int, spent: Sequence[Spent], kernel: int) -> Iterator[Load]:
    yield Load(tool, "load", entries, _seconds(spent), "s")
    yield Load(tool, "peak memory", entries, statistics.median(process.peak for process in spent), "bytes")
    yield Load(tool, "kernel memory", entries, max(0, kernel), "bytes")


def _seconds(spent: Sequence[Spent]) -> float:
    return statistics.median(process.seconds for process in spent)
