# SPDX-License-Identifier: GPL-2.0
"""The cost of attaching and blocking, as whole processes. For packets, drop rates and lists: `xdpguard bench`."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from topology import INTERFACE, Lab

_ROUNDS = 5
_MANY = 100_000


class Limit(NamedTuple):
    """A figure, its upper bound, and its unit."""

    name: str
    value: float
    bound: float
    unit: str

    @property
    def held(self) -> bool:
        """Whether the figure is within its bound."""
        return self.value <= self.bound


class Guard:
    """xdpguard commands with an instance of their own."""

    def __init__(self, state: Path) -> None:
        self._compiled = state / "compiled"
        self._environment = os.environ | {
            "XDPGUARD_STATE_DIR": str(state),
            "XDPGUARD_INSTANCE": "costs",
            "XDPGUARD_CACHE_DIR": str(self._compiled),
        }

    def forget_compiled(self) -> None:
        """Make the next attach compile."""
        shutil.rmtree(self._compiled, ignore_errors=True)

    def __call__(self, *arguments: str, stdin: str | None = None) -> float:
        """Run a command; return its total time in seconds."""
        begin = time.perf_counter()
        subprocess.run(
            [str(Path(sys.executable).parent / "xdpguard"), *arguments],
            env=self._environment,
            input=stdin,
            stdout=subprocess.DEVNULL,
            text=True,
            check=True,
        )
        return time.perf_counter() - begin


def commands(guard: Guard, lab: Lab) -> list[Limit]:
    """Measure the whole-process times of attach, block, and a hundred thousand blocks."""
    attach, again, block = [], [], []
    for number in range(_ROUNDS):
        guard.forget_compiled()
        attach.append(guard("attach", INTERFACE, "--netns", lab.server))
        block.append(guard("block", f"192.0.2.{number + 50}"))
        guard("detach", "--all")
        again.append(guard("attach", INTERFACE, "--netns", lab.server))
        guard("detach", "--all")
    guard("attach", INTERFACE, "--netns", lab.server)
    source = random.Random(1)
    addresses = {f"{source.randrange(1, 200)}.{source.randrange(256)}.{source.randrange(256)}.9" for _ in range(_MANY)}
    while len(addresses) < _MANY:
        addresses.add(f"{source.randrange(1, 200)}.{source.randrange(256)}.{source.randrange(256)}.8")
    text = "\n".join(sorted(addresses))
    bulk = guard("block", "-", "--force", stdin=text)
    guard("unblock", "-", stdin=text)
    return [
        Limit("attach, cold, compile included", statistics.median(attach), 1.5, "s"),
        Limit("attach what was compiled before", statistics.median(again), 1.5, "s"),
        Limit("block ADDRESS, whole process", statistics.median(block), 0.25, "s"),
        Limit(f"block -, {_MANY:,} addresses", bulk, 5.0, "s"),
        Limit("  a rule", bulk / _MANY * 1e6, 50.0, "us"),
    ]


def show(limits: list[Limit]) -> None:
    """Print the table."""
    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    table = Table("figure", "measured", "wanted", "", box=box.SIMPLE_HEAD, pad_edge=False)
    for limit in limits:
        wanted = f"<= {limit.bound:g} {limit.unit}"
        table.add_row(limit.name, f"{limit.value:.2f} {limit.unit}", wanted, "ok" if limit.held else "not reached")
    console.print(table)


def main() -> int:
    """Measure; with --json print numbers for machines."""
    parser = argparse.ArgumentParser(prog="costs", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="xdpguard-costs-") as folder, Lab("xgcosts", owner=os.getpid()) as lab:
        guard = Guard(Path(folder))
        try:
            limits = commands(guard, lab)
        finally:
            guard("detach", "--all")
    if given.json:
        figures = {
            limit.name.strip(): {"value": limit.value, "bound": limit.bound, "held": limit.held} for limit in limits
        }
        sys.stdout.write(json.dumps({"figures": figures}) + "\n")
    else:
        show(limits)
    return 0


if __name__ == "__main__":
    sys.exit(main())
