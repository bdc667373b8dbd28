# SPDX-License-Identifier: GPL-2.0
"""The SYN guard's state of each interface, and what it knows of the addresses around it."""

from __future__ import annotations

import mmap
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from xdpguard.closeable import opened
from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import guardpolicy
from xdpguard.net import locals as destinations
from xdpguard.policy.target import Prefix

ALWAYS = (1 << 64) - 1
CAUSES = ("", "a listener's queue is full", "SYN rate", "segments of no connection")  # enum xg_flood_cause
_ZERO = bytes(4)
_ONE = (1).to_bytes(4, "little")
LOCAL, BROADCAST = destinations.LOCAL, destinations.BROADCAST
MUTE_NOT, MUTE_TOLD, MUTE_FOUND = 0, 1, 2  # enum xg_mute
_GENERATIONS = (1 << 32) - 1


class State(NamedTuple):
    """``struct xg_guard``. Times are coarse monotonic, ns; ``until`` 0: idle, ALWAYS: without an end."""

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
    unmatched: int
    proved: int
    calm: int
    resets: int
    unknown: int
    signed_syns: int
    mute: int
    more_macs: int
    locals: int
    zero: int
    peer_at: int

    def active(self) -> bool:
        """Return whether the guard acts on packets at this moment."""
        return self.until > time.monotonic_ns()

    def muted(self) -> bool:
        """Return whether it answers no SYN because answers would not arrive, as the controller or the program found."""
        return self.mute != MUTE_NOT


class Surroundings(NamedTuple):
    """What the guard of an interface must know about its link and its host.

    ``mac``: the interface's own address; empty: every frame is ours. ``macs``: those of the devices above it.
    ``pass_unknown``: a segment without a socket may belong to someone else. ``mute``: answers would not arrive, so
    none are sent. ``locals``: LOCAL or BROADCAST for each prefix; empty: every destination counts as this host's own.
    ``ports``: of UDP sockets that are bound to devices above. ``shared``: devices of other namespaces take frames for
    other addresses.
    """

    mac: bytes
    pass_unknown: bool = False
    mute: bool = False
    macs: frozenset[bytes] = frozenset()
    locals: Mapping[Prefix, int] = MappingProxyType({})
    ports: frozenset[int] = frozenset()
    shared: bool = False


def settled(state: State, mode: str, around: Surroundings) -> State:
    """Return a state updated with its surroundings, and started or stopped as the mode says.

    While answers do not arrive, MUTE_FOUND stays as the data plane set it, because the data plane resets it itself.
    """
    return state._replace(
        until=_until(state, mode),
        mac=int.from_bytes(around.mac, "little"),
        pass_unknown=int(around.pass_unknown),
        mute=(state.mute or MUTE_TOLD) if around.mute else MUTE_NOT,
        more_macs=int(bool(around.macs)),
    )


def _until(state: State, mode: str) -> int:
    return ALWAYS if mode == "always" else 0 if mode == "off" or state.until == ALWAYS else state.until


def read(pins: Pins, name: str, netns: str) -> State:
    """Return an interface's state. Raise XdpguardError when it has none."""
    with opened(pins.open_link("guard", name, netns, abi.GUARD.size)) as descriptor:
        return state_of(descriptor)


def surround(pins: Pins, name: str, netns: str, around: Surroundings) -> None:
    """Write an interface's tables of addresses and of devices above it."""
    with opened(pins.open_link("above", name, netns, 4)) as descriptor:
        _synchronize(descriptor, 4, dict.fromkeys(_above(around), _ONE))
    macs = {abi.MAC.pack(mac): _ONE for mac in around.macs}
    with opened(pins.open_link("macs", name, netns, 4, abi.MAC.size)) as descriptor:
        _synchronize(descriptor, abi.MAC.size, dict(sorted(macs.items())[: abi.MACS]))
    for version, layout in ((4, abi.PREFIX4), (6, abi.PREFIX6)):
        wanted = {
            layout.pack(prefix.length, prefix.network): kind.to_bytes(4, "little")
            for prefix, kind in around.locals.items()
            if prefix.version == version
        }
        with opened(pins.open_link(f"locals{version}", name, netns, 4, layout.size)) as descriptor:
            _synchronize(descriptor, layout.size, wanted)


def _above(around: Surroundings) -> list[bytes]:
    """Return the keys of the map ``above``, as many as it holds."""
    found = [(abi.ABOVE_SHARED, 0)] if around.shared else []
    found += [(abi.ABOVE_PORT, it) for it in sorted(around.ports)]
    return [(kind << 16 | number).to_bytes(4, "little") for kind, number in found[: abi.ABOVE]]


def settle(pins: Pins, name: str, netns: str, mode: str, around: Surroundings) -> None:
    """Update an interface's guard with its surroundings, and start or stop it as the mode says."""
    surround(pins, name, netns, around)
    with opened(pins.open_link("guard", name, netns, abi.GUARD.size)) as descriptor:
        state = state_of(descriptor)
        new = settled(state, mode, around)._replace(link=pins.link_number(name, netns))
        # Always a new number: a process killed earlier may have changed the tables without changing it.
        generation = state.locals % _GENERATIONS + 1 if around.locals else 0
        write(descriptor, state, new._replace(locals=generation))


def follow_mode(pins: Pins, name: str, netns: str) -> None:
    """Start or stop an interface's guard as the mode of the policy in force says; keep its surroundings."""
    mode = guardpolicy.read(pins).mode
    with opened(pins.open_link("guard", name, netns, abi.GUARD.size)) as descriptor:
        state = state_of(descriptor)
        write(descriptor, state, state._replace(until=_until(state, mode)))


def _synchronize(descriptor: int, key_size: int, wanted: Mapping[bytes, bytes]) -> None:
    """Make a map of four-byte values hold exactly what is wanted."""
    held = kernel.pairs(descriptor, key_size, 4)
    for key, value in wanted.items():
        if held.get(key) != value:
            kernel.update(descriptor, key, value)
    for key in held.keys() - wanted.keys():
        kernel.delete(descriptor, key)


def write(descriptor: int, before: State, after: State) -> None:
    """Write only the fields that differ: the data plane writes some of the others at the same time."""
    with mmap.mmap(descriptor, mmap.PAGESIZE) as memory:
        for (kind, offset), old, new in zip(abi.GUARD_FIELDS, before, after, strict=True):
            if old != new:
                # One store each: a program on another CPU reads either the old value or the new one.
                kind.from_buffer(memory, offset).value = new


def state_of(descriptor: int) -> State:
    """Return the state in an opened map."""
    raw = kernel.lookup(descriptor, _ZERO, abi.GUARD.size)
    assert raw is not None  # an array always has its entry
    return State(*abi.GUARD.unpack(raw))
