# SPDX-License-Identifier: GPL-2.0
"""Values of the fleet's entries: JSON with a version. What is foreign or broken raises ValueError that says how."""

from __future__ import annotations

import math
import re
import time
from typing import NamedTuple

import msgspec

from xdpguard.errors import UsageError
from xdpguard.fleet.keys import Key, parse_key
from xdpguard.policy.filters import FilterEntry, new_filter
from xdpguard.policy.foreign import Entry
from xdpguard.policy.rule import CLI, FLEET, NewRule
from xdpguard.policy.target import Prefix

VERSION = 1
LARGEST = 8192  # bytes of a value
LARGEST_LIST = 128 << 20  # bytes of an object
_DIGEST = re.compile(r"[0-9a-f]{64}")
_OBJECT = re.compile(r"[A-Za-z0-9]{1,64}")  # as it is part of a subject
_FOLLOWING = 3e11  # Unix time, seconds: beyond any calendar


class Value(msgspec.Struct, frozen=True, omit_defaults=True):
    """The value of a key; unknown fields of later minor versions are ignored.

    ``end``: Unix time, None for never; ``made``: when it was published; ``origin``: who decided it there, such as
    guard or cli. The rest: of filters, as in the configuration file, and of lists, see `FleetList`.
    """

    v: int
    kind: str
    target: str
    made: float
    end: float | None = None
    reason: str = ""
    origin: str = "cli"
    match: str = ""
    action: str = ""
    limit: str = ""
    burst: str = ""
    per: str = "filter"
    shadow: bool = False
    digest: str = ""
    object: str = ""
    size: int = 0
    entries: int = 0


class FleetList(NamedTuple):
    """A list of the fleet. ``digest``: SHA-256 of the object in the object store that has its entries, hexadecimal;
    ``object``: which one; ``size``: its bytes; ``entries``: prefixes in it.
    """

    name: str
    digest: str
    object: str
    size: int
    entries: int
    reason: str
    expires: None = None


class Record(NamedTuple):
    """An entry or list that a host or an operator wants, and who decided it there."""

    key: Key
    entry: Entry | FleetList
    origin: str

    def ended(self, now: float) -> bool:
        """Whether it has ended. ``now``: Unix time."""
        return self.entry.expires is not None and self.entry.expires <= now


_DECODER = msgspec.json.Decoder(Value)
_ENCODER = msgspec.json.Encoder()


def encode(value: Value) -> bytes:
    """Return a value as it is published."""
    return _ENCODER.encode(value)


def value_of(rule: NewRule, origin: str) -> Value:
    """Return what to publish for a rule. ``origin``: who decided it on this host."""
    return Value(VERSION, rule.kind, str(rule.target), time.time(), rule.expires, rule.reason, origin)


def filter_value(its: FilterEntry, end: float | None) -> Value:
    """Return what to publish for a filter."""
    made = Value(VERSION, "filter", its.name, time.time(), end, its.reason, CLI)
    return msgspec.structs.replace(
        made, match=its.match, action=its.action, limit=its.limit, burst=its.burst, per=its.per, shadow=its.shadow
    )


def list_value(its: FleetList) -> Value:
    """Return what to publish for a list."""
    made = Value(VERSION, "list", its.name, time.time(), None, its.reason, CLI)
    return msgspec.structs.replace(made, digest=its.digest, object=its.object, size=its.size, entries=its.entries)


def decode(name: str, data: bytes) -> Record:
    """Parse a key and its value. Raise ValueError, with what is wrong, if this is no entry of a known version."""
    key = parse_key(name)
    if len(data) > LARGEST:
        raise ValueError(f"its value is longer than {LARGEST:,} bytes")
    try:
        its = _DECODER.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"its value is not an entry: {error}") from error
    if its.v != VERSION:
        raise ValueError(f"its value has version {its.v}, and this xdpguard knows version {VERSION}")
    if its.kind != key.kind or its.target != str(key.target):
        raise ValueError("its value is about another target than its key")
    if not _is_time(its.made) or (its.end is not None and not _is_time(its.end)):
        raise ValueError("its times are not Unix times")
    return Record(key, _entry(key, its), its.origin[:32])


def _is_time(value: float) -> bool:
    return math.isfinite(value) and 0 <= value < _FOLLOWING


def _entry(key: Key, its: Value) -> Entry | FleetList:
    if key.kind == "list":
        return _list(str(key.target), its)
    if isinstance(key.target, Prefix) and key.kind in ("block", "allow"):
        return NewRule(key.kind, key.target, its.reason, FLEET, its.made, its.end)
    entry = FilterEntry(str(key.target), its.match, its.action, its.limit, its.burst, its.per, its.shadow)
    try:
        return new_filter(entry, FLEET, its.made, its.end)._replace(reason=its.reason)
    except UsageError as error:
        raise ValueError(f"it is not a filter as this xdpguard knows them: {error}") from error


def _list(name: str, its: Value) -> FleetList:
    if not _DIGEST.fullmatch(its.digest) or not _OBJECT.fullmatch(its.object):
        raise ValueError("its value does not say where the list is")
    if its.end is not None or not 0 < its.size <= LARGEST_LIST or its.entries < 0:
        raise ValueError(f"a list has no end, and at most {LARGEST_LIST:,} bytes")
    return FleetList(name, its.digest, its.object, its.size, its.entries, its.reason)
