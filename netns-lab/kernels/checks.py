# SPDX-License-Identifier: GPL-2.0
"""The checks to run on a kernel: each takes a running machine and yields rows. A new check is a new entry."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator

from kernels.doctor import doctor
from kernels.image import SOURCE
from kernels.machine import Machine
from kernels.service import package, service
from kernels.steps import Row, steps

_PYTEST = f"cd {SOURCE} && CI=true .venv/bin/python -m pytest -q -p no:cacheprovider -n 2"
_LONG = 3 * 3600.0


class VirtioNet:
    """The machine's interface, whose other end is the outside of a lab."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.lab = machine.lab
        self.interface: tuple[str, ...] = (machine.interface,)

    def xdpguard(self, *words: str) -> str:
        """Run a command in the machine."""
        return self._machine.ok(f"{SOURCE}/.venv/bin/xdpguard {shlex.join(words)}")


def on_virtio_net(machine: Machine) -> Iterator[Row]:
    """Attach, block, guard and detach on virtio_net in native mode."""
    machine.serve()
    yield from steps(VirtioNet(machine), "native")


def on_veth(machine: Machine) -> Iterator[Row]:
    """Attach, block, guard and detach on veths in the machine."""
    yield from _rows(machine, "netns-lab/kernels/steps.py")


def on_devices(machine: Machine) -> Iterator[Row]:
    """Attach, block, guard and detach on a bond and in a VRF, and attach under MACsec, in the machine."""
    yield from _rows(machine, "netns-lab/kernels/devices.py")


def demo(machine: Machine) -> Iterator[Row]:
    """Run the demo."""
    yield _passes(machine, "demo", f"{SOURCE}/netns-lab/demo")


def tests(*files: str) -> Callable[[Machine], Iterator[Row]]:
    """Run test files or directories."""

    def run(machine: Machine) -> Iterator[Row]:
        yield _passes(machine, " ".join(files), f"{_PYTEST} {' '.join(files)}")

    run.__doc__ = f"The tests of {', '.join(files)}."
    return run


def _rows(machine: Machine, program: str) -> Iterator[Row]:
    """What a program in the machine prints."""
    for line in machine.ok(f"cd {SOURCE} && PYTHONPATH=netns-lab .venv/bin/python {program}", 3600.0).splitlines():
        yield Row(*json.loads(line))


def _passes(machine: Machine, what: str, command: str) -> Row:
    done = machine.run(command, _LONG)
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]]
    return Row(what, "passes", "passes" if done.returncode == 0 else f"exit {done.returncode}: {lines[-1]}")


CHECKS: dict[str, Callable[[Machine], Iterator[Row]]] = {
    "virtio_net": on_virtio_net,
    "veth": on_veth,
    "devices": on_devices,
    "package": package,
    "service": service,
    "doctor": doctor,
    "demo": demo,
    "bpf": tests("tests/bpf", "--ignore=tests/bpf/test_verified.py"),
    "traffic": tests("tests/netns/test_traffic.py"),
    "guard": tests("tests/netns/test_guard.py"),
    "lifecycle": tests("tests/netns/test_lifecycle.py"),
    "tcp": tests("tests/netns/test_tcp_states.py", "tests/netns/test_tcp_trace.py", "tests/netns/test_tcp_rtt.py"),
}
