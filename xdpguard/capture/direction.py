# SPDX-License-Identifier: GPL-2.0
"""Tell the packets that the capturing host sent from those that it received."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

from xdpguard.policy.target import Prefix

# How a packet is known to be outgoing: by the flags of its pcapng block, by the packet type in a Linux cooked header,
# by its source MAC address, by its source IP address.
How = Literal["flag", "packet_type", "mac", "address"]

INBOUND, OUTBOUND = 1, 2  # bits 0 and 1 of pcapng's epb_flags; 0: no information
_TAGS = (b"\x81\x00", b"\x88\xa8")
_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"
_REMEMBERED = 1 << 16  # source addresses, as a flood has many


class Own:
    """The addresses of a capturing host or interface; without any, nothing is known to be outgoing."""

    def __init__(self, macs: Iterable[bytes] = (), prefixes: Iterable[Prefix] = ()) -> None:
        self._macs = frozenset(macs)
        self._prefixes = tuple(prefixes)
        self._holds = lru_cache(_REMEMBERED)(self._held)

    def __bool__(self) -> bool:
        return bool(self._macs or self._prefixes)

    def sent(self, frame: bytes, ethernet: bool) -> How | None:
        """Return how a frame is known to be sent by this host, or None. ``ethernet``: whether its MACs are its own.

        MAC addresses decide where there are any: a received frame can have this host's IP address as a forged source.
        """
        if ethernet and self._macs:
            return "mac" if frame[6:12] in self._macs else None
        return "address" if self._prefixes and self._holds(_source(frame)) else None

    def _held(self, source: bytes) -> bool:
        return bool(source) and any(it.covers(Prefix(source, len(source) * 8)) for it in self._prefixes)


NOBODY = Own()


def _source(frame: bytes) -> bytes:
    """Return the source IP address of a frame; empty if it has none."""
    at = 12
    while frame[at : at + 2] in _TAGS:
        at += 4
    kind = frame[at : at + 2]
    begin, size = (at + 14, 4) if kind == _IPV4 else (at + 10, 16)
    found = frame[begin : begin + size] if kind in (_IPV4, _IPV6) else b""
    return found if len(found) == size else b""
