# SPDX-License-Identifier: GPL-2.0
"""The SYN guard's maps: the policy all interfaces of an instance share, and each interface's own state."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from xdpguard.dataplane import abi, kernel
from xdpguard.dataplane.pins import Pins
from xdpguard.policy.model import Guard
from xdpguard.policy.target import parse_interval, parse_ports

ALWAYS = (1 << 64) - 1
CAUSES = ("", "a listener's queue is full", "SYN rate", "segments of no connection")  # enum xg_flood_cause
_MODES = {"off": 0, "observe": 1, "auto": 2, "always": 3}  # enum xg_guard_mode
_RMEM_MAX = Path("/proc/sys/net/core/rmem_max")
_NS = 1_000_000_000
_ZERO = bytes(4)
_TICK = _NS // 100  # the coarse clock is this coarse at worst; no burst may be shorter


class State(NamedTuple):
    """``struct xg_guard``. Times are coarse monotonic, ns; ``until`` 0: idle, ALWAYS: for good."""

    until: int
    mac: int
    pass_unknown: int
    began: int
    floods: int
    cause: int
    port: int
    scans: int
    link: int
    window_began: int
    syns: int
    strangers: int
    proved: int
    calm: int
    resets: int

    def active(self) -> bool:
        """Whether the guard acts on packets at this moment."""
        return self.until > time.monotonic_ns()


def encode(guard: Guard, options: bool, scan: bool) -> bytes:
    """``struct xg_guard_policy``. ``options`` and ``scan`` switch off what the policy allows, while they are False."""
    window = parse_interval(guard.window)
    burst = int(parse_interval(guard.burst) * _NS)
    rates: list[int] = []
    for rate in (guard.syn_rate, guard.answer_rate, guard.connection_rate, guard.reset_rate):
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
        int(_RMEM_MAX.read_text(encoding="ascii")),
        int(guard.scan_ports > 0 and scan),
        int(window * _NS),
        max(1, int(guard.flood_rate * window)) if guard.flood_rate else ALWAYS // 4,
        max(1, int(guard.unproved_rate * window)),
        int(parse_interval(guard.hold) * _NS),
        *rates,
        int.from_bytes(mask6[:8], "little"),
        int.from_bytes(mask6[8:], "little"),
        _mask(guard.prefix4, 32),
        0,
        *ports,
    )


def write_policy(pins: Pins, policy: bytes) -> None:
    """Puts a policy in force, for every interface at once."""
    descriptor = pins.open("guard_policy", 4, abi.GUARD_POLICY.size)
    try:
        kernel.update(descriptor, _ZERO, policy)
    finally:
        os.close(descriptor)


class InForce(NamedTuple):
    """What is to be known of the policy in force: its mode, and what only the controller switches on and off."""

    mode: str
    options: bool
    scan: bool


def read_policy(pins: Pins) -> InForce:
    """The policy in force."""
    descriptor = pins.open("guard_policy", 4, abi.GUARD_POLICY.size)
    try:
        raw = kernel.lookup(descriptor, _ZERO, abi.GUARD_POLICY.size)
    finally:
        os.close(descriptor)
    assert raw is not None  # an array always has its entry
    mode, options, _, scan = abi.GUARD_POLICY.unpack(raw)[:4]
    return InForce(next((name for name, number in _MODES.items() if number == mode), "off"), bool(options), bool(scan))


def settled(state: State, mode: str, mac: bytes, translated: bool) -> State:
    """A state with what it must know of its link, in which has begun or ended what the mode says."""
    until = ALWAYS if mode == "always" else 0 if mode == "off" or state.until == ALWAYS else state.until
    return state._replace(until=until, mac=int.from_bytes(mac, "little"), pass_unknown=int(translated))


def read(pins: Pins, name: str, netns: str) -> State:
    """An interface's state. XdpguardError when it has none."""
    with _opened(pins, name, netns) as descriptor:
        return state_of(descriptor)


def settle(pins: Pins, name: str, netns: str, mode: str, mac: bytes, translated: bool) -> None:
    """Tells an interface's guard what it must know of its link, and begins or ends what the mode says.

    ``translated``: addresses are translated in its namespace (NAT).
    """
    with _opened(pins, name, netns) as descriptor:
        state = state_of(descriptor)
        new = settled(state, mode, mac, translated)._replace(link=pins.link_number(name, netns))
        if new != state:
            kernel.update(descriptor, _ZERO, abi.GUARD.pack(*new))


@contextmanager
def _opened(pins: Pins, name: str, netns: str) -> Iterator[int]:
    descriptor = pins.open_link("guard", name, netns, abi.GUARD.size)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def state_of(descriptor: int) -> State:
    """The state in an opened map."""
    raw = kernel.lookup(descriptor, _ZERO, abi.GUARD.size)
    assert raw is not None  # an array always has its entry
    return State(*abi.GUARD.unpack(raw))


def _mask(length: int, width: int) -> bytes:
    return (((1 << length) - 1) << (width - length)).to_bytes(width // 8, "big")
