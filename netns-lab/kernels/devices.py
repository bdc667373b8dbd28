# SPDX-License-Identifier: GPL-2.0
"""Attach, block and guard on devices that only a full kernel makes: a bond, a VRF, MACsec. A program, in the machine.

Prints its rows as JSON, one a line.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

from kernels.steps import Row, Veth, served, steps, yes
from topology import CLIENTS4, INTERFACE, OUTSIDE4, OUTSIDE_MAC, SERVER4, SERVER_MAC, Lab


def bond() -> Iterator[Row]:
    """Take the steps on a bond, whose members carry its program; one of them alone is refused a program of its own."""
    with _lab("bond") as lab:
        _ip(
            lab,
            f"link add bond0 address {SERVER_MAC} type bond mode active-backup miimon 100",
            f"addr flush dev {INTERFACE}",
            f"link set {INTERFACE} down",
            f"link set {INTERFACE} master bond0",
            "link set bond0 up",
            f"addr add {SERVER4}/24 dev bond0",
            f"route replace default via {OUTSIDE4}",
            *_neighbours("bond0"),
        )
        with served(lab):
            yield from steps(Veth(lab, "bond0"), "native")
            on_bond = Veth(lab, "bond0")
            on_bond.xdpguard("attach", *on_bond.interface)
            refused = _attach(lab, INTERFACE)
            yield Row("attach to a member exits with", "1", str(refused.returncode))
            told = "already runs on its members" in refused.stderr
            yield Row("and says why", "yes", yes(told) if told else refused.stderr.strip())
            on_bond.xdpguard("detach", "--all")


def vrf() -> Iterator[Row]:
    """Take the steps on an interface of a VRF."""
    with _lab("vrf") as lab:
        _ip(lab, "link add red type vrf table 10", "link set red up", f"link set {INTERFACE} master red")
        _ip(lab, f"route replace default via {OUTSIDE4} table 10", *_neighbours(INTERFACE))
        lab.run(lab.server, ["sysctl", "-qw", "net.ipv4.tcp_l3mdev_accept=1"])
        with served(lab):
            yield from steps(Veth(lab), "native")


def macsec() -> Iterator[Row]:
    """Attach under MACsec: it is told that the frames cannot be read."""
    with _lab("macsec") as lab:
        _ip(lab, f"link add link {INTERFACE} macsec0 type macsec encrypt on")
        done = _attach(lab, INTERFACE)
        told = done.returncode == 0 and "macsec0" in done.stderr and "non_ip" in done.stderr
        yield Row("attach tells that frames pass unread", "yes", yes(told) if told else done.stderr.strip())
        Veth(lab).xdpguard("detach", "--all")


def _lab(name: str) -> Lab:
    return Lab(f"xg{name}", owner=0)


def _ip(lab: Lab, *commands: str) -> None:
    for command in commands:
        lab.run(lab.server, ["ip", *command.split()])


def _neighbours(device: str) -> list[str]:
    """The entries that the lab had on its interface, on a device."""
    return [f"neigh replace {it} dev {device} lladdr {OUTSIDE_MAC}" for it in (OUTSIDE4, *CLIENTS4)]


def _attach(lab: Lab, name: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "xdpguard.cli", "attach", name, "--netns", lab.server]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def main() -> int:
    """Print what each device gave."""
    for device in (bond, vrf, macsec):
        for row in device():
            print(json.dumps(row._replace(what=f"{device.__name__}: {row.what}")), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
