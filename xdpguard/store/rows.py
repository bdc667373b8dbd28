# SPDX-License-Identifier: GPL-2.0
"""Convert rules and hits to rows of the store and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from xdpguard.policy.hits import NO_SPLIT, Hits, Split
from xdpguard.policy.rule import Mode, NewRule, Part, Rule
from xdpguard.policy.target import KINDS, PROTOCOL_NUMBERS, Port, Prefix, Protocol, Target

COUNTS = "packets, bytes, established_packets, established_bytes, allowed_packets, allowed_bytes"
RULE = "id, mode, kind, target, version, network, length, reason, source, created, expires, slot"
NEW_RULE = "mode, kind, target, version, network, length, reason, source, created, expires, slot"
# For UPDATE: increments each column of COUNTS.
ADDED = ", ".join(f"{name} = {name} + ?" for name in COUNTS.split(", "))

_PROTOCOLS: dict[int, Protocol] = {number: name for name, number in PROTOCOL_NUMBERS.items()}
_WIDTHS = {0: 2, 4: 4, 6: 16}  # bytes of a row's network, by its version


def rule_of(row: Sequence[Any], others: tuple[Part, ...] = ()) -> Rule:
    """Return the rule in a row of RULE and COUNTS. Raise ValueError or KeyError if the row is not what was written."""
    number, mode, kind, _, version, network, length, reason, source, created, expires, slot, *counts = row
    if len(network) != _WIDTHS[version] or kind not in KINDS or (version and length > 8 * len(network)):
        raise ValueError(row)
    target: Target = Prefix(network, length) if version else Port(int.from_bytes(network, "big"), _PROTOCOLS[length])
    hits, split = hits_of(counts, mode)
    return Rule(number, kind, target, reason, source, created, expires, slot, *hits, mode, split, others)


def row_of(rule: NewRule, slot: int, mode: Mode) -> tuple[object, ...]:
    """Return a rule as a row of NEW_RULE."""
    target = rule.target
    if isinstance(target, Port):
        place: tuple[object, ...] = 0, target.number.to_bytes(2, "big"), PROTOCOL_NUMBERS[target.protocol]
    else:
        place = target.version, target.network, target.length
    return mode, rule.kind, str(target), *place, rule.reason, rule.source, rule.created, rule.expires, slot


def hits_of(counts: Sequence[int], mode: Mode) -> tuple[Hits, Split]:
    """Return the hits of an entry, in total and, for shadow mode, split, from the columns of COUNTS."""
    total = Hits(*counts[0:2])
    if mode == "enforce":
        return total, NO_SPLIT
    established, allowed = Hits(*counts[2:4]), Hits(*counts[4:6])
    other = Hits(*(a - b - c for a, b, c in zip(total, established, allowed, strict=True)))
    return total, Split(established, allowed, other)


def counts_of(hits: Hits | Split) -> tuple[int, ...]:
    """Return hits as the columns of COUNTS."""
    parts = (*hits.established, *hits.allowed) if isinstance(hits, Split) else (0, 0, 0, 0)
    return (*hits.total, *parts)


def around(prefix: Prefix) -> Iterator[tuple[bytes, int]]:
    """Yield network and length of every prefix that covers a prefix, the longest, which is the prefix itself, first."""
    width = len(prefix.network) * 8
    number = int.from_bytes(prefix.network, "big")
    for length in range(prefix.length, -1, -1):
        yield (number >> (width - length) << (width - length)).to_bytes(len(prefix.network), "big"), length
