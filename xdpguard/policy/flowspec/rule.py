# SPDX-License-Identifier: GPL-2.0
"""A FlowSpec rule: its components, what it does, and the order in which rules are asked (RFC 8955, RFC 8956)."""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterable
from typing import Literal, NamedTuple

Action = Literal["drop", "pass", "count", "limit"]


class Component(enum.IntEnum):
    """The types of components, RFC 8955, 4.2.2; the last is of IPv6 alone, RFC 8956, 3.7."""

    DESTINATION = 1
    SOURCE = 2
    PROTOCOL = 3
    PORT = 4  # of the source or of the destination
    DESTINATION_PORT = 5
    SOURCE_PORT = 6
    ICMP_TYPE = 7
    ICMP_CODE = 8
    TCP_FLAGS = 9
    LENGTH = 10
    DSCP = 11
    FRAGMENT = 12
    FLOW_LABEL = 13


PREFIXES = (Component.DESTINATION, Component.SOURCE)
BITMASKS = (Component.TCP_FLAGS, Component.FRAGMENT)
LESS, GREATER, EQUAL = 4, 2, 1  # bits of a numeric operator
NOT, ALL = 2, 1  # bits of a bitmask operator: negated; all bits of the value, and not any
# Bits of a fragment component. IS: other than the first one.
DONT_FRAGMENT, IS_FRAGMENT, FIRST_FRAGMENT, LAST_FRAGMENT = 1, 2, 4, 8
_END, _AND = 0x80, 0x40


class Prefix(NamedTuple):
    """The bits of an address from ``offset`` to ``length``; IPv4 has no offset."""

    number: int
    length: int
    offset: int = 0


class Op(NamedTuple):
    """One comparison of a component. ``both``: it holds together with the one before, and not instead of it."""

    both: bool
    operator: int
    value: int


Value = Prefix | tuple[Op, ...]


class Does(NamedTuple):
    """What a filter does. ``rate``: packets or bytes a second, of a limit; ``shared``: all of its packets share it."""

    action: Action
    rate: float = 0
    unit: Literal["packets", "bytes"] = "packets"
    shared: bool = True


class Actions(NamedTuple):
    """The actions of a rule, RFC 8955, 7. ``rate``: bytes a second, 0 to discard; ``packets``: packets a second.

    ``further``: rules behind this one are asked, too (the terminal-action bit); ``sample``: the packet is sampled.
    """

    rate: float | None = None
    packets: float | None = None
    sample: bool = False
    further: bool = False


class Rule(NamedTuple):
    """What packets of an IP version a rule matches: all of its components, in the order of their types."""

    version: int
    components: tuple[tuple[Component, Value], ...]
    actions: Actions


def ordered(rules: Iterable[Rule]) -> list[Rule]:
    """Return rules in the order in which they are asked, those of IPv4 first (RFC 8955, 5.1; RFC 8956, 4)."""
    return sorted(rules, key=functools.cmp_to_key(_compare))


def _compare(one: Rule, other: Rule) -> int:
    if one.version != other.version:
        return one.version - other.version
    width = 32 if one.version == 4 else 128
    for (kind, value), (other_kind, other_value) in zip(one.components, other.components, strict=False):
        if kind != other_kind:
            return kind - other_kind
        if isinstance(value, Prefix) and isinstance(other_value, Prefix):
            found = _compare_prefixes(value, other_value, width)
        else:
            found = _compare_bytes(encoded(value), encoded(other_value))
        if found:
            return found
    return len(other.components) - len(one.components)


def _compare_prefixes(one: Prefix, other: Prefix, width: int) -> int:
    if one.offset != other.offset:
        return one.offset - other.offset
    beyond = width - min(one.length, other.length)
    return (one.number >> beyond) - (other.number >> beyond) or other.length - one.length


def _compare_bytes(one: bytes, other: bytes) -> int:
    common = min(len(one), len(other))
    if one[:common] == other[:common]:
        return len(other) - len(one)
    return -1 if one < other else 1


def encoded(value: Value) -> bytes:
    """Return the comparisons of a component as they are sent, RFC 8955, 4.2.1; nothing for a prefix."""
    if isinstance(value, Prefix):
        return b""
    found = b""
    for at, op in enumerate(value):
        size = 1 if op.value < 1 << 8 else 2 if op.value < 1 << 16 else 4
        first = op.operator | size.bit_length() - 1 << 4 | (_AND if op.both else 0)
        found += bytes((first | (_END if at == len(value) - 1 else 0),)) + op.value.to_bytes(size, "big")
    return found
