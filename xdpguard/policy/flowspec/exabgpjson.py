# SPDX-License-Identifier: GPL-2.0
"""FlowSpec rules as ExaBGP tells its processes in JSON (``encoder json; receive { parsed; update; }``), read from 4.2.

A rule is read from its text in the event, since its lists of TCP flags do not tell =syn+ack from =syn or =ack. Actions
are read from the bytes of their communities, since ExaBGP 4 has no words for a rate in packets.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Struct, field

from xdpguard.errors import UsageError
from xdpguard.policy.flowspec import exabgp, words
from xdpguard.policy.flowspec.rule import Actions, Component, Rule, Value
from xdpguard.policy.matching.tokens import shown

_FAMILIES = {"ipv4 flow": 4, "ipv6 flow": 6}
_VPN = ("ipv4 flow-vpn", "ipv6 flow-vpn")
_NAMELESS = re.compile(r"unknown [a-z ]+ type ([0-9]+)")  # a value that ExaBGP has no name for
_STATEMENT = re.compile(r"\s*(\S+)\s+(\[[^\]]*\]|\S+)")
_ACTION_TYPES = (0x80, 0x81, 0x82)  # of communities that are actions, RFC 8955, 7
_REDIRECTS = (0x0800, 0x010C, 0x000C)  # to a next hop, of drafts
_BYTES, _ACTION, _PACKETS = 6, 7, 12  # subtypes of actions
_TERMINAL, _SAMPLE = 1, 2  # bits of the last byte of an action
_REMEDY = "write what ExaBGP tells a process with encoder json"


class _Nlri(Struct):
    string: str


class _Community(Struct):
    value: int


class _Attributes(Struct, rename="kebab"):
    extended_community: list[_Community] = field(default_factory=list)


class _Update(Struct):
    attribute: _Attributes = field(default_factory=_Attributes)
    announce: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    withdraw: dict[str, list[Any]] = field(default_factory=dict)


class _Message(Struct):
    update: _Update | None = None  # None at the end of the table


class _Neighbor(Struct):
    message: _Message


class _Event(Struct):
    neighbor: _Neighbor


def is_event(value: object) -> bool:
    """Return whether a JSON value is an event of ExaBGP."""
    return isinstance(value, dict) and "exabgp" in value


def read(events: Iterable[object]) -> Iterator[tuple[int, str, Rule]]:
    """Parse events; yield the rules that are not withdrawn later, with the numbers of their events."""
    found: dict[tuple[object, ...], tuple[int, str, Rule]] = {}
    for number, event in enumerate(events, 1):
        if not is_event(event):
            raise UsageError(f"event {number}: not one of ExaBGP", _REMEDY)
        try:
            for rule, announced in rules_of(event):
                found.pop(rule[:2], None)
                if announced:
                    found[rule[:2]] = number, "", rule
        except msgspec.ValidationError as error:
            raise UsageError(f"event {number}: not an update of ExaBGP: {error}", _REMEDY) from error
        except UsageError as error:
            raise UsageError(f"event {number}: {error}", error.remedy) from error
    yield from found.values()


def rules_of(event: Any) -> Iterator[tuple[Rule, bool]]:
    """Yield the rules of an event, and whether each is announced; events of other kinds have none."""
    if event.get("type") != "update":
        return
    update = msgspec.convert(event, _Event).neighbor.message.update or _Update()
    if any(family in _VPN for family in (*update.announce, *update.withdraw)):
        raise UsageError("rules of a VPN have no meaning here", "leave out the families flow-vpn")
    for family, rules in update.withdraw.items():
        if family in _FAMILIES:
            yield from ((_rule(_FAMILIES[family], it, Actions()), False) for it in rules)
    for family, by_next_hop in update.announce.items():
        if family in _FAMILIES:
            actions = _actions(update.attribute.extended_community)
            yield from ((_rule(_FAMILIES[family], it, actions), True) for its in by_next_hop.values() for it in its)


def _rule(version: int, nlri: object, actions: Actions) -> Rule:
    kind, _, text = msgspec.convert(nlri, _Nlri).string.partition(" ")
    text = _NAMELESS.sub(r"\1", text).rstrip()
    if kind != "flow":
        raise UsageError(f"not a rule: {shown(kind)}", _REMEDY)
    components: dict[Component, Value] = {}
    at = 0
    while at < len(text):
        statement = _STATEMENT.match(text, at)
        if statement is None:
            raise UsageError(f"a component without a value: {shown(text[at:])}", _REMEDY)
        at = statement.end()
        if statement[1] != "next-hop" and exabgp.component([statement[1], statement[2]], components) - {version}:
            raise UsageError("IPv4 and IPv6 in one rule", _REMEDY)
    return Rule(version, tuple(sorted(components.items())), actions)


def _actions(communities: Iterable[_Community]) -> Actions:
    actions = Actions()
    for one in communities:
        if not 0 <= one.value < 1 << 64:
            raise UsageError(f"not a community of 8 bytes: {one.value}", _REMEDY)
        raw = one.value.to_bytes(8, "big")
        kind, subtype = raw[0], raw[1]
        if kind not in _ACTION_TYPES and one.value >> 48 not in _REDIRECTS:
            continue
        if kind == 0x80 and subtype == _BYTES:
            actions = actions._replace(rate=_float(raw))
        elif kind == 0x80 and subtype == _PACKETS:
            actions = actions._replace(packets=_float(raw))
        elif kind == 0x80 and subtype == _ACTION:
            actions = actions._replace(sample=bool(raw[7] & _SAMPLE), further=bool(raw[7] & _TERMINAL))
        else:
            raise UsageError(f"the action of community 0x{raw.hex()} has no meaning here", "leave the rule out")
    return actions


def _float(raw: bytes) -> float:
    return words.rate(str(struct.unpack("!f", raw[4:])[0]))
