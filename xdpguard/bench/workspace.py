# SPDX-License-Identifier: GPL-2.0
"""The bench's workspace: namespaces, instances and a directory of its own, all removed at the end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import xdpguard
from xdpguard import instance as instances
from xdpguard import signals
from xdpguard.bench.process import Spent, kill_children, spend
from xdpguard.bench.wire import Lab
from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.sys.bpffs import ensure_bpffs
from xdpguard.dataplane.sys.pins import Pins, remove_orphans
from xdpguard.errors import MissingError, XdpguardError
from xdpguard.net.links import Links
from xdpguard.telemetry import counters

_INSTANCE = "xgbench-{owner}-{name}"
_OURS = re.compile(r"xgbench-(\d+)-")
# Defaults, except that all our sources may be new within one second, so that each is known from its second packet on:
# that is what is timed, not the limit. And a test run at full speed is not a flood.
_CONFIG = """\
[limits]
new_sources_per_second = 1000000
new_tuples_per_second = 1000000
[guard]
flood_rate = 100000000
"""


class Workspace:
    """Use as a context manager. SIGTERM and SIGHUP end it as Ctrl-C does; clean-up is not interrupted again."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        owner = os.getpid()
        # The receive thread is found by the interface's name, which must not be one of the machine's own.
        self.lab = Lab(f"xgbench{owner}", owner, f"xg{owner}")
        self._temporary = tempfile.TemporaryDirectory(prefix="xdpguard-bench-", ignore_cleanup_errors=True)
        self.folder = Path(self._temporary.name)
        self.bpffs = instances.find("default").bpffs
        self._pins: list[Pins] = []
        self._held = ExitStack()

    def instance(self, name: str) -> Commands:
        """Return a new, empty instance."""
        full = _INSTANCE.format(owner=os.getpid(), name=name)
        pins = Pins(self.bpffs, full)
        self._pins.append(pins)
        return Commands(full, pins, self)

    def __enter__(self) -> Workspace:
        with ExitStack() as held:
            held.enter_context(signals.handled(signal.default_int_handler, *signals.ENDING))
            held.callback(self._clean)
            if not shutil.which("ip"):
                raise MissingError("the ip command is missing", "install iproute2 (Debian, Ubuntu), iproute (Fedora)")
            ensure_bpffs(self.bpffs)
            remove_orphans(self.bpffs, _OURS)
            try:
                self.lab.up()
            except subprocess.CalledProcessError as error:
                words = (error.stderr or "").strip()
                raise XdpguardError(
                    f"cannot create two network namespaces and a veth pair: {words or error}",
                    "the kernel needs network namespaces and veth; everything was cleaned up",
                ) from error
            self._held = held.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def _clean(self) -> None:
        for number in signals.ENDING:
            signal.signal(number, signal.SIG_IGN)
        kill_children()
        try:
            self.lab.down()
        finally:
            for pins in self._pins:
                pins.remove_all()
            self._temporary.cleanup()


class Commands:
    """xdpguard's commands, run as processes on one instance. Call it with a command's arguments."""

    def __init__(self, name: str, pins: Pins, workspace: Workspace) -> None:
        self.pins = pins
        self._workspace = workspace
        kept = {key: value for key, value in os.environ.items() if not key.startswith("XDPGUARD_")}
        package = str(Path(xdpguard.__file__).parents[1])  # this xdpguard, whatever the working directory
        self._environment = kept | {
            "XDPGUARD_INSTANCE": name,
            "XDPGUARD_STATE_DIR": str(workspace.folder / "state"),
            "XDPGUARD_CONFIG_DIR": str(workspace.folder / "etc"),
            "XDPGUARD_BPFFS": str(workspace.bpffs),
            "PYTHONPATH": os.pathsep.join([package, *filter(None, [kept.get("PYTHONPATH")])]),
        }

    def __call__(self, *arguments: str, stdin: Path | None = None) -> Spent:
        """Run a command. Raise XdpguardError with its output if it fails."""
        line = [sys.executable, "-P", "-m", "xdpguard.cli", *arguments]
        return spend(line, self._environment, self._workspace.folder, stdin)

    def attach(self, interface: str) -> Spent:
        """Attach to an interface in the server's namespace."""
        config = self._workspace.folder / "config.toml"
        config.write_text(_CONFIG, encoding="ascii")
        return self("attach", interface, "--netns", self._workspace.lab.server, "--config", str(config))

    def fill(self, path: Path) -> Spent:
        """Load a list from a file, replacing the one loaded before."""
        return self("lists", "load", "bench", str(path), "--force")

    def empty(self) -> Spent:
        """Remove the list."""
        return self("lists", "remove", "bench")

    def program(self, interface: str) -> int:
        """Return a descriptor, owned by the caller, of the program on an interface in the server's namespace."""
        return program(self._workspace.lab, interface)

    def counted(self, interface: str) -> dict[str, int]:
        """Return packets by reason on an interface in the server's namespace."""
        found = counters.read(self.pins, interface, self._workspace.lab.server)
        return {name: count.packets for name, count in found.reasons.items()}


def program(lab: Lab, interface: str) -> int:
    """Return a descriptor, owned by the caller, of the XDP program on an interface in the server's namespace."""
    xdp = Links().get(interface, lab.server).xdp
    if xdp is None:
        raise XdpguardError(f"there is no XDP program on the bench's interface {interface}", "try again")
    return kernel.program_by_id(xdp.prog_id)
