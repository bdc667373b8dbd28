# SPDX-License-Identifier: GPL-2.0
"""virtio_net as machines have it: plain, with queues to spare, with GRO-HW, with offloads it cannot switch off."""

from __future__ import annotations

import json
import shlex
import socket
from collections.abc import Iterator

from kernels.image import SOURCE
from kernels.machine import Machine
from kernels.steps import Row, steps, yes
from topology import SERVER4, Lab

from xdpguard.net.netns import entered

_COMMAND = f"{SOURCE}/.venv/bin/xdpguard"
_SINK = 5001  # port on which the machine discards what it receives
_BYTES = 4 << 20
_SEGMENT = 1460  # most payload bytes of a segment at MTU 1500
_LOCKED = "under a lock"


class VirtioNet:
    """The machine's interface, whose other end is the outside of a lab."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.lab = machine.lab
        self.interface: tuple[str, ...] = (machine.interface,)

    def xdpguard(self, *words: str) -> str:
        """Run a command in the machine."""
        return self._machine.ok(f"cd {SOURCE} && {_COMMAND} {shlex.join(words)}")


def on_virtio_net(machine: Machine) -> Iterator[Row]:
    """Attach, block, guard and detach on virtio_net in native mode."""
    machine.serve()
    yield from steps(VirtioNet(machine), "native")


def queues(machine: Machine) -> Iterator[Row]:
    """Take the steps with a pair of queues for each CPU and as many for XDP: no answer waits for a lock."""
    machine.serve()
    # Some kernels use all pairs from the start: then this is what `attach` advises, else it changes nothing.
    machine.run(f"ethtool -L {machine.interface} combined 2")
    found = machine.ok(f"ethtool -l {machine.interface} | awk '/Combined/ {{ n = $2 }} END {{ print n }}'").strip()
    yield Row("pairs of queues in use", "2", found)
    yield Row("attach tells of a lock", "no", yes(_LOCKED in _attached(machine)))
    machine.ok(f"{_COMMAND} detach --all")
    yield from steps(VirtioNet(machine), "native")


def gro_hw(machine: Machine) -> Iterator[Row]:
    """Count an upload through a driver that merges segments (GRO-HW) until a program is attached in native mode."""
    yield Row("GRO-HW before", "on", _merging(machine))
    _attached(machine)
    yield from _counted(machine)
    machine.ok(f"{_COMMAND} detach --all")
    yield Row("GRO-HW after detach", "on", _merging(machine))


def no_control(machine: Machine) -> Iterator[Row]:
    """Take the steps where the driver cannot switch its offloads off: in generic mode, with the kernel's reason."""
    machine.serve()
    told = _attached(machine)
    yield Row("attach gives the kernel's reason", "yes", yes(True) if "GRO_HW" in told else told)
    machine.ok(f"{_COMMAND} detach --all")
    refused = machine.run(f"{_COMMAND} attach {machine.interface} --mode native")
    yield Row("--mode native is refused", "yes", yes(refused.returncode == 1 and "GRO_HW" in refused.stderr))
    yield from steps(VirtioNet(machine), "generic")


def _attached(machine: Machine) -> str:
    """Attach to the interface; return what is said of it."""
    return machine.ok(f"{_COMMAND} attach {machine.interface} 2>&1")


def _merging(machine: Machine) -> str:
    found = machine.ok(f"ethtool -k {machine.interface}")
    return next(line.split()[1] for line in found.splitlines() if line.startswith("rx-gro-hw:"))


def _counted(machine: Machine) -> Iterator[Row]:
    """Upload a few megabytes, and compare with what the data plane counts."""
    sink = (
        f"import socket; s = socket.create_server(('', {_SINK})); print('listening', flush=True); c = s.accept()[0]\n"
        "while c.recv(1 << 16): pass"
    )
    machine.ok(
        f"systemd-run -q --unit sink python3 -c {shlex.quote(sink)}"
        f" && timeout 60 sh -c 'until ss -Hltn sport = :{_SINK} | grep -q LISTEN; do sleep 0.2; done'"
    )
    before = _passed(machine)
    _upload(machine.lab)
    machine.ok("timeout 120 sh -c 'while systemctl -q is-active sink; do sleep 0.2; done'")
    packets, size = (it - was for it, was in zip(_passed(machine), before, strict=True))
    yield Row("packets counted of an upload", f"at least {_BYTES // _SEGMENT}", str(packets))
    yield Row("bytes counted of it", f"at least {_BYTES}", str(size))


def _upload(lab: Lab) -> None:
    with entered(lab.outside):
        client = socket.create_connection((SERVER4, _SINK), 60.0)
    with client:
        client.sendall(bytes(_BYTES))


def _passed(machine: Machine) -> tuple[int, int]:
    """Return the packets and bytes that passed."""
    shown = json.loads(machine.ok(f"{_COMMAND} stats --json"))["interfaces"]
    found = next(iter(shown.values()))["reasons"]["pass"]
    return found["packets"], found["bytes"]
