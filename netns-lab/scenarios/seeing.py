# SPDX-License-Identifier: GPL-2.0
"""The cost of looking: the live screen with 100,000 tuples, a dropped packet with and without a reader, a replay."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from topology import INTERFACE, SERVER4, Lab

from xdpguard.capture.line import parse
from xdpguard.capture.packet import encode
from xdpguard.dataplane.sys import kernel
from xdpguard.net.netns import entered

_TUPLES, _WATCHED = 100_000, 20.0  # s
_PACKETS, _ROUNDS, _REPEAT = 100_000, 9, 2_000_000
_BLOCKED = "203.0.113.9"
_FLOOD = Path(__file__).parents[1] / "flood.py"
_CONFIG = f"""
[limits]
tuples = {2 * _TUPLES}
new_tuples_per_second = 1000000
[guard]
mode = "off"
"""


class Figure(NamedTuple):
    """A figure, its unit, and its target: an upper bound or, with ``least``, a lower one; 0: none."""

    name: str
    value: float
    unit: str
    bound: float = 0.0
    least: bool = False

    @property
    def held(self) -> bool:
        """Whether it meets its target."""
        return not self.bound or (self.value >= self.bound if self.least else self.value <= self.bound)

    @property
    def wanted(self) -> str:
        """The result in words."""
        return f"{'>=' if self.least else '<='} {self.bound:,g} {self.unit}" if self.bound else ""


class Commands:
    """xdpguard commands with an instance of their own."""

    def __init__(self, state: Path) -> None:
        self.environment = os.environ | {"XDPGUARD_STATE_DIR": str(state), "XDPGUARD_INSTANCE": "seeing"}
        self._program = str(Path(sys.executable).parent / "xdpguard")

    def line(self, *arguments: str) -> list[str]:
        """Return the command line."""
        return [self._program, *arguments]

    def __call__(self, *arguments: str) -> str:
        """Run a command to completion."""
        return subprocess.check_output(self.line(*arguments), env=self.environment, text=True)

    def json(self, *arguments: str) -> Any:
        """Run a command and read its output."""
        return json.loads(self(*arguments, "--json"))


def screen(commands: Commands, lab: Lab) -> list[Figure]:
    """Measure the share of a core that `top` takes with many tuples, from its third second on."""
    line = [sys.executable, str(_FLOOD), "syn", "--netns", lab.outside, "--json"]
    subprocess.check_call([*line, "--count", str(_TUPLES), "--rate", "200000"], stdout=subprocess.DEVNULL)
    tuples = len(commands.json("syns", "--top", "0"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    environment = commands.environment | {"TERM": "xterm-256color"}
    running = subprocess.Popen(commands.line("top"), env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    _drain(ours, 3.0)
    begin, spent = time.monotonic(), _cpu(running.pid)
    _drain(ours, _WATCHED)
    share = (_cpu(running.pid) - spent) / (time.monotonic() - begin)
    os.write(ours, b"q")
    _drain(ours, 1.0)
    running.wait(30)
    os.close(ours)
    return [Figure(f"top, {tuples:,} tuples, each second", 100 * share, "% of a core", 10.0)]


def _drain(terminal: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if select.select([terminal], [], [], left)[0]:
            try:
                os.read(terminal, 1 << 16)
            except OSError:  # the other end is closed
                return


def _cpu(process: int) -> float:
    """Return the seconds of CPU time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def drops(commands: Commands, lab: Lab) -> list[Figure]:
    """Measure a dropped packet with and without a reader, and a passing one for comparison."""
    commands("block", _BLOCKED)
    blocked, passing = (encode(parse(f"udp {source}:9 > {SERVER4}:9")) for source in (_BLOCKED, "203.0.113.10"))
    program = kernel.program_by_id(commands.json("status")["interfaces"][0]["prog_id"])
    found: dict[str, list[int]] = {"passes": [], "dropped": [], "dropped, followed": []}
    follow = commands.line("events", "--follow", "--json")
    try:
        with entered(lab.server):
            for _ in range(_ROUNDS):
                found["passes"].append(kernel.test_run(program, passing, _REPEAT).duration)
                found["dropped"].append(kernel.test_run(program, blocked, _REPEAT).duration)
            with subprocess.Popen(follow, env=commands.environment, stdout=-1, stderr=subprocess.DEVNULL) as reader:
                assert reader.stdout is not None
                while not select.select([reader.stdout], [], [], 0)[0]:
                    kernel.test_run(program, blocked, 1000)
                for _ in range(_ROUNDS):
                    found["dropped, followed"].append(kernel.test_run(program, blocked, _REPEAT).duration)
                reader.terminate()
                reader.stdout.read()
    finally:
        os.close(program)
    medians = {name: statistics.median(values) for name, values in found.items()}
    figures = [Figure(f"a packet that is {name}" if name != "passes" else "a packet that passes", value, "ns")
               for name, value in medians.items()]  # fmt: skip
    return [*figures, Figure("  followed / not", medians["dropped, followed"] / medians["dropped"], "", 1.5)]


def replays(commands: Commands, folder: Path) -> list[Figure]:
    """Measure the packets/s of a replay through the program, and the whole process."""
    frames = [encode(parse(f"tcp 198.51.{n >> 8}.{n & 255}:{n + 1024} > {SERVER4}:80 S")) for n in range(5000)]
    file = folder / "many.pcap"
    record = b"".join(struct.pack("<4I", 0, 0, len(frame), len(frame)) + frame for frame in frames)
    file.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1) + record * (_PACKETS // len(frames)))
    commands("replay", str(file))  # compiles
    took, rates = [], []
    for _ in range(5):
        begin = time.perf_counter()
        found = commands.json("replay", str(file))
        took.append(time.perf_counter() - begin)
        rates.append(found["packets"] / found["seconds"])
    return [
        Figure(f"replay of {_PACKETS:,}, file to verdicts", statistics.median(rates), "packets/s", 200_000, True),
        Figure("  whole process, loading the program included", statistics.median(took), "s"),
    ]


def show(figures: list[Figure]) -> None:
    """Print the table."""
    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    table = Table("figure", "measured", "wanted", "", box=box.SIMPLE_HEAD, pad_edge=False)
    for it in figures:
        text = f"{it.value:,.0f}" if it.value >= 1000 else f"{it.value:.2f}"
        table.add_row(
            it.name, f"{text} {it.unit}", it.wanted, "" if not it.bound else "ok" if it.held else "not reached"
        )
    console.print(table)


def main() -> int:
    """Measure; with --json print numbers for machines."""
    parser = argparse.ArgumentParser(prog="seeing", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="xdpguard-seeing-") as name, Lab("xgseeing", owner=os.getpid()) as lab:
        folder = Path(name)
        commands = Commands(folder)
        config = folder / "config.toml"
        config.write_text(_CONFIG, encoding="ascii")
        try:
            commands("attach", INTERFACE, "--netns", lab.server, "--config", str(config))
            figures = [*screen(commands, lab), *drops(commands, lab), *replays(commands, folder)]
        finally:
            commands("detach", "--all")
    if given.json:
        found = {it.name.strip(): {"value": it.value, "bound": it.bound, "held": it.held} for it in figures}
        sys.stdout.write(json.dumps({"figures": found}) + "\n")
    else:
        show(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
