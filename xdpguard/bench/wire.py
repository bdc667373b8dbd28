# SPDX-License-Identifier: GPL-2.0
"""A network to measure and to test on: a server and the world outside, two namespaces joined by a veth pair.

    NAME-outside  eth0 198.18.0.2 ─────── eth0 198.18.0.1  NAME-server
                       2001:2:0:18::2     2001:2:0:18::1

Addresses are those set aside for benchmarks (RFC 2544, RFC 5180). The server's default route leads outside, so that
answers to spoofed sources have somewhere to go; the outside end carries an XDP program, without which frames
sent by XDP would not arrive; it drops the answers to spoofed sources.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xdpguard.dataplane import kernel
from xdpguard.net.links import Links

INTERFACE = "eth0"
SERVER4, OUTSIDE4 = "198.18.0.1", "198.18.0.2"
SERVER6, OUTSIDE6 = "2001:2:0:18::1", "2001:2:0:18::2"
SERVER_MAC, OUTSIDE_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
# More clients on the outside end: .10 to .19, and ::10 to ::19.
CLIENTS4 = [f"198.18.0.{number}" for number in range(10, 20)]
CLIENTS6 = [f"2001:2:0:18::{number}" for number in range(10, 20)]

_RECORDS = Path("/run/xdpguard-lab")
_NAMESPACES = Path("/run/netns")
# The sources a flood draws from by default. Answers to them end at the outside end: what became of them there would be
# work done on the core that is being measured.
SPOOFED4, SPOOFED6 = "16.0.0.0/4", "2001:db8::/96"


def _insn(code: int, registers: int = 0, offset: int = 0, value: int = 0) -> bytes:
    """An instruction of BPF: ``struct bpf_insn``, little-endian."""
    return struct.pack("<BBhi", code, registers, offset, value)


# Drops what goes to a spoofed source, passes the rest.
_XDP_OUTSIDE = b"".join(
    (
        _insn(0x61, 0x12, 0),  # r2 = ctx->data
        _insn(0x61, 0x13, 4),  # r3 = ctx->data_end
        _insn(0xB7, 0x00, 0, 2),  # r0 = XDP_PASS
        _insn(0xBF, 0x24),  # r4 = r2
        _insn(0x07, 0x04, 0, 42),  # r4 += 42
        _insn(0x2D, 0x34, 10),  # if r4 > r3: exit
        _insn(0x69, 0x25, 12),  # r5 = EtherType
        _insn(0x55, 0x05, 4, 0x0008),  # if it is not IPv4: to IPv6
        _insn(0x71, 0x25, 30),  # r5 = first octet of the destination
        _insn(0x57, 0x05, 0, 0xF0),  # r5 &= 0xf0
        _insn(0x55, 0x05, 5, 0x10),  # if it is not 16/4: exit
        _insn(0x05, 0x00, 3),  # to drop
        _insn(0x55, 0x05, 3, 0xDD86),  # if it is not IPv6: exit
        _insn(0x61, 0x25, 38),  # r5 = first four octets of the destination
        _insn(0x56, 0x05, 1, -0x47F2FEE0),  # if they are not 2001:db8 (in memory: 0xb80d0120): exit
        _insn(0xB7, 0x00, 0, 1),  # r0 = XDP_DROP
        _insn(0x95),  # exit
    )
)


class Lab:
    """One lab. ``up`` is idempotent; use as a context manager to have it removed at the end.

    A lab made with ``owner`` (a process id) is removed by the next ``up`` of any lab once that process has ended.
    ``interface`` is the name of either end; that of no other interface here where `split_cores` is used, because the
    kernel names a receiver's thread after the interface alone, whatever namespace that is in.
    """

    def __init__(self, name: str = "xglab", owner: int = 0, interface: str = INTERFACE) -> None:
        self.name = name
        self.interface = interface
        self.server = f"{name}-server"
        self.outside = f"{name}-outside"
        self._owner = owner

    def up(self) -> None:
        """Makes what is missing."""
        remove_orphans()
        try:
            self._make()
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Removes everything."""
        for namespace in (self.server, self.outside):
            if (_NAMESPACES / namespace).exists():
                _run(["ip", "netns", "del", namespace])
        self._record.unlink(missing_ok=True)

    def is_up(self) -> bool:
        """Whether both namespaces and both ends are there."""
        return self._record.exists() and all(
            (_NAMESPACES / namespace).exists() and _has_link(namespace, self.interface)
            for namespace in (self.server, self.outside)
        )

    def __enter__(self) -> Lab:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def run(self, namespace: str, command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs a command in a namespace to its end, at most a minute."""
        return subprocess.run(
            ["ip", "netns", "exec", namespace, *command],
            text=True,
            capture_output=True,
            timeout=options.pop("timeout", 60),
            check=options.pop("check", True),
            **options,
        )

    def start(self, namespace: str, command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        """Starts a command in a namespace; the caller ends it."""
        return subprocess.Popen(["ip", "netns", "exec", namespace, *command], text=True, **options)

    def split_cores(self) -> int:
        """Gives the server's receiver a thread on the last core; returns the core that is left to the sender.

        Otherwise generator and receiver share a core. With one core only they still do. A veth has a receiver to be
        given a thread only while a program is attached to it.
        """
        self.run(self.server, ["sh", "-c", f"echo 1 > /sys/class/net/{self.interface}/threaded"])
        cores = sorted(os.sched_getaffinity(0))
        for thread in _napi_threads(self.interface):
            os.sched_setaffinity(thread, {cores[-1]})
            # As an interrupt would, it goes before any process of that core; else the ring fills while one runs there.
            os.setpriority(os.PRIO_PROCESS, thread, -20)
        return cores[0]

    @property
    def _record(self) -> Path:
        return _RECORDS / f"{self.name}.json"

    def _make(self) -> None:
        for namespace in (self.server, self.outside):
            if not (_NAMESPACES / namespace).exists():
                _run(["ip", "netns", "add", namespace])
        self._write_record()
        if not all(_has_link(namespace, self.interface) for namespace in (self.server, self.outside)):
            for namespace in (self.server, self.outside):
                if _has_link(namespace, self.interface):
                    _run(["ip", "-n", namespace, "link", "del", self.interface])
            _run(
                f"ip -n {self.server} link add {self.interface} address {SERVER_MAC} type veth"
                f" peer name {self.interface} address {OUTSIDE_MAC} netns {self.outside}".split()
            )
        for namespace in (self.server, self.outside):
            self._quiet(namespace)
        self._address(self.server, [f"{SERVER4}/24"], [f"{SERVER6}/64"])
        self._address(
            self.outside,
            [f"{address}/24" for address in (OUTSIDE4, *CLIENTS4)],
            [f"{address}/64" for address in (OUTSIDE6, *CLIENTS6)],
        )
        for namespace in (self.server, self.outside):
            _run(["ip", "-n", namespace, "link", "set", "lo", "up"])
            _run(["ip", "-n", namespace, "link", "set", self.interface, "up"])
            # With offload, checksums in captures would not be final. Where nobody has ethtool, nobody captures.
            if shutil.which("ethtool"):
                self.run(namespace, ["ethtool", "-K", self.interface, "tx", "off"])
        self._neighbours()
        _run(["ip", "-n", self.server, "route", "replace", "default", "via", OUTSIDE4])
        _run(["ip", "-n", self.server, "-6", "route", "replace", "default", "via", OUTSIDE6])
        self._pass_outside()

    def _write_record(self) -> None:
        _RECORDS.mkdir(mode=0o700, exist_ok=True)
        inodes = {name: (_NAMESPACES / name).stat().st_ino for name in (self.server, self.outside)}
        self._record.write_text(json.dumps({"owner": self._owner, "namespaces": inodes}), encoding="utf-8")

    def _quiet(self, namespace: str) -> None:
        """No address detection, router solicitations, link-local addresses: what is counted is what is sent."""
        for key, value in (("accept_dad", 0), ("router_solicitations", 0), ("addr_gen_mode", 1), ("disable_ipv6", 0)):
            path = f"/proc/sys/net/ipv6/conf/{self.interface}/{key}"
            self.run(namespace, ["sh", "-c", f"echo {value} > {path}"])

    def _address(self, namespace: str, ipv4: Sequence[str], ipv6: Sequence[str]) -> None:
        for address in ipv4:
            _run(["ip", "-n", namespace, "addr", "replace", address, "dev", self.interface])
        for address in ipv6:
            _run(["ip", "-n", namespace, "addr", "replace", address, "dev", self.interface, "nodad"])

    def _neighbours(self) -> None:
        for address in (OUTSIDE4, *CLIENTS4, OUTSIDE6, *CLIENTS6):
            _neighbour(self.server, self.interface, address, OUTSIDE_MAC)
        for address in (SERVER4, SERVER6):
            _neighbour(self.outside, self.interface, address, SERVER_MAC)

    def _pass_outside(self) -> None:
        links = Links()
        link = links.get(self.interface, self.outside)
        if link.xdp is not None:
            return
        program = kernel.load_xdp(_XDP_OUTSIDE, "lab_outside")
        try:
            links.attach(link, program, "native", None)
        finally:
            os.close(program)


def is_lab_end(namespace: str, interface: str) -> bool:
    """Whether an interface is a veth end in a namespace that a lab made (and not another one of that name)."""
    path = _NAMESPACES / namespace
    if not path.exists():
        return False
    for record in _RECORDS.glob("*.json"):
        made = json.loads(record.read_text(encoding="utf-8"))["namespaces"]
        if made.get(namespace) == path.stat().st_ino:
            return any(link.name == interface and link.kind == "veth" for link in Links().all(namespace))
    return False


def remove_orphans() -> None:
    """Removes labs whose owner did not live to do it."""
    for record in _RECORDS.glob("*.json"):
        owner = json.loads(record.read_text(encoding="utf-8"))["owner"]
        if owner and not Path(f"/proc/{owner}").exists():
            Lab(record.stem).down()


def _napi_threads(interface: str) -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_text(encoding="ascii", errors="replace").startswith(f"napi/{interface}-"):
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found


def _has_link(namespace: str, interface: str) -> bool:
    if not (_NAMESPACES / namespace).exists():
        return False
    return any(link.name == interface for link in Links().all(namespace))


def _neighbour(namespace: str, interface: str, address: str, mac: str) -> None:
    _run(["ip", "-n", namespace, "neigh", "replace", address, "lladdr", mac, "dev", interface, "nud", "permanent"])


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
