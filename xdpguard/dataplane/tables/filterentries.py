# SPDX-License-Identifier: GPL-2.0
"""What a set holds of each filter besides its rows: action, end, limit, tests of bytes (bpf/layouts/filters.h)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.tables.limitparts import Part, assigned
from xdpguard.errors import XdpguardError
from xdpguard.policy.limit import Limit
from xdpguard.policy.matching.model import Base, Bytes, Field, Match
from xdpguard.policy.rule import Mode

Action = Literal["drop", "pass", "count", "limit"]
TESTS = 64  # different tests of bytes in a set
_ACTIONS: dict[Action, int] = {"drop": 1, "pass": 2, "count": 3, "limit": 4}  # enum xg_filter_action
# enum xg_filter_state, by the values that all tests admit: 0 is any, 4 is that of no packet.
_STATES = {frozenset((0, 1)): 0, frozenset((1,)): 1, frozenset((0,)): 2, frozenset[int](): 4}
_PER = {"filter": 0, "source": 1, "source+port": 2}  # enum xg_filter_per
_BASES = {Base.LINK: 0, Base.NETWORK: 1, Base.TRANSPORT: 2, Base.INNER: 3}  # enum xg_filter_base
_COARSE = 20_000_000  # ns: a burst shorter than this needs the exact clock, as ticks are 1 to 10 ms long
_TICKS = 16  # in a ns
_TIMES = 1 << 40  # ticks that a bucket may be ahead: a small part of what the 48 bits of a source's time can tell
_COSTS = 1 << 44  # of a packet or a byte, before the shift: times the bytes of a frame it still fits 64 bits
_LATEST = (1 << 64) - 1  # ns of CLOCK_BOOTTIME


class FilterSetFull(XdpguardError):
    """A set cannot hold these filters."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the filters do not fit: {what}", "use fewer filters, or match addresses by shorter lists")


class ClassifierFilter(NamedTuple):
    """A filter as a set holds it. ``expires_ns``: CLOCK_BOOTTIME, 0: never; ``slot``: of its hit counters.

    ``held``: of a limit by source, the part of the buckets that it has in the set in force.
    """

    match: Match
    action: Action
    mode: Mode
    expires_ns: int
    slot: int
    limit: Limit | None = None
    held: Part | None = None


def entries(filters: Sequence[ClassifierFilter]) -> tuple[bytes, bytes]:
    """Return the entries of filters, and their tests of bytes."""
    tests: dict[Bytes, int] = {}
    if (count := sum(its.limit is not None for its in filters)) > abi.FILTER_LIMITS:
        raise FilterSetFull(f"{count} limits, of at most {abi.FILTER_LIMITS}")
    limits = [its for its in filters if its.limit and its.limit.per != "filter"]
    parts = assigned((its.slot for its in limits), {its.slot: its.held for its in limits if its.held})
    made = [_entry(its, tests, parts.get(its.slot, Part(0, 1))) for its in filters]
    return b"".join(made), b"".join(_test(test) for test in tests)


def _entry(its: ClassifierFilter, tests: dict[Bytes, int], part: Part) -> bytes:
    needed = 0
    for test in its.match.bytes:
        needed |= 1 << tests.setdefault(test, len(tests))
    if len(tests) > TESTS:
        raise FilterSetFull(f"more than {TESTS} different tests of bytes")
    shadow = int(its.mode == "shadow")
    fixed = _ACTIONS[its.action], shadow, _state(its.match)
    if its.limit is None:
        nothing = 0, 0, bytes(16), bytes(4), 0, 0
        return abi.FILTER.pack(its.expires_ns, needed, *nothing, its.slot, 0, 0, 0, 0, *fixed, 0)
    limit = its.limit
    per = _PER[limit.per]
    cost, shift, burst, precise, ticks = _rate(limit)
    masks = _mask(limit.prefix6, 16), _mask(limit.prefix4, 4)
    by_bytes = int(limit.unit == "bits")
    rest = its.slot, shift, by_bytes, precise, per, *fixed, ticks
    return abi.FILTER.pack(its.expires_ns, needed, cost, burst, *masks, part.at, part.size - 1, *rest)


def _rate(limit: Limit) -> tuple[int, int, int, int, int]:
    """Return a limit's cost and its shift, burst, whether it needs the exact clock, and the shift of its ticks."""
    amount, burst = limit.amount, limit.burst
    time = limit.seconds * 1_000_000_000 * _TICKS  # in which `amount` passes
    longest = burst * time // amount
    ticks = max(0, longest.bit_length() - _TIMES.bit_length() + 1)
    if limit.unit == "bits":
        time *= 8  # costs are those of a byte
    shift = max(0, min(40, _COSTS.bit_length() - (time // amount >> ticks).bit_length() - 1))
    cost = max(1, ((time << shift) // amount) >> ticks)
    return cost, shift, max(1, longest >> ticks), int(longest < _COARSE * _TICKS), ticks


def _mask(length: int, size: int) -> bytes:
    bits = size * 8
    return ((1 << bits) - (1 << bits - length)).to_bytes(size, "big")


def _state(match: Match) -> int:
    """Return what a filter wants of the packet's socket."""
    admitted = frozenset((0, 1))
    for test in match.tests:
        if test.field is Field.ESTABLISHED:
            admitted &= {value for first, last in test.ranges for value in range(first, last + 1)}
    return _STATES[admitted]


def _test(test: Bytes) -> bytes:
    """Return a test of bytes as the program reads it."""
    mask, value = (number.to_bytes(test.size, "big").ljust(16, b"\0") for number in (test.mask, test.value))
    return abi.FILTER_BYTES.pack(mask, value, test.offset, test.size, _BASES[test.base], int(test.negated))


def in_boottime(expires: float | None, boot_offset: float) -> int:
    """Return an end (Unix time) as the program compares it; one that has come is before now, never 0."""
    return 0 if expires is None else min(max(1, int((expires + boot_offset) * 1e9)), _LATEST)
