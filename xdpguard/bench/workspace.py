# SPDX-License-Identifier: GPL-2.0
"""Where the bench works: namespaces, instances and a folder of its own, of which nothing is left in the end."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import xdpguard
from xdpguard import instance as instances
from xdpguard.bench.process import Spent, end_children, spend
from xdpguard.bench.wire import Lab
from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.sys.pins import Pins, ensure_bpffs
from xdpguard.errors import MissingError, XdpguardError
from xdpguard.net.links import Links
from xdpguard.telemetry import counters

_INSTANCE = "xgbench-{owner}-{name}"
_OURS = re.compile(r"xgbench-(\d+)-")
# As by default, but that all our sources may be new in one second: so each is known from its second packet on, and what
# is timed is that, not the limit. And a test run at full speed is no flood.
_CONFIG = """\
[limits]
new_sources_per_second = 1000000
new_tuples_per_second = 1000000
[guard]
flood_rate = 100000000
"""
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Workspace:
    """Use as a context manager. SIGTERM and SIGHUP end it as Ctrl-C does; its end is not interrupted again."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        owner = os.getpid()
        # The receiver's thread is found by the interface's name, which so must not be that of one of the machine's own.
        self.lab = Lab(f"xgbench{owner}", owner, f"xg{owner}")
        self._temporary = tempfile.TemporaryDirectory(prefix="xdpguard-bench-", ignore_cleanup_errors=True)
        self.folder = Path(self._temporary.name)
        self.bpffs = instances.find("default").bpffs
        self._pins: list[Pins] = []
        self._before = {number: signal.getsignal(number) for number in _ENDING}

    def instance(self, name: str) -> Commands:
        """A new instance, with nothing in it."""
        full = _INSTANCE.format(owner=os.getpid(), name=name)
        pins = Pins(self.bpffs, full)
        self._pins.append(pins)
        return Commands(full, pins, self)

    def __enter__(self) -> Workspace:
        for number in _ENDING:
            signal.signal(number, _interrupt)
        try:
            if not shutil.which("ip"):
                raise MissingError("there is no ip command here", "install iproute2 (Debian, Ubuntu), iproute (Fedora)")
            ensure_bpffs(self.bpffs)
            remove_orphans(self.bpffs)
            self.lab.up()
        except subprocess.CalledProcessError as error:
            self._clean()
            words = (error.stderr or "").strip()
            raise XdpguardError(
                f"cannot make two network namespaces and a veth: {words or error}",
                "the kernel needs network namespaces and veth; nothing was left behind",
            ) from error
        except BaseException:
            self._clean()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._clean()

    def _clean(self) -> None:
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)
        end_children()
        try:
            self.lab.down()
        finally:
            for pins in self._pins:
                pins.remove_all()
            self._temporary.cleanup()
            for number, handler in self._before.items():
                signal.signal(number, handler)


class Commands:
    """xdpguard's commands, as processes, with one instance. Call it with the words of a command."""

    def __init__(self, name: str, pins: Pins, workspace: Workspace) -> None:
        self.pins = pins
        self._workspace = workspace
        kept = {key: value for key, value in os.environ.items() if not key.startswith("XDPGUARD_")}
        package = str(Path(xdpguard.__file__).parents[1])  # this xdpguard, whatever folder we are in
        self._environment = kept | {
            "XDPGUARD_INSTANCE": name,
            "XDPGUARD_STATE_DIR": str(workspace.folder / "state"),
            "XDPGUARD_CONFIG_DIR": str(workspace.folder / "etc"),
            "XDPGUARD_BPFFS": str(workspace.bpffs),
            "PYTHONPATH": os.pathsep.join([package, *filter(None, [kept.get("PYTHONPATH")])]),
        }

    def __call__(self, *arguments: str, stdin: Path | None = None) -> Spent:
        """Runs a command. XdpguardError with its words when it fails."""
        line = [sys.executable, "-m", "xdpguard.cli", *arguments]
        return spend(line, self._environment, self._workspace.folder, stdin)

    def attach(self, interface: str) -> Spent:
        """Attaches to an interface of the server's namespace."""
        config = self._workspace.folder / "config.toml"
        config.write_text(_CONFIG, encoding="ascii")
        return self("attach", interface, "--netns", self._workspace.lab.server, "--config", str(config))

    def fill(self, path: Path) -> Spent:
        """Loads a list from a file, in the place of what was filled in before."""
        return self("lists", "load", "bench", str(path), "--force")

    def empty(self) -> Spent:
        """Takes the list away."""
        return self("lists", "drop", "bench")

    def program(self, interface: str) -> int:
        """A descriptor, the caller's own, of the program on an interface of the server's namespace."""
        return program(self._workspace.lab, interface)

    def counted(self, interface: str) -> dict[str, int]:
        """Packets by reason on an interface of the server's namespace."""
        found = counters.read(self.pins, interface, self._workspace.lab.server)
        return {name: count.packets for name, count in found.reasons.items()}


def program(lab: Lab, interface: str) -> int:
    """A descriptor, the caller's own, of the XDP program on an interface of the server's namespace."""
    xdp = Links().get(interface, lab.server).xdp
    if xdp is None:
        raise XdpguardError(f"there is no XDP program on the bench's interface {interface}", "try again")
    return kernel.program_by_id(xdp.prog_id)


def remove_orphans(bpffs: Path) -> None:
    """Removes the pins of benches that were killed before they could."""
    with contextlib.suppress(FileNotFoundError):
        for path in (bpffs / "xdpguard").iterdir():
            found = _OURS.match(path.name)
            if found and not Path(f"/proc/{found[1]}").exists():
                Pins(bpffs, path.name).remove_all()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
