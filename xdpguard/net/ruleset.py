# SPDX-License-Identifier: GPL-2.0
"""What an nftables rule says about TCP ports, read from its expressions as the kernel stores them.

Numbers in attributes are in network byte order (linux/netfilter/nf_tables.h).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable
from typing import NamedTuple

from xdpguard.net.netlink import attribute, attributes, text
from xdpguard.net.netlink import elements as listed
from xdpguard.net.portsets import HIGHEST, Ports, common, compared, multiport, tcp

DROP, ACCEPT, JUMP, GOTO = 0, 1, -3, -4  # NF_DROP, NF_ACCEPT, NFT_JUMP, NFT_GOTO

_NAME, _DATA = 1, 2  # NFTA_EXPR_*
_DPORT, _PROTOCOL, _INTERFACE = "dport", "protocol", "interface"  # what a register holds
_META_KEY, _META_DREG = 2, 1  # NFTA_META_*
_META = {4: _INTERFACE, 6: _INTERFACE, 16: _PROTOCOL}  # NFT_META_IIF, NFT_META_IIFNAME, NFT_META_L4PROTO
_PAYLOAD_DREG, _PAYLOAD_BASE, _PAYLOAD_OFFSET, _PAYLOAD_LEN = 1, 2, 3, 4
_VALUE, _VERDICT = 1, 2  # NFTA_DATA_*
_VERDICT_CODE, _VERDICT_CHAIN = 1, 2
_CMP_SREG, _CMP_OP, _CMP_DATA = 1, 2, 3
_RANGE_SREG, _RANGE_OP, _RANGE_FROM, _RANGE_TO = 1, 2, 3, 4
_LOOKUP_SET, _LOOKUP_SREG, _LOOKUP_DREG, _LOOKUP_FLAGS = 1, 2, 3, 5
_IMMEDIATE_DATA = 2
_GET_ELEMENTS = 10 << 8 | 13  # NFT_MSG_GETSETELEM
_ELEMENTS = 3  # NFTA_SET_ELEM_LIST_ELEMENTS
_ELEMENT_KEY, _ELEMENT_DATA, _ELEMENT_FLAGS = 1, 2, 3
_INTERVAL_END = 1
_TCP = 6
_INDIFFERENT = ("counter", "log", "comment")  # expressions that match everything
_NO_VERDICT = -1 << 31


class Rule(NamedTuple):
    """``accepts``: TCP ports it may accept, perhaps under other conditions; ``drops``: those it drops unconditionally.

    ``accepts_all``: it accepts all TCP, from any interface; ``drops_all``: it drops all TCP. Both drops ignore a
    condition on the interface. ``jumps``: chains it leads to.
    """

    accepts: tuple[Ports, ...] = ()
    drops: tuple[Ports, ...] = ()
    accepts_all: bool = False
    drops_all: bool = False
    jumps: frozenset[str] = frozenset()


class _Reading:
    """Interprets a rule expression by expression."""

    def __init__(self, elements_of: Callable[[str], list[tuple[Ports, int]]]) -> None:
        self._elements_of = elements_of
        self._registers: dict[bytes, str] = {}
        self._ports: list[Ports] | None = None  # the ports it matches; None: all
        self._other = False  # has a condition that is not interpreted
        self._interface = False  # has a condition on the input interface
        self._foreign = False  # does not match TCP
        self._verdicts: list[tuple[Ports, int]] = []  # of a map
        self._verdict = _NO_VERDICT
        self._jumps: set[str] = set()

    def take(self, name: str, data: dict[int, bytes]) -> None:
        """Process the next expression."""
        handlers = {
            "meta": self._meta,
            "payload": self._payload,
            "cmp": self._cmp,
            "range": self._range,
            "lookup": self._lookup,
            "immediate": self._immediate,
            "reject": self._reject,
            "target": self._target,
            "match": self._match,
        }
        if name in handlers:
            handlers[name](data)
        elif name not in _INDIFFERENT:
            self._other = True

    def rule(self) -> Rule:
        """Return the rule that the expressions make up."""
        if self._foreign:
            return Rule()
        accepts = [it for it, code in self._verdicts if code == ACCEPT]
        drops = [it for it, code in self._verdicts if code == DROP and not self._other]
        accepts += self._ports or [] if self._verdict == ACCEPT else []
        drops += self._ports or [] if self._verdict == DROP and not self._other else []
        whole = self._ports is None and not self._other
        return Rule(
            tuple(accepts),
            tuple(drops),
            whole and not self._interface and self._verdict == ACCEPT,
            whole and self._verdict == DROP,
            frozenset(self._jumps),
        )

    def _meta(self, data: dict[int, bytes]) -> None:
        self._load(data.get(_META_DREG, b""), _META.get(_number(data.get(_META_KEY)), ""))

    def _payload(self, data: dict[int, bytes]) -> None:
        base, offset, length = (_number(data.get(it)) for it in (_PAYLOAD_BASE, _PAYLOAD_OFFSET, _PAYLOAD_LEN))
        # The destination port; the protocol of an IPv4 header, the next header of an IPv6 one.
        known = {(2, 2, 2): _DPORT, (1, 9, 1): _PROTOCOL, (1, 6, 1): _PROTOCOL}
        self._load(data.get(_PAYLOAD_DREG, b""), known.get((base, offset, length), ""))

    def _load(self, register: bytes, what: str) -> None:
        self._registers[register] = what

    def _cmp(self, data: dict[int, bytes]) -> None:
        what = self._registers.get(data.get(_CMP_SREG, b""), "")
        operator, value = _number(data.get(_CMP_OP)), attributes(data.get(_CMP_DATA, b"")).get(_VALUE, b"")
        number = _number(value)
        if what == _PROTOCOL and operator == 0:
            self._foreign = self._foreign or number != _TCP
        elif what == _INTERFACE:
            self._interface = True
        elif what == _DPORT:
            self._among(compared(operator, number))
        else:
            self._other = True

    def _range(self, data: dict[int, bytes]) -> None:
        if self._registers.get(data.get(_RANGE_SREG, b""), "") != _DPORT or _number(data.get(_RANGE_OP)):
            self._other = True
            return
        first, last = (_number(attributes(data.get(it, b"")).get(_VALUE)) for it in (_RANGE_FROM, _RANGE_TO))
        self._among([Ports(first, last + 1)])

    def _lookup(self, data: dict[int, bytes]) -> None:
        if self._registers.get(data.get(_LOOKUP_SREG, b""), "") != _DPORT or _number(data.get(_LOOKUP_FLAGS)):
            self._other = True
            return
        found = self._elements_of(text(data.get(_LOOKUP_SET)))
        if _LOOKUP_DREG in data:
            self._verdicts += found
        else:
            self._among([it for it, _ in found])

    def _immediate(self, data: dict[int, bytes]) -> None:
        code, chain = _verdict(data.get(_IMMEDIATE_DATA, b""))
        if code in (JUMP, GOTO):
            self._jumps.add(chain)
        else:
            self._verdict = code

    def _reject(self, data: dict[int, bytes]) -> None:
        del data
        self._verdict = DROP

    def _target(self, data: dict[int, bytes]) -> None:
        if text(data.get(1)) == "REJECT":  # NFTA_TARGET_NAME; how iptables-nft encodes an iptables target
            self._verdict = DROP

    def _match(self, data: dict[int, bytes]) -> None:
        name, info = text(data.get(1)), data.get(3, b"")  # NFTA_MATCH_NAME, NFTA_MATCH_INFO
        if name == "tcp" and len(info) >= 8:  # struct xt_tcp
            self._among([tcp(info)])
        elif name == "multiport" and len(info) >= 47 and info[0] in (1, 2) and not info[46]:  # struct xt_multiport_v1
            self._among(multiport(info))
        elif name in ("udp", "icmp", "icmp6", "sctp"):
            self._foreign = True
        elif name != "comment":
            self._other = True

    def _among(self, ports: list[Ports]) -> None:
        """Restrict the ports; two comparisons may form an interval."""
        self._ports = ports if self._ports is None else common(self._ports, ports)


def parse(expressions: bytes, elements_of: Callable[[str], list[tuple[Ports, int]]]) -> Rule:
    """Parse a rule from NFTA_RULE_EXPRESSIONS.

    ``elements_of`` returns the ports of a set in the rule's table, with the verdict of each if it is a map.
    """
    reading = _Reading(elements_of)
    for expression in listed(expressions):
        found = attributes(expression)
        reading.take(text(found.get(_NAME)), attributes(found.get(_DATA, b"")))
    return reading.rule()


def elements_request(family: int, table: str, name: str) -> tuple[int, bytes]:
    """Return kind and body of the request for the elements of a set."""
    words = attribute(1, os.fsencode(table) + b"\0") + attribute(2, os.fsencode(name) + b"\0")  # NFTA_SET_ELEM_LIST_*
    return _GET_ELEMENTS, bytes([family, 0, 0, 0]) + words


def elements(messages: Iterable[bytes]) -> list[tuple[Ports, int]]:
    """Return the ports of a set with their verdicts; none if it holds something else."""
    points = []
    for message in messages:
        for element in listed(attributes(message, 4).get(_ELEMENTS, b"")):
            found = attributes(element)
            key = attributes(found.get(_ELEMENT_KEY, b"")).get(_VALUE, b"")
            if len(key) == 2:
                end = bool(_number(found.get(_ELEMENT_FLAGS)) & _INTERVAL_END)
                points.append((_number(key), end, _verdict(found.get(_ELEMENT_DATA, b""))[0]))
    points.sort()
    spans = any(end for _, end, _ in points)
    stops = [port for port, end, _ in points if end]
    return [
        (Ports(port, min((it for it in stops if it > port), default=HIGHEST + 1) if spans else port + 1), verdict)
        for port, end, verdict in points
        if not end
    ]


def _verdict(data: bytes) -> tuple[int, str]:
    found = attributes(attributes(data).get(_VERDICT, b""))
    if _VERDICT_CODE not in found:
        return _NO_VERDICT, ""
    return struct.unpack("!i", found[_VERDICT_CODE])[0], text(found.get(_VERDICT_CHAIN))


def _number(value: bytes | None) -> int:
    return int.from_bytes(value or b"", "big")
