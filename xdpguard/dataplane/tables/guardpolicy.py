# SPDX-License-Identifier: GPL-2.0
"""The SYN guard's policy, which all interfaces of an instance share: ``struct xg_guard_policy``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from xdpguard.closeable import opened
from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.sys.layouts.guard import GuardPolicy
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.policy.duration import parse_interval
from xdpguard.policy.target import parse_ports

if TYPE_CHECKING:
    from xdpguard.policy.model import Guard

_MODES = {"off": 0, "observe": 1, "auto": 2, "always": 3}  # enum xg_guard_mode
_RMEM_MAX = Path("/proc/sys/net/core/rmem_max")
_NS = 1_000_000_000
_TICK = _NS // 100  # coarsest resolution of the coarse clock, ns; no burst may be shorter
_NEVER = ((1 << 64) - 1) // 4  # SYNs in a window
_ZERO = bytes(4)


def encode(guard: Guard, options: bool, scan: bool) -> bytes:
    """Return ``struct xg_guard_policy``. False ``options`` or ``scan`` switches off what the policy allows."""
    window = parse_interval(guard.window)
    burst = int(parse_interval(guard.burst) * _NS)
    rates: list[int] = []
    for rate in _rates(guard):
        rates += [_NS // rate if rate else 0, max(burst, _TICK)]
    ports = [0] * abi.PORT_WORDS
    for text in guard.exempt_ports:
        for port in parse_ports(text):
            if port.protocol == "tcp":
                ports[port.number >> 6] |= 1 << (port.number & 63)
    mask6 = _mask(guard.prefix6, 128)
    return abi.GUARD_POLICY.pack(
        _MODES[guard.mode],
        int(guard.options and options),
        _rmem_max(),
        int(guard.scan_ports > 0 and scan),
        int(window * _NS),
        max(1, int(guard.flood_rate * window)) if guard.flood_rate else _NEVER,
        max(1, int(guard.unproved_rate * window)),
        int(parse_interval(guard.hold) * _NS),
        *rates,
        int.from_bytes(mask6[:8], "little"),
        int.from_bytes(mask6[8:], "little"),
        _mask(guard.prefix4, 32),
        0,
        *ports,
    )


def _rmem_max() -> int:
    """Return net.core.rmem_max in bytes: one value for the whole host, in a kernel variable that no program can read.

    Older kernels show it in the initial network namespace only. Elsewhere return 0: the announced window scale may
    then be smaller than the kernel's, which costs throughput; a larger one would lose data.
    """
    try:
        return int(_RMEM_MAX.read_text(encoding="ascii"))
    except FileNotFoundError:
        return 0


def _rates(guard: Guard) -> tuple[int, ...]:
    return (
        guard.syn_rate,
        guard.answer_rate,
        guard.connection_rate,
        guard.reset_rate,
        guard.unknown_rate,
        guard.signed_rate,
    )


def write(pins: Pins, policy: bytes) -> None:
    """Put a policy in force, for every interface at once."""
    with opened(pins.open("guard_policy", 4, abi.GUARD_POLICY.size)) as descriptor:
        kernel.update(descriptor, _ZERO, policy)


class InForce(NamedTuple):
    """The policy in force: its mode, what only the controller switches on and off, and whether it limits connections
    by source.
    """

    mode: str
    options: bool
    scan: bool
    connections: bool = False


def in_force(pins: Pins) -> bytes:
    """Return the policy in force, ``struct xg_guard_policy``."""
    with opened(pins.open("guard_policy", 4, abi.GUARD_POLICY.size)) as descriptor:
        raw = kernel.lookup(descriptor, _ZERO, abi.GUARD_POLICY.size)
    assert raw is not None  # an array always has its entry
    return raw


def read(pins: Pins) -> InForce:
    """Read the policy in force."""
    policy = GuardPolicy.from_buffer_copy(in_force(pins))
    mode = next((name for name, number in _MODES.items() if number == policy.mode), "off")
    return InForce(mode, bool(policy.options), bool(policy.scan), bool(policy.connections.interval))


def _mask(length: int, width: int) -> bytes:
    return (((1 << length) - 1) << (width - length)).to_bytes(width // 8, "big")
