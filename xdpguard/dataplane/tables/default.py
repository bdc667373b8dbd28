# SPDX-License-Identifier: GPL-2.0
"""The default in the kernel: its mode, and what it has cut or would have (bpf/stages/default.h)."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Literal, NamedTuple

from xdpguard.closeable import opened
from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import settings
from xdpguard.net.conntrack import Flow

DefaultMode = Literal["pass", "shadow", "enforce"]
_MODES: tuple[DefaultMode, ...] = ("pass", "shadow", "enforce")  # enum xg_default_mode


class InForce(NamedTuple):
    """The default in force; ``strict_udp``: of UDP only what answers belongs to a socket."""

    mode: DefaultMode
    strict_udp: bool


class Cut(NamedTuple):
    """Packets from a source (4 or 16 bytes) that were cut, or would have been.

    ``port``: the destination's; of ICMP the type; 0 for other protocols. ``last``: Unix time of the last one.
    """

    source: bytes
    protocol: int
    port: int
    packets: int
    bytes: int
    last: float


def write(pins: Pins, wanted: InForce) -> None:
    """Put a default in force, for every interface at once."""
    with _settings(pins) as descriptor, settings.changing(descriptor) as fields:
        fields[settings.DEFAULT_DENY] = _MODES.index(wanted.mode)
        fields[settings.DEFAULT_STRICT] = int(wanted.strict_udp)


def read(pins: Pins) -> InForce:
    """Read the default in force."""
    with _settings(pins) as descriptor:
        fields = abi.SETTINGS.unpack(kernel.lookup(descriptor, bytes(4), abi.SETTINGS.size) or b"")
    number = fields[settings.DEFAULT_DENY]
    return InForce(_MODES[number] if number < len(_MODES) else "enforce", bool(fields[settings.DEFAULT_STRICT]))


def cuts(pins: Pins) -> list[Cut]:
    """Read what was cut, or would have been, since that was cleared."""
    begun = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    with opened(pins.open("cuts", abi.CUT_KEY.size, abi.CUT.size)) as descriptor:
        rows = kernel.pairs(descriptor, abi.CUT_KEY.size, abi.CUT.size)
    found = []
    for key, value in rows.items():
        source, port, protocol, version = abi.CUT_KEY.unpack(key)
        packets, size, last = abi.CUT.unpack(value)
        found.append(Cut(source[:4] if version == 4 else source, protocol, port, packets, size, begun + last / 1e9))
    return found


def clear_cuts(pins: Pins) -> None:
    """Begin to count anew."""
    with opened(pins.open("cuts", abi.CUT_KEY.size, abi.CUT.size)) as descriptor:
        for key in kernel.pairs(descriptor, abi.CUT_KEY.size, abi.CUT.size):
            kernel.delete(descriptor, key)


def remember(pins: Pins, flows: Iterable[Flow]) -> None:
    """Remember that something was sent to these remote ends just now. Full: the least recently used are evicted."""
    at = time.monotonic_ns().to_bytes(8, sys.byteorder)
    found: dict[str, list[bytes]] = {}
    for it in flows:
        address, version = it.remote.ljust(16, b"\0"), 4 if len(it.remote) == 4 else 6
        ports = it.remote_port.to_bytes(2, "big"), it.local_port.to_bytes(2, "big")
        found.setdefault(_map_of(it), []).append(abi.SENT_KEY.pack(address, *ports, it.protocol, version))
    for name, keys in found.items():
        with opened(pins.open(name, abi.SENT_KEY.size, 8)) as descriptor:
            for key in keys:
                kernel.update(descriptor, key, at)


def _map_of(its: Flow) -> str:
    """Return where an exchange is remembered: xg_sent_map_of() of bpf/sent.h."""
    if its.protocol == socket.IPPROTO_TCP:
        return "connections"
    return "served" if its.protocol == socket.IPPROTO_UDP and its.local_port < abi.SENT_CLIENTS else "sent"


def _settings(pins: Pins) -> AbstractContextManager[int]:
    return opened(pins.open("settings", 4, abi.SETTINGS.size))
