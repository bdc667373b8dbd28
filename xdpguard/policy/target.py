# SPDX-License-Identifier: GPL-2.0
"""Targets of rules, and durations, as users write them. Every parser raises UsageError with what it expected."""

from __future__ import annotations

import re
import socket
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
_DURATION = re.compile(r"^([0-9]{1,12})([smhdw])$")
_INTERVAL = re.compile(r"^([0-9]{1,9})ms$")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LONGEST = 100 * 365 * 86_400
_DIGITS = re.compile(r"[0-9]+")
_LIKE_A_PORT = re.compile(r"[0-9]{1,5}(/(tcp|udp))?")
_PORT = re.compile(r"^([0-9]{1,5})(?:/(\w+))?$")


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
        raise UsageError(f"not an address or prefix: {_shown(text)}", _hint(text))
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
    """Parse ``8080/tcp``, ``53/udp``, or ``8080`` for both protocols."""
    match = _PORT.match(text.strip())
    number = int(match[1]) if match else 0
    protocol = (match[2] or "").lower() if match else ""
    if not match or not 1 <= number <= 65_535 or protocol not in ("", "tcp", "udp"):
        raise UsageError(
            f"not a port: {_shown(text)}", "write NUMBER/tcp, NUMBER/udp or NUMBER for both, from 1 to 65535: 8080/tcp"
        )
    if protocol == "tcp":
        return [Port(number, "tcp")]
    if protocol == "udp":
        return [Port(number, "udp")]
    return [Port(number, "tcp"), Port(number, "udp")]


def parse_stored(kind: Kind, text: str) -> Target:
    """Parse a target as `str` writes it."""
    return parse_ports(text)[0] if kind == "port" else parse_prefix(text)[0]


def parse_duration(text: str) -> int:
    """Parse ``90s``, ``10m``, ``2h``, ``7d`` or ``4w``; return seconds."""
    match = _DURATION.match(text.strip())
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not 0 < seconds <= _LONGEST:
        raise UsageError(f"not a duration: {_shown(text)}", "write a number above 0 and a unit: 90s, 10m, 2h, 7d or 4w")
    return seconds


def parse_interval(text: str) -> float:
    """Parse a possibly short duration: ``500ms``, or what `parse_duration` accepts; return seconds."""
    match = _INTERVAL.match(text.strip())
    if match and int(match[1]) > 0:
        return int(match[1]) / 1000
    try:
        return float(parse_duration(text))
    except UsageError as error:
        raise UsageError(str(error), "write a whole number above 0 and a unit: 500ms, 90s, 10m, 2h") from error


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


def _hint(text: str) -> str:
    parts = text.partition("/")[0].split(".")
    four = len(parts) == 4
    hints = (
        ("%" in text, "leave out the zone: rules apply to addresses as packets carry them"),
        ("-" in text and text.count(".") >= 4, "write a range as prefixes: 198.51.100.0/24"),
        (_LIKE_A_PORT.fullmatch(text), f"a port has an option of its own, such as --port {text}"),
        (_DURATION.match(text), f"a duration is given with --for {text}"),
        (four and _DIGITS.fullmatch("".join(parts)), "each of the four numbers is 0 to 255, without leading zeros"),
        (four and ":" in parts[3], "leave out the port: it has an option of its own"),
        ("," in text, "give each target by itself, with a space between them"),
    )
    usual = "write an address or a prefix: 198.51.100.7, 198.51.100.0/24, 2001:db8::/32; names are not looked up"
    return next((hint for fits, hint in hints if fits), usual)
