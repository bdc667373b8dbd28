# SPDX-License-Identifier: GPL-2.0
"""Filters on sockets: parsed from the command line, turned into the switches of bpf/tcp/."""

from __future__ import annotations

import re
from dataclasses import dataclass

from xdpguard.errors import UsageError
from xdpguard.policy.target import MAPPED, Prefix, parse_prefix
from xdpguard.tcp.names import ALL_STATES

Ports = tuple[int, int]
ALL_PORTS: Ports = (0, 65_535)
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


@dataclass(frozen=True)
class Filter:
    """Conditions on a socket. ``netns``: inode number of a namespace, 0 for all; ``family``: 4, 6, or 0 for both;
    ``local`` and ``remote``: prefixes; ports: first and last; ``states``: a bit set; ``longer``: a threshold that the
    program compares with (ns in a state, us of round-trip time); ``pid``: 0 for all.
    """

    netns: int = 0
    family: int = 0
    local: Prefix | None = None
    remote: Prefix | None = None
    local_ports: Ports = ALL_PORTS
    remote_ports: Ports = ALL_PORTS
    states: int = ALL_STATES
    longer: int = 0
    pid: int = 0

    def check(self) -> None:
        """Raise UsageError if nothing can match."""
        for name, prefix in (("local", self.local), ("remote", self.remote)):
            if prefix is not None and self.family and prefix.version != self.family:
                raise UsageError(f"--{name} {prefix} is not an IPv{self.family} address", "leave out --family")
        if self.local and self.remote and self.local.version != self.remote.version:
            raise UsageError(
                f"no connection can have the ends {self.local} and {self.remote}", "give both as IPv4 or both as IPv6"
            )

    def switches(self) -> dict[str, int]:
        """Return the compile-time switches of bpf/tcp/switches.h for this filter."""
        return {
            "NETNS": self.netns,
            "FAMILY": self.family,
            "STATES": self.states,
            "LONGER": self.longer,
            **_prefix_switches("LOCAL", self.local),
            **_prefix_switches("REMOTE", self.remote),
            "LOCAL_PORT_FIRST": self.local_ports[0],
            "LOCAL_PORT_LAST": self.local_ports[1],
            "REMOTE_PORT_FIRST": self.remote_ports[0],
            "REMOTE_PORT_LAST": self.remote_ports[1],
            "PID": self.pid,
        }


def parse_port_range(text: str) -> Ports:
    """Parse ``443`` or ``8000-8099``; empty means every port. Raise UsageError if the text is neither."""
    if not text:
        return ALL_PORTS
    match = _PORTS.fullmatch(text.strip())
    first = int(match[1]) if match else 1
    last = int(match[2] or match[1]) if match else 0
    if not 0 < first <= last <= ALL_PORTS[1]:
        raise UsageError(f"not a port or port range: {text[:40]!r}", "write 443 or 8000-8099, with 1 to 65535")
    return first, last


def parse_end(text: str) -> Prefix | None:
    """Parse an address or prefix; empty means any. Raise UsageError with what was expected."""
    return parse_prefix(text)[0] if text else None


def mask_halves(length: int) -> tuple[int, int]:
    """Return the mask of an IPv6 prefix length in two halves, as little-endian integers of its bytes in memory."""
    mask = (((1 << length) - 1) << (128 - length)).to_bytes(16, "big")
    return int.from_bytes(mask[:8], "little"), int.from_bytes(mask[8:], "little")


def _prefix_switches(name: str, prefix: Prefix | None) -> dict[str, int]:
    network, length = bytes(16), 0
    if prefix is not None and prefix.version == 4:
        network, length = MAPPED + prefix.network, prefix.length + 96
    elif prefix is not None:
        network, length = prefix.network, prefix.length
    high, low = mask_halves(length)
    return {
        f"{name}_HIGH": int.from_bytes(network[:8], "little"),
        f"{name}_LOW": int.from_bytes(network[8:], "little"),
        f"{name}_MASK_HIGH": high,
        f"{name}_MASK_LOW": low,
    }
