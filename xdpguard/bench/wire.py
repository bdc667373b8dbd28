# SPDX-License-Identifier: GPL-2.0
"""A network for measurements and tests: a server and the outside, two namespaces joined by a veth pair.

    NAME-outside  eth0 198.18.0.2 ─────── eth0 198.18.0.1  NAME-server
                       2001:2:0:18::2     2001:2:0:18::1

Addresses are those reserved for benchmarks (RFC 2544, RFC 5180). The server's default route leads outside, so that
answers to spoofed sources have a destination. The outside end has an XDP program, without which frames sent by XDP
would not arrive; it drops the answers to spoofed sources.

This makes the server's peer a prepared one. A container has an ordinary peer without a program, and so has the server
of an ordinary lab, which has a bridge in between:

    NAME-outside eth0 ─── eth0-out  NAME-between  eth0-srv ─── eth0 NAME-server

There eth0-out has a program, so that the frames of a flood get in, and eth0-srv has none.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xdpguard.bench.ends import NAMESPACES, XDP_OUTSIDE, XDP_PASS, attach_own, has_link, neighbour, pin_receivers, run
from xdpguard.net.links import Links

INTERFACE = "eth0"
SERVER4, OUTSIDE4 = "198.18.0.1", "198.18.0.2"
SERVER6, OUTSIDE6 = "2001:2:0:18::1", "2001:2:0:18::2"
SERVER_MAC, OUTSIDE_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
_OUT_MAC, _SRV_MAC = "02:00:00:00:00:03", "02:00:00:00:00:04"
_BRIDGE = "lab"
# More clients on the outside end: .10 to .19, and ::10 to ::19.
CLIENTS4 = [f"198.18.0.{number}" for number in range(10, 20)]
CLIENTS6 = [f"2001:2:0:18::{number}" for number in range(10, 20)]

_RECORDS = Path("/run/xdpguard-lab")
# The default sources of a flood. Answers to them end at the outside end: processing them further would take time on the
# core that is being measured.
SPOOFED4, SPOOFED6 = "16.0.0.0/4", "2001:db8::/96"


class Lab:
    """One lab. ``up`` is idempotent; use as a context manager to have it removed at the end.

    A lab created with ``owner`` (a process id) is removed by the next ``up`` of any lab once that process has ended.
    ``interface`` is the name of both ends; where `split_cores` is used, no other interface of this machine may have it,
    because the kernel names a receive thread after the interface alone, in whatever namespace. In an ``ordinary`` lab
    the server's peer has no XDP program.
    """

    def __init__(
        self, name: str = "xglab", owner: int = 0, interface: str = INTERFACE, *, ordinary: bool = False
    ) -> None:
        self.name = name
        self.interface = interface
        self.ordinary = ordinary
        self.server = f"{name}-server"
        self.outside = f"{name}-outside"
        self.between = f"{name}-between"
        self._owner = owner

    def up(self) -> None:
        """Create what is missing."""
        remove_orphans()
        try:
            self._make()
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Remove everything."""
        for namespace in (self.server, self.outside, self.between):
            try:
                if (NAMESPACES / namespace).exists():
                    run(["ip", "netns", "del", namespace])
            except subprocess.CalledProcessError:
                # Another process may remove the same orphan.
                if (NAMESPACES / namespace).exists():
                    raise
        self._record.unlink(missing_ok=True)

    def is_up(self) -> bool:
        """Return whether every namespace and every end exists."""
        return self._record.exists() and all(has_link(namespace, interface) for namespace, interface in self._ends())

    def __enter__(self) -> Lab:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def run(self, namespace: str, command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in a namespace to completion, for at most a minute."""
        return subprocess.run(
            ["ip", "netns", "exec", namespace, *command],
            text=True,
            capture_output=True,
            timeout=options.pop("timeout", 60),
            check=options.pop("check", True),
            **options,
        )

    def start(self, namespace: str, command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        """Start a command in a namespace; the caller stops it."""
        return subprocess.Popen(["ip", "netns", "exec", namespace, *command], text=True, **options)

    def split_cores(self) -> int:
        """Move the server's receiver to a thread on the last core; return the core that is left to the sender.

        Otherwise generator and receiver share a core; with a single core they still do. A veth has a receive thread
        only while a program is attached to it in native mode; behind a bridge the veth in front does the work.
        """
        for namespace, interface in self._receivers():
            self.run(namespace, ["sh", "-c", f"echo 1 > /sys/class/net/{interface}/threaded"])
        cores = sorted(os.sched_getaffinity(0))
        pin_receivers(self.interface, cores[-1])
        return cores[0]

    @property
    def _record(self) -> Path:
        return _RECORDS / f"{self.name}.json"

    @property
    def _namespaces(self) -> tuple[str, ...]:
        return (self.server, self.outside, *([self.between] if self.ordinary else []))

    def _between(self) -> tuple[str, str]:
        """Return the ends of an ordinary lab's bridge: towards the outside, and towards the server."""
        return f"{self.interface}-out", f"{self.interface}-srv"

    def _ends(self) -> list[tuple[str, str]]:
        """Return every end with its namespace."""
        between = [(self.between, it) for it in self._between()] if self.ordinary else []
        return [(self.server, self.interface), (self.outside, self.interface), *between]

    def _receivers(self) -> list[tuple[str, str]]:
        """Return the ends with a receiver of their own that a flood reaches: those with a program in native mode."""
        ends = [(self.server, self.interface), *([(self.between, self._between()[0])] if self.ordinary else [])]
        return [end for end in ends if (xdp := Links().get(end[1], end[0]).xdp) and xdp.mode == "native"]

    def _make(self) -> None:
        for namespace in self._namespaces:
            if not (NAMESPACES / namespace).exists():
                run(["ip", "netns", "add", namespace])
        self._write_record()
        if not all(has_link(namespace, interface) for namespace, interface in self._ends()):
            for namespace, interface in self._ends():
                if has_link(namespace, interface):
                    run(["ip", "-n", namespace, "link", "del", interface])
            self._join()
        for namespace in (self.server, self.outside):
            self._quiet(namespace, self.interface)
        self._address(self.server, [f"{SERVER4}/24"], [f"{SERVER6}/64"])
        self._address(
            self.outside,
            [f"{address}/24" for address in (OUTSIDE4, *CLIENTS4)],
            [f"{address}/64" for address in (OUTSIDE6, *CLIENTS6)],
        )
        for namespace in (self.server, self.outside):
            run(["ip", "-n", namespace, "link", "set", "lo", "up"])
            run(["ip", "-n", namespace, "link", "set", self.interface, "up"])
            # With offload, checksums in captures would not be final. Without ethtool, nobody captures here.
            if shutil.which("ethtool"):
                self.run(namespace, ["ethtool", "-K", self.interface, "tx", "off"])
        self._neighbours()
        run(["ip", "-n", self.server, "route", "replace", "default", "via", OUTSIDE4])
        run(["ip", "-n", self.server, "-6", "route", "replace", "default", "via", OUTSIDE6])
        attach_own(self.outside, self.interface, XDP_OUTSIDE, "lab_outside")
        if self.ordinary:
            attach_own(self.between, self._between()[0], XDP_PASS, "lab_between")

    def _join(self) -> None:
        """Create the veths, and in an ordinary lab the bridge that joins them."""
        if not self.ordinary:
            _veth(self.server, (self.interface, SERVER_MAC), self.outside, (self.interface, OUTSIDE_MAC))
            return
        out, srv = self._between()
        _veth(self.between, (out, _OUT_MAC), self.outside, (self.interface, OUTSIDE_MAC))
        _veth(self.between, (srv, _SRV_MAC), self.server, (self.interface, SERVER_MAC))
        if not has_link(self.between, _BRIDGE):
            # It must send nothing of its own: no spanning tree, no multicast snooping.
            bridge = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
            run(f"ip -n {self.between} link add {_BRIDGE} {bridge}".split())
        for interface in (out, srv, _BRIDGE):
            self._quiet(self.between, interface)
            if interface != _BRIDGE:
                run(["ip", "-n", self.between, "link", "set", interface, "master", _BRIDGE])
            run(["ip", "-n", self.between, "link", "set", interface, "up"])

    def _write_record(self) -> None:
        _RECORDS.mkdir(mode=0o700, exist_ok=True)
        inodes = {name: (NAMESPACES / name).stat().st_ino for name in self._namespaces}
        self._record.write_text(json.dumps({"owner": self._owner, "namespaces": inodes}), encoding="utf-8")

    def _quiet(self, namespace: str, interface: str) -> None:
        """Disable address detection, router solicitations, link-local addresses: only what is sent is counted."""
        for key, value in (("accept_dad", 0), ("router_solicitations", 0), ("addr_gen_mode", 1), ("disable_ipv6", 0)):
            path = f"/proc/sys/net/ipv6/conf/{interface}/{key}"
            self.run(namespace, ["sh", "-c", f"echo {value} > {path}"])

    def _address(self, namespace: str, ipv4: Sequence[str], ipv6: Sequence[str]) -> None:
        for address in ipv4:
            run(["ip", "-n", namespace, "addr", "replace", address, "dev", self.interface])
        for address in ipv6:
            run(["ip", "-n", namespace, "addr", "replace", address, "dev", self.interface, "nodad"])

    def _neighbours(self) -> None:
        for address in (OUTSIDE4, *CLIENTS4, OUTSIDE6, *CLIENTS6):
            neighbour(self.server, self.interface, address, OUTSIDE_MAC)
        for address in (SERVER4, SERVER6):
            neighbour(self.outside, self.interface, address, SERVER_MAC)


def is_lab_end(namespace: str, interface: str) -> bool:
    """Return whether an interface is a veth end in a namespace that a lab created, not just one of that name."""
    path = NAMESPACES / namespace
    if not path.exists():
        return False
    for record in _RECORDS.glob("*.json"):
        made = json.loads(record.read_text(encoding="utf-8"))["namespaces"]
        if made.get(namespace) == path.stat().st_ino:
            return any(link.name == interface and link.kind == "veth" for link in Links().all(namespace))
    return False


def remove_orphans() -> None:
    """Remove the labs whose owner ended without doing so."""
    for record in _RECORDS.glob("*.json"):
        owner = json.loads(record.read_text(encoding="utf-8"))["owner"]
        if owner and not Path(f"/proc/{owner}").exists():
            Lab(record.stem).down()


def _veth(namespace: str, end: tuple[str, str], other: str, peer: tuple[str, str]) -> None:
    """Create a veth pair between two namespaces; an end is its name and its MAC address."""
    run(
        f"ip -n {namespace} link add {end[0]} address {end[1]} type veth"
        f" peer name {peer[0]} address {peer[1]} netns {other}".split()
    )
