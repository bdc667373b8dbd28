# SPDX-License-Identifier: GPL-2.0
"""Targets of rules as users write them; sources.py reads more spellings. Parsers raise UsageError."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Literal, NamedTuple

from xdpguard.errors import UsageError

Protocol = Literal["tcp", "udp"]
Kind = Literal["allow", "block", "port"]
Label = Literal["allow", "block", "port", "shadow"]  # what people are shown: a block in shadow mode is a shadow rule
KINDS: tuple[Kind, ...] = ("allow", "block", "port")

PROTOCOL_NUMBERS: dict[Protocol, int] = {"tcp": 6, "udp": 17}  # IPPROTO_*, linux/in.h

MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96, RFC 4291, 2.5.5.2
# Bits. With host bits set, a shorter prefix is taken for a slip or for something else that follows an address.
SHORTEST4, SHORTEST6 = 8, 16
_LENGTH = re.compile(r"[0-9]{1,3}")
_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_PROTOCOL_FIRST = re.compile(r"(tcp|udp)[/:]")
_NAME = re.compile(r"[a-z][a-z0-9._+-]{0,63}")
_FORMS = "write an address or a prefix: 198.51.100.7, 198.51.100.0/24, 2001:db8::/32; names are not looked up here"
_PORT_FORMS = "write 8080/tcp, 53/udp, 80 for both protocols, a range such as 8000-8010, or a name: ssh"
SERVICES = Path("/etc/services")
NO_SERVICES = f"write its number; the package netbase of Debian and Ubuntu brings {SERVICES}, which knows names"
MOST_PORTS = 1000  # of a range: each is a rule


class Prefix(NamedTuple):
    """An address range: ``network`` is 4 or 16 bytes in network byte order, host bits zero; ``length`` in bits."""

    network: bytes
    length: int

    @property
    def version(self) -> int:
        """The IP version: 4 or 6."""
        return 4 if len(self.network) == 4 else 6

    @property
    def is_address(self) -> bool:
        """Whether it is a single address."""
        return self.length == len(self.network) * 8

    def covers(self, other: Prefix) -> bool:
        """Return whether this prefix contains every address of ``other``."""
        if len(self.network) != len(other.network) or self.length > other.length:
            return False
        return _masked(other.network, self.length) == self.network

    @property
    def is_loopback(self) -> bool:
        """Whether it lies within 127.0.0.0/8 or is ::1."""
        return any(it.covers(self) for it in _LOOPBACK)

    def __str__(self) -> str:
        text = socket.inet_ntop(socket.AF_INET if self.version == 4 else socket.AF_INET6, self.network)
        return text if self.is_address else f"{text}/{self.length}"


_LOOPBACK = (Prefix(b"\x7f\0\0\0", 8), Prefix(bytes(15) + b"\1", 128))


class Port(NamedTuple):
    """A destination port and its protocol."""

    number: int
    protocol: Protocol

    def __str__(self) -> str:
        return f"{self.number}/{self.protocol}"


Target = Prefix | Port


def parse_prefix(text: str) -> tuple[Prefix, bool]:
    """Parse an address or CIDR prefix, IPv4 or IPv6; also return whether host bits were set, and cleared.

    An IPv4 prefix may have a netmask for its length. Host bits in a very short prefix are refused. An IPv4-mapped IPv6
    address (::ffff:192.0.2.1) becomes the IPv4 address it stands for.
    """
    address, slash, bits = text.partition("/")
    network = _packed(address)
    if network is None:
        raise UsageError(f"not an address or prefix: {_shown(text)}", _FORMS)
    width = len(network) * 8
    length = width
    if slash:
        given = int(bits) if _LENGTH.fullmatch(bits) else netmask_length(bits) if width == 32 else None
        if given is None or given > width:
            raise UsageError(f"not a prefix length: {_shown(text)}", f"the range is /0 to /{width} for this address")
        length = given
    if network.startswith(MAPPED) and width == 128:
        if length < 96:
            raise UsageError(
                f"not a prefix length: {_shown(text)}",
                "write the prefix as IPv4: 192.0.2.0/24; in the IPv4-mapped form that is ::ffff:192.0.2.0/120",
            )
        network, length = network[12:], length - 96
    found = Prefix(_masked(network, length), length)
    cleared = found.network != network
    if cleared and length < (SHORTEST4 if len(network) == 4 else SHORTEST6):
        share = f"one in {1 << length:,} of all" if length else "every one of the"
        raise UsageError(
            f"{_shown(text)} has host bits set, and stands for {found}: {share} IPv{found.version} addresses",
            f"write {Prefix(network, len(network) * 8)} for the address alone, or {found} if that is meant",
        )
    return found, cleared


def netmask_length(bits: str) -> int | None:
    """Return the prefix length that a netmask such as 255.255.255.0 stands for; None if it is not a netmask."""
    raw = _packed(bits) if bits.startswith(("128.", "192.", "2")) and "." in bits else None
    if raw is None or len(raw) != 4:
        return None
    host = int.from_bytes(raw, "big") ^ 0xFFFF_FFFF
    return 32 - host.bit_length() if host & (host + 1) == 0 else None


def parse_ports(text: str) -> list[Port]:
    """Parse ``8080/tcp``, ``udp/53``, ``8080`` (both protocols), ``8000-8010``, ``ssh``, or several with commas.

    A name stands for its port in the protocols that /etc/services has for it. A protocol in front is for all after it.
    """
    found: dict[Port, None] = {}
    before = ""
    for word in text.split(","):
        what, protocol = word.strip().lower(), before
        ahead = _PROTOCOL_FIRST.match(what)
        if ahead:
            protocol = before = ahead[1]
            what = what[ahead.end() :]
        elif "/" in what:
            what, _, protocol = what.partition("/")
            if protocol not in PROTOCOL_NUMBERS:
                raise UsageError(f"not a port: {_shown(word)}", _PORT_FORMS)
        found.update(dict.fromkeys(_ports(word, what, protocol)))
    return list(found)


def _ports(word: str, what: str, protocol: str) -> list[Port]:
    """Return the ports of a number, a range or a name. ``protocol``: empty for both."""
    kinds: list[Protocol] = [it for it in PROTOCOL_NUMBERS if protocol in ("", it)]
    match = _PORT.fullmatch(what)
    if not match:
        named = [Port(number, kind) for kind in kinds if (number := _service(what, kind))]
        if not named:
            if _NAME.fullmatch(what) and not SERVICES.exists():
                raise UsageError(f"not a port: {_shown(word)}: this host has no {SERVICES}", NO_SERVICES)
            more = f": {SERVICES} has no such name" if _NAME.fullmatch(what) else ""
            raise UsageError(f"not a port: {_shown(word)}{more}", _PORT_FORMS)
        return named
    first, last = int(match[1]), int(match[2] or match[1])
    if not 1 <= first <= 65_535 or not 1 <= last <= 65_535:
        wrong = first if not 1 <= first <= 65_535 else last
        raise UsageError(f"not a port: {_shown(word)}", f"{wrong} is {'above 65535' if wrong else 'below 1'}")
    if first > last:
        raise UsageError(f"not a port: {_shown(word)} runs backwards", f"write {last}-{first}")
    if last - first >= MOST_PORTS:
        raise UsageError(
            f"{_shown(word)} has {last - first + 1:,} ports, each a rule; {MOST_PORTS:,} are the most",
            f"use a filter: xdpguard filter add NAME '{protocol or 'tcp'} dport {first}-{last}' --drop",
        )
    return [Port(number, kind) for number in range(first, last + 1) for kind in kinds]


def _service(name: str, protocol: Protocol) -> int | None:
    try:
        return socket.getservbyname(name, protocol) if _NAME.fullmatch(name) else None
    except OSError:
        return None


def parse_stored(kind: Kind, text: str) -> Target:
    """Parse a target as `str` writes it."""
    return parse_ports(text)[0] if kind == "port" else parse_prefix(text)[0]


def _packed(address: str) -> bytes | None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.inet_pton(family, address)
    except (OSError, ValueError):
        return None


def _masked(network: bytes, length: int) -> bytes:
    width = len(network) * 8
    if length == width:
        return network
    number = int.from_bytes(network, "big") >> (width - length) << (width - length)
    return number.to_bytes(len(network), "big")


def _shown(text: str) -> str:
    shown = text if len(text) <= 60 else text[:57] + "..."
    return repr(shown)
