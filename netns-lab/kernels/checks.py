# SPDX-License-Identifier: GPL-2.0
"""The checks to run on a kernel: each takes a running machine and yields rows. A new check is a new entry."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import NamedTuple

from kernels.doctor import doctor
from kernels.image import SOURCE, say
from kernels.machine import Machine, Nic
from kernels.nic import gro_hw, no_control, on_virtio_net, queues
from kernels.service import package, service
from kernels.steps import Row

_SLOWER = 10  # than a machine that is not emulated
_PYTEST = (
    f"cd {SOURCE} && CI=true XDPGUARD_TEST_PATIENCE={_SLOWER} .venv/bin/python -m pytest -q -p no:cacheprovider -n 2"
    f" --timeout {_SLOWER * 120}"
)
_LONG = 3 * 3600.0
_SHOWN = 6000  # characters of the output of what fails


class Check(NamedTuple):
    """What to run, and the virtio_net interface of the machine it needs."""

    run: Callable[[Machine], Iterator[Row]]
    nic: Nic = Nic()


def on_veth(machine: Machine) -> Iterator[Row]:
    """Attach, block, guard and detach on veths in the machine."""
    yield from _rows(machine, "netns-lab/kernels/steps.py")


def on_devices(machine: Machine) -> Iterator[Row]:
    """Attach, block, guard and detach on a bond and in a VRF, and attach under MACsec, in the machine."""
    yield from _rows(machine, "netns-lab/kernels/devices.py")


def demo(machine: Machine) -> Iterator[Row]:
    """Run the demo."""
    yield _passes(machine, "demo", f"{SOURCE}/netns-lab/demo --untimed")


def tests(*files: str) -> Callable[[Machine], Iterator[Row]]:
    """Run test files or directories."""

    def run(machine: Machine) -> Iterator[Row]:
        # The tests' own labs have these addresses, which would be the machine's as well.
        machine.ok(f"ip address flush dev {machine.interface}")
        try:
            yield _passes(machine, " ".join(files), f"{_PYTEST} {' '.join(files)}")
        finally:
            machine.ok(f"networkctl reconfigure {machine.interface}")

    run.__doc__ = f"The tests of {', '.join(files)}."
    return run


def _rows(machine: Machine, program: str) -> Iterator[Row]:
    """What a program in the machine prints."""
    for line in machine.ok(f"cd {SOURCE} && PYTHONPATH=netns-lab .venv/bin/python {program}", 3600.0).splitlines():
        yield Row(*json.loads(line))


def _passes(machine: Machine, what: str, command: str) -> Row:
    done = machine.run(command, _LONG)
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]]
    if done.returncode:
        say(done.stdout[-_SHOWN:] + done.stderr[-_SHOWN:])
    return Row(what, "passes", "passes" if done.returncode == 0 else f"exit {done.returncode}: {lines[-1]}")


CHECKS: dict[str, Check] = {
    "virtio_net": Check(on_virtio_net),
    "veth": Check(on_veth),
    "devices": Check(on_devices),
    "gro_hw": Check(gro_hw),
    "package": Check(package),
    "service": Check(service),
    "doctor": Check(doctor),
    "demo": Check(demo),
    "bpf": Check(tests("tests/bpf", "--ignore=tests/bpf/test_verified.py")),
    "traffic": Check(tests("tests/netns/test_traffic.py")),
    "guard": Check(tests("tests/netns/test_guard.py")),
    "lifecycle": Check(tests("tests/netns/test_lifecycle.py")),
    "tcp": Check(tests(*(f"tests/netns/test_tcp_{it}.py" for it in ("states", "trace", "rtt", "figures")))),
    "queues": Check(queues, Nic(queues=4)),
    "no_control": Check(no_control, Nic(offload_control=False)),
}
