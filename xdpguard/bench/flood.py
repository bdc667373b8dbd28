# SPDX-License-Identifier: GPL-2.0
"""Send a flood of live XDP frames from one end of a lab to the other: some millions of packets/s on one core.

Bounded in time and count, and only from a veth end in a namespace that a lab created.
"""

from __future__ import annotations

import ipaddress
import select
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xdpguard.bench.wire import INTERFACE, OUTSIDE_MAC, SERVER_MAC, is_lab_end
from xdpguard.closeable import Closeable
from xdpguard.dataplane.build.assertions import asserted
from xdpguard.dataplane.build.cflags import header_flags
from xdpguard.dataplane.build.compiler import import_bcc
from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.sys.layouts.base import Layout, octets, packer, u32
from xdpguard.dataplane.sys.source import source_folder
from xdpguard.errors import UsageError
from xdpguard.net.links import Links
from xdpguard.net.netns import entered

KINDS = {"syn": 0x02, "ack": 0x10, "rst": 0x04, "synack": 0x12, "udp": 0, "malformed": 0x02}
MAX_SECONDS = 60.0
MAX_COUNT = 100_000_000
BATCH = 64  # frames between two runs of the receiver; a veth's ring holds 256
_CHUNK = 1 << 18  # frames a test run at full speed
_PACE = 0.1  # seconds a test run when paced
_STEADY = 20_000  # frames/s; from here on the program itself does the pacing


@dataclass(frozen=True)
class Flood:
    """What to send. ``source`` is an address, or a prefix to draw from; ``rate`` in packets/s, 0 for full speed."""

    kind: str
    source: str
    destination: str
    port: int = 80
    size: int = 60
    rate: int = 0
    seconds: float = 5.0
    count: int = MAX_COUNT


@dataclass(frozen=True)
class Sent:
    """Packets sent, and how many of them were lost because the receiver's ring was full. Time in seconds."""

    packets: int
    lost: int
    seconds: float


class Sender(Closeable):
    """A flood that can be sent repeatedly from an end of a lab. Use as a context manager."""

    def __init__(self, flood: Flood, namespace: str, interface: str = INTERFACE) -> None:
        if not is_lab_end(namespace, interface):
            raise UsageError(
                f"{interface} in {namespace} is not a veth end that the lab created", "see netns-lab/lab status"
            )
        if flood.seconds > MAX_SECONDS or flood.count > MAX_COUNT:
            raise UsageError(f"a flood is limited to {MAX_SECONDS:.0f} seconds and {MAX_COUNT} packets", "ask for less")
        self._flood, self._namespace, self._interface = flood, namespace, interface
        self._ifindex = Links().get(interface, namespace).ifindex
        self._frame, settings = _template(flood)
        self._module, self._program = _compile(flood, self._frame, self._ifindex)
        kernel.update(self._module["template_map"].map_fd, bytes(4), settings)

    def send(self) -> Sent:
        """Send the flood once."""
        with entered(self._namespace):
            before = _lost(self._interface)
            packets, seconds = _send(self._flood, self._program, self._frame, self._ifindex)
            return Sent(packets, _lost(self._interface) - before, seconds)

    def close(self) -> None:
        """Free the program and its maps."""
        self._module.cleanup()


def send(flood: Flood, namespace: str, interface: str = INTERFACE) -> Sent:
    """Send a flood once."""
    with Sender(flood, namespace, interface) as sender:
        return sender.send()


def _lost(interface: str) -> int:
    """Return the frames that the interface could not pass on (tx_dropped)."""
    for line in Path("/proc/thread-self/net/dev").read_text(encoding="ascii").splitlines():
        name, _, numbers = line.strip().partition(":")
        if name == interface:
            return int(numbers.split()[11])
    return 0


def _send(flood: Flood, program: int, frame: bytes, ifindex: int) -> tuple[int, float]:
    begin = time.monotonic()
    end = begin + flood.seconds
    done = 0
    most = max(1, int(2 * _PACE * flood.rate))  # a machine that is too slow must not catch up past the end
    while done < flood.count and time.monotonic() < end:
        chunk = min(_CHUNK, flood.count - done)
        if flood.rate:
            due = min(int((time.monotonic() - begin + _PACE) * flood.rate), int(flood.seconds * flood.rate))
            chunk = min(chunk, due - done, most)
        if chunk > 0:
            kernel.test_run(program, frame, chunk, ifindex, BATCH)
            done += chunk
        if flood.rate:
            select.select([], [], [], max(0.0, begin + done / flood.rate - time.monotonic()))
    return done, time.monotonic() - begin


def _compile(flood: Flood, frame: bytes, ifindex: int) -> tuple[Any, int]:
    """Compile; return the module, which owns the maps, and the program's descriptor."""
    ipv6 = ":" in flood.destination
    switches = {
        "FRAME": len(frame),
        "FRAME_ROOM": _room(len(frame)),
        "SOURCE_AT": 34 if ipv6 else 26,
        "L4_AT": 54 if ipv6 else 34,
        "TCP": int(flood.kind != "udp"),
        "IPV4": int(not ipv6),
        "IFINDEX": ifindex,
    }
    bcc = import_bcc()
    text = (source_folder() / "bench" / "flood.c").read_text(encoding="utf-8")
    text += "\n" + asserted([_layout(len(frame))], {})
    flags = [*header_flags(source_folder()), *(f"-DXG_{name}={value}" for name, value in switches.items())]
    module = bcc.BPF(text=text.encode(), cflags=flags)
    return module, int(module.load_func("flood", bcc.BPF.XDP).fd)


def _room(frame: int) -> int:
    """Return the bytes that a frame takes in the template, whole words."""
    return frame + -frame % 4


def _layout(frame: int) -> type[Layout]:
    """Return ``struct xg_flood_template`` of flood.c for frames of so many bytes."""
    words = [(name, u32) for name in ("ip_sum", "l4_sum", "random_port", "interval")]
    described = (("frame", octets(_room(frame))), ("source", octets(4)), ("source_mask", octets(4)), *words)
    return type("FloodTemplate", (Layout,), {"_fields_": described})


def _template(flood: Flood) -> tuple[bytes, bytes]:
    """Return the frame, and ``struct xg_flood_template`` of flood.c."""
    network = ipaddress.ip_network(flood.source)
    destination = ipaddress.ip_address(flood.destination)
    source = network.network_address
    if source.version != destination.version:
        raise UsageError("source and destination have different IP versions", "use one IP version for both")
    free = min(network.max_prefixlen - network.prefixlen, 32)
    l4 = _transport(flood)
    header = 14 + (20 if source.version == 4 else 40)
    payload = bytes(max(0, flood.size - header - len(l4)))
    if flood.kind == "udp":
        l4 = struct.pack("!HHHH", 40_000, flood.port, 8 + len(payload), 0)
    else:
        payload = b""
    protocol = 17 if flood.kind == "udp" else 6
    body = l4 + payload
    length = len(body) + (100 if flood.kind == "malformed" else 0)  # beyond the frame
    if source.version == 4:
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0x4000, 64, protocol, 0)
        ip += source.packed + destination.packed
        kind = 0x0800
    else:
        ip = struct.pack("!IHBB", 6 << 28, length, protocol, 64) + source.packed + destination.packed
        kind = 0x86DD
    mac = bytes.fromhex(SERVER_MAC.replace(":", "")) + bytes.fromhex(OUTSIDE_MAC.replace(":", ""))
    frame = (mac + struct.pack("!H", kind) + ip + body).ljust(max(60, flood.size), b"\0")
    pseudo = source.packed + destination.packed + struct.pack("!II", len(body), protocol)
    last = source.packed[-4:]
    # Native words, as the program adds them; varying fields are subtracted from the sums, or are zero here.
    port = int.from_bytes(l4[:2], sys.byteorder)
    ip_sum = _sum(ip) - _sum(last) if source.version == 4 else 0
    l4_sum = _sum(pseudo + body) - _sum(last) - port
    mask = struct.pack("!I", (1 << free) - 1)
    fixed = network.num_addresses == 1
    settings = packer(_layout(len(frame))).pack(frame, last, mask, ip_sum, l4_sum, int(not fixed), _interval(flood))
    return frame, settings


def _interval(flood: Flood) -> int:
    """Return the nanoseconds between two frames; 0 if the program does no pacing."""
    return 1_000_000_000 // flood.rate if flood.rate >= _STEADY else 0


def _transport(flood: Flood) -> bytes:
    if flood.kind == "udp":
        return bytes(8)
    number = 1 if KINDS[flood.kind] & 0x10 else 0
    return struct.pack("!HHIIBBHHH", 40_000, flood.port, 0, number, 0x50, KINDS[flood.kind], 64_240, 0, 0)


def _sum(data: bytes) -> int:
    padded = data + bytes(len(data) % 2)
    return sum(struct.unpack(f"={len(padded) // 2}H", padded))
