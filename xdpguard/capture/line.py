# SPDX-License-Identifier: GPL-2.0
"""Packets as one line of text: ``tcp 198.51.100.7:4000 > 203.0.113.1:80 S``. What `write` prints, `parse` accepts.

The protocol may be left out (tcp), so may the flags (S), and ``to`` stands for ``>``.
"""

from __future__ import annotations

import re
import socket
from typing import Any

from xdpguard.capture.packet import ECHO, OPTIONS, TCP, TTL, UDP, Packet, text
from xdpguard.errors import UsageError

EXAMPLE = "tcp 198.51.100.7:4000 > 203.0.113.1:80 S"
_PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58}
_NAMES = {number: name for name, number in _PROTOCOLS.items()}
_FLAGS = {"F": 0x01, "S": 0x02, "R": 0x04, "P": 0x08, "A": 0x10, "U": 0x20, "E": 0x40, "W": 0x80}
_OTHER_LETTERS = {".": 0x10, "C": 0x80}
_WORDS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "push": 8, "ack": 16, "urg": 32, "ece": 64, "cwr": 128, "none": 0}
_ARROW = re.compile(r"\s+to\s+|-?>")
_NUMBER = re.compile(r"[0-9]{1,10}")
_ENDPOINT6 = re.compile(r"\[([^][]*)\](?::(.*))?")
_SOURCE_PORT = 40_000  # if none is given
_LONGEST = 60_000  # bytes of payload
_U32 = (1 << 32) - 1


def parse(line: str) -> Packet:
    """Parse a line. Raise UsageError that names the word and what was expected."""
    words = _ARROW.sub(" > ", line).split()
    if not words:
        raise UsageError("the packet line is empty", f"write it as: {EXAMPLE}")
    if words[1:2] == [">"]:
        words.insert(0, "tcp")
    protocol = _protocol(words[0])
    if len(words) < 4 or words[2] != ">":
        where = f"at {words[2]!r}" if len(words) > 2 else "at the end"
        raise _expected(line, where, "SOURCE > DESTINATION after the protocol")
    source, source_port = _endpoint(line, words[1])
    destination, destination_port = _endpoint(line, words[3])
    if len(source) != len(destination):
        raise _expected(line, f"at {words[3]!r}", "a destination of the same IP version as the source")
    values, flags = _rest(line, protocol, words[4:])
    packet = Packet(protocol, source, destination, flags=flags or 0, **values)
    packet = _with_kind(line, packet, values)
    packet = _with_ports(line, packet, source_port, destination_port)
    if flags is None and packet.protocol == TCP and not packet.fragment:
        return packet._replace(flags=_FLAGS["S"])
    _check_flags(line, packet, flags)
    return packet


def write(packet: Packet) -> str:
    """Format a packet as a line."""
    parts = [_NAMES.get(packet.protocol, str(packet.protocol))]
    ports = (packet.source_port, packet.destination_port) if packet.has_ports else (None, None)
    parts.append(f"{_place(packet.source, ports[0])} > {_place(packet.destination, ports[1])}")
    tcp = packet.protocol == TCP and not packet.fragment
    if tcp:
        letters = "".join(letter for letter, bit in _FLAGS.items() if packet.flags & bit)
        parts.append(letters or "none")
    if packet.length:
        parts.append(f"len={packet.length}")
    if packet.ttl != TTL:
        parts.append(f"ttl={packet.ttl}")
    if packet.fragment or packet.more:
        parts.append(f"frag={packet.fragment}{'+' if packet.more else ''}")
    if packet.vlans:
        parts.append("vlan=" + ",".join(map(str, packet.vlans)))
    if tcp and packet.options:
        parts.append("options=" + ",".join(packet.options))
    if tcp and packet.sequence:
        parts.append(f"seq={packet.sequence}")
    if tcp and packet.acknowledged:
        parts.append(f"ack={packet.acknowledged}")
    if packet.protocol in ECHO and not packet.fragment and packet.kind != ECHO[packet.protocol]:
        parts.append(f"type={packet.kind}")
    return " ".join(parts)


def _place(address: bytes, port: int | None) -> str:
    if port is None:
        return text(address)
    return f"{text(address)}:{port}" if len(address) == 4 else f"[{text(address)}]:{port}"


def _expected(line: str, where: str, what: str) -> UsageError:
    shown = line if len(line) <= 100 else line[:97] + "..."
    return UsageError(f"{shown!r}: {where}: expected {what}", f"for example: {EXAMPLE}")


def _protocol(word: str) -> int:
    found = _PROTOCOLS.get(word.lower())
    if found is None and _NUMBER.fullmatch(word) and int(word) <= 255:
        found = int(word)
    if found is None:
        raise UsageError(
            f"at {word!r}: expected a protocol: tcp, udp, icmp, icmpv6, or a number from 0 to 255",
            f"for example: {EXAMPLE}; or give one address, to see what is known about it",
        )
    return found


def _endpoint(line: str, word: str) -> tuple[bytes, int | None]:
    address, port = word, None
    bracketed = _ENDPOINT6.fullmatch(word)
    if bracketed:
        address, port = bracketed[1], bracketed[2]
    elif word.count(":") == 1:
        address, _, port = word.partition(":")
    try:
        packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    except (OSError, ValueError):
        packed = b""
    if not packed or (bracketed and len(packed) == 4):
        wanted = "an address, followed by a port if the protocol has ports: 198.51.100.7:80, [2001:db8::1]:80"
        raise _expected(line, f"at {word!r}", wanted)
    return packed, None if port is None else _whole(line, word, port, 65_535, "a port")


def _whole(line: str, word: str, digits: str, most: int, what: str) -> int:
    if not _NUMBER.fullmatch(digits) or int(digits) > most:
        raise _expected(line, f"at {word!r}", f"{what} from 0 to {most}")
    return int(digits)


def _rest(line: str, protocol: int, words: list[str]) -> tuple[dict[str, Any], int | None]:
    values: dict[str, Any] = {}
    flags: int | None = None
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            if flags is not None:
                raise _expected(line, f"at {word!r}", "only options (KEY=VALUE): flags were given already")
            flags = _flags(line, word)
            continue
        field, found = _option(line, protocol, word, key, value)
        if field in values:
            raise _expected(line, f"at {word!r}", f"{key} only once")
        values[field] = found
        if field == "fragment":
            values["more"] = value.endswith("+")
    return values, flags


def _option(line: str, protocol: int, word: str, key: str, value: str) -> tuple[str, Any]:
    numbers = {"len": ("length", _LONGEST), "ttl": ("ttl", 255)}
    if protocol == TCP:
        numbers |= {"seq": ("sequence", _U32), "ack": ("acknowledged", _U32)}
    if protocol in ECHO:
        numbers["type"] = ("kind", 255)
    known = [*numbers, "frag", "vlan", *(["options"] if protocol == TCP else [])]
    if key in numbers:
        field, most = numbers[key]
        return field, _whole(line, word, value, most, "a number")
    if key == "frag":
        offset = _whole(line, word, value.removesuffix("+"), 65_528, "an offset in bytes")
        if offset % 8:
            raise _expected(line, f"at {word!r}", "an offset that is a multiple of 8, with + if more fragments follow")
        return "fragment", offset
    if key == "vlan":
        tags = value.split(",")
        if len(tags) > 2:
            raise _expected(line, f"at {word!r}", "one VLAN or two, the outer one first")
        return "vlans", tuple(_whole(line, word, tag, 4095, "a VLAN") for tag in tags)
    if key == "options" and "options" in known:
        names = value.split(",")
        if len(set(names)) != len(names) or not set(names) <= set(OPTIONS):
            raise _expected(line, f"at {word!r}", f"TCP options, each once: {','.join(OPTIONS)}")
        return "options", tuple(name for name in OPTIONS if name in names)
    raise _expected(line, f"at {word!r}", f"one of {', '.join(f'{it}=' for it in known)} for this protocol")


def _flags(line: str, word: str) -> int:
    parts = re.split(r"[-+,]", word.lower())
    if all(part in _WORDS for part in parts):
        return sum({_WORDS[part] for part in parts})
    letters = _FLAGS | _OTHER_LETTERS
    if not all(letter in letters for letter in word.upper()):
        raise _expected(
            line, f"at {word!r}", "TCP flags (letters of FSRPAUEW, or words: syn, syn-ack, none) or KEY=VALUE"
        )
    return sum({letters[letter] for letter in word.upper()})


def _with_kind(line: str, packet: Packet, values: dict[str, Any]) -> Packet:
    upper = sorted(set(values) & {"options", "sequence", "acknowledged", "kind"})
    if packet.fragment and upper:
        raise _expected(line, "at the options", "no transport header fields: a later fragment has none")
    if packet.protocol in ECHO and not packet.fragment and "kind" not in values:
        return packet._replace(kind=ECHO[packet.protocol])
    return packet


def _with_ports(line: str, packet: Packet, source: int | None, destination: int | None) -> Packet:
    if packet.protocol not in (TCP, UDP) or packet.fragment:
        if source is not None or destination is not None:
            why = "a later fragment has none" if packet.fragment else "only TCP and UDP have them"
            raise _expected(line, "at the addresses", f"no ports: {why}")
        return packet
    if destination is None:
        raise _expected(line, f"at {text(packet.destination)!r}", "a destination with a port")
    return packet._replace(source_port=_SOURCE_PORT if source is None else source, destination_port=destination)


def _check_flags(line: str, packet: Packet, flags: int | None) -> None:
    if flags is not None and (packet.protocol != TCP or packet.fragment):
        why = "a later fragment has none" if packet.protocol == TCP else "only TCP has them"
        raise _expected(line, "after the destination", f"no flags: {why}")
