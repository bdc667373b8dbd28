# SPDX-License-Identifier: GPL-2.0
"""Building blocks of a lab's ends: the programs on them, and the commands that create and pin them."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

from xdpguard.closeable import opened
from xdpguard.dataplane.sys import kernel
from xdpguard.net.links import Links

NAMESPACES = Path("/run/netns")


def insn(code: int, registers: int = 0, offset: int = 0, value: int = 0) -> bytes:
    """Encode a BPF instruction: ``struct bpf_insn``, little-endian."""
    return struct.pack("<BBhi", code, registers, offset, value)


# Drops what is sent to a spoofed source, passes the rest.
XDP_OUTSIDE = b"".join(
    (
        insn(0x61, 0x12, 0),  # r2 = ctx->data
        insn(0x61, 0x13, 4),  # r3 = ctx->data_end
        insn(0xB7, 0x00, 0, 2),  # r0 = XDP_PASS
        insn(0xBF, 0x24),  # r4 = r2
        insn(0x07, 0x04, 0, 42),  # r4 += 42
        insn(0x2D, 0x34, 10),  # if r4 > r3: exit
        insn(0x69, 0x25, 12),  # r5 = EtherType
        insn(0x55, 0x05, 4, 0x0008),  # if not IPv4: to IPv6
        insn(0x71, 0x25, 30),  # r5 = first byte of the destination
        insn(0x57, 0x05, 0, 0xF0),  # r5 &= 0xf0
        insn(0x55, 0x05, 5, 0x10),  # if not 16/4: exit
        insn(0x05, 0x00, 3),  # to drop
        insn(0x55, 0x05, 3, 0xDD86),  # if not IPv6: exit
        insn(0x61, 0x25, 38),  # r5 = first four bytes of the destination
        insn(0x56, 0x05, 1, -0x47F2FEE0),  # if not 2001:db8 (in memory: 0xb80d0120): exit
        insn(0xB7, 0x00, 0, 1),  # r0 = XDP_DROP
        insn(0x95),  # exit
    )
)
XDP_PASS = insn(0xB7, 0x00, 0, 2) + insn(0x95)  # r0 = XDP_PASS; exit


def attach_own(namespace: str, interface: str, program: bytes, name: str) -> None:
    """Attach one of the lab's own programs, in native mode, to an interface that has none."""
    links = Links()
    link = links.get(interface, namespace)
    if link.xdp is not None:
        return
    with opened(kernel.load_xdp(program, name)) as descriptor:
        links.attach(link, descriptor, "native", None)


def pin_receivers(interface: str, core: int) -> None:
    """Pin the receive threads of all interfaces whose names begin with ``interface``, in any namespace, to a core."""
    for thread in _napi_threads(interface):
        os.sched_setaffinity(thread, {core})
        # Like an interrupt, it must preempt any process on that core; otherwise the ring fills while one runs there.
        os.setpriority(os.PRIO_PROCESS, thread, -20)


def has_link(namespace: str, interface: str) -> bool:
    """Return whether the namespace exists and has such an interface."""
    if not (NAMESPACES / namespace).exists():
        return False
    return any(link.name == interface for link in Links().all(namespace))


def neighbour(namespace: str, interface: str, address: str, mac: str) -> None:
    """Create a permanent neighbour entry, so that no neighbour discovery is sent, and counted."""
    run(["ip", "-n", namespace, "neigh", "replace", address, "lladdr", mac, "dev", interface, "nud", "permanent"])


def run(command: Sequence[str]) -> None:
    """Run a command that must succeed."""
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)


def _napi_threads(interface: str) -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_text(encoding="ascii", errors="replace").startswith(f"napi/{interface}-"):
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found
