# SPDX-License-Identifier: GPL-2.0
"""Values of ``[guard]``: durations with their bounds, bans, ports."""

from __future__ import annotations

from collections.abc import Iterator

from xdpguard.errors import UsageError
from xdpguard.policy.duration import parse_duration, parse_within
from xdpguard.policy.model import Guard
from xdpguard.policy.target import parse_ports

# Durations in [guard], with their bounds in seconds.
INTERVALS = {"window": (0.1, 10), "hold": (1, 600), "burst": (0.1, 600), "forget": (60, 10 * 365 * 86_400)}


def guard_faults(guard: Guard) -> Iterator[tuple[str, UsageError]]:
    """Yield the key and error of each value of ``[guard]`` that has the right type but is invalid."""
    for key, (least, most) in INTERVALS.items():
        try:
            parse_within(getattr(guard, key), least, most)
        except UsageError as error:
            yield key, error
    if not guard.bans:
        yield "bans", UsageError("the list is empty", "write at least one duration, such as 10m")
    for key in ("bans", "exempt_ports"):
        for entry in getattr(guard, key):
            try:
                parse_duration(entry) if key == "bans" else parse_ports(entry)
            except UsageError as error:
                yield key, error
