# SPDX-License-Identifier: GPL-2.0
"""Names of the fleet's entries in the bucket: HOST.KIND.TARGET, each part spelled as a NATS subject may have it.

A prefix is spelled by its IP version, its network in hexadecimal digits and its length: ``4-c6336407-32``.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from xdpguard.policy.fleet import HOST
from xdpguard.policy.target import MAPPED, Prefix

FleetKind = Literal["block", "allow", "filter", "list"]
KINDS: tuple[FleetKind, ...] = ("block", "allow", "filter", "list")
BUCKET, HOSTS = "xdpguard", "xdpguard-hosts"  # of entries, and of how each host stands
LISTS = "xdpguard-lists"  # the object store of what lists hold
SNAPSHOT = "xdpguard-snapshot"  # of all entries at once, in parts; see snapshot.py
LARGEST_PART = 128 << 10  # bytes of a part: a thousand hosts that read one each are 128 MB for the server
LIVE = "xdpguard.live"  # subjects under which the server publishes each change of the entries again
SETTLED = "operator.settled.stream"  # the key that names the stream which hosts are to follow exactly
OPERATOR = "operator"  # the publisher of entries that belong to no host

_PREFIX = re.compile(r"([46])-([0-9a-f]{8}|[0-9a-f]{32})-([0-9]{1,3})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")  # a dot would begin another part of the subject


class Key(NamedTuple):
    """The name of one entry: its publisher, its kind, and its prefix or the name of the filter or list."""

    host: str
    kind: FleetKind
    target: Prefix | str

    def __str__(self) -> str:
        return f"{self.host}.{self.kind}.{spelled(self.target)}"


def spelled(target: Prefix | str) -> str:
    """Return a target as a key has it."""
    if isinstance(target, str):
        return target
    return f"{target.version}-{target.network.hex()}-{target.length}"


def parse_key(text: str) -> Key:
    """Parse a key. Raise ValueError, with what is wrong, if it is not one."""
    host, _, rest = text.partition(".")
    kind, _, target = rest.partition(".")
    if not HOST.fullmatch(host):
        raise ValueError("its publisher is not a host's name")
    for known in KINDS:
        if kind == known:
            if known == "list" and host != OPERATOR:
                raise ValueError("lists are published by the operator only")
            return Key(host, known, _target(known, target))
    raise ValueError("its kind is none of block, allow, filter and list")


def _target(kind: FleetKind, text: str) -> Prefix | str:
    if kind in ("filter", "list"):
        if not _NAME.fullmatch(text):
            raise ValueError(f"it is not a {kind}'s name")
        return text
    match = _PREFIX.fullmatch(text)
    if not match or len(match[2]) != (8 if match[1] == "4" else 32) or int(match[3]) > len(match[2]) * 4:
        raise ValueError("its target is not a prefix as keys have it")
    found = Prefix(bytes.fromhex(match[2]), int(match[3]))
    bits = len(found.network) * 8 - found.length
    if int.from_bytes(found.network, "big") & ((1 << bits) - 1) or found.network.startswith(MAPPED):
        raise ValueError("its prefix has host bits set, or is an IPv4 address written as IPv6")
    return found
