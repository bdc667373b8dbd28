# SPDX-License-Identifier: GPL-2.0
"""What explain is asked about, as typed: an address, a prefix, ports, or a packet toward a port."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xdpguard.errors import UsageError
from xdpguard.policy.sources import parse_sources
from xdpguard.policy.target import PROTOCOL_NUMBERS, Port, Prefix, parse_ports

if TYPE_CHECKING:
    from xdpguard.capture.packet import Packet
    from xdpguard.cli.session import Options
    from xdpguard.explain.subject import Subject

_SOURCE_PORT = 40_000  # as of a packet line without one
_SYN = 0x02
_WITH_PORT = re.compile(r"([0-9.]+|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})")


@dataclass(frozen=True)
class Toward:
    """A first packet of a source to a port; ``to``: the destination, None for this host's own address."""

    source: Prefix
    port: Port
    to: Prefix | None

    def packet(self, subject: Subject) -> Packet:
        """Return the packet as it comes to an interface. Raise UsageError if its destination is not known."""
        from xdpguard.capture.packet import Packet
        from xdpguard.explain.own import facing

        to = self.to or facing(subject.netns, self.source)
        if to is None:
            raise UsageError(f"this host has no route to {self.source}", "name the destination: --to ADDRESS")
        if to.version != self.source.version:
            raise UsageError(f"{to} is IPv{to.version}, {self.source} IPv{self.source.version}", "give two of one kind")
        number, protocol = self.port.number, PROTOCOL_NUMBERS[self.port.protocol]
        flags = _SYN if self.port.protocol == "tcp" else 0
        return Packet(
            protocol,
            self.source.network,
            to.network,
            source_port=_SOURCE_PORT,
            destination_port=number,
            flags=flags,
        )


Asked = Prefix | list[Port] | Toward | None


def is_source(line: str) -> bool:
    """Return whether the words are one, an address or something that is to be one."""
    return bool(line) and " " not in line and ">" not in line


def of_port(line: str, port: str, to: str) -> Asked:
    """Return what is asked with --port: a packet of an address to it, or, without an address, the port itself."""
    ports = parse_ports(port)
    if not line:
        if to:
            raise UsageError("--to goes with an address", "for example: xdpguard explain 198.51.100.7 --port 22")
        return ports
    if len({it.number for it in ports}) > 1:
        raise UsageError(f"--port {port} is several ports", "ask about one at a time")
    source = _address(line)
    return Toward(source, ports[0], _address(to) if to else None)


def of_words(line: str) -> Asked:
    """Return the prefix or the ports that the words are; None if they are a packet in a line."""
    words = line.split()
    if len(words) == 2 and ">" not in line and not words[0].isalpha():
        return of_port(words[0], words[1], "")
    if not is_source(line):
        return None
    if joined := _WITH_PORT.fullmatch(line):
        address = joined[1].strip("[]")
        raise UsageError(f"{line} is an address with a port", f"write: xdpguard explain {address} --port {joined[2]}")
    if not any(mark in line for mark in ".:"):
        try:
            return parse_ports(line)
        except UsageError:
            return None  # the packet line's parser reports what is expected
    found = parse_sources(line)
    if len(found) > 1:
        raise UsageError(f"{line} is {len(found)} prefixes", f"ask about one at a time, such as {found[0][0]}")
    return found[0][0]


def show(chosen: Options, asked: Prefix | list[Port], as_json: bool) -> None:
    """Print what is known about a prefix or ports."""
    from xdpguard.cli import render
    from xdpguard.cli.explained import port_lines, range_lines
    from xdpguard.cli.session import pins, ruleset
    from xdpguard.control.presence import nothing_attached
    from xdpguard.explain import standing

    attached = pins(chosen).exist()
    with ruleset(chosen, read_only=True) as held:
        unread = "" if attached else str(nothing_attached(held.store))
        if isinstance(asked, Prefix):
            whole = standing.of_prefix(held, asked, attached)
            lines = list(range_lines(whole, unread))
        else:
            each = [standing.of_port(held, port, attached) for port in asked]
            lines = [line for its in each for line in port_lines(its, unread)]
    if as_json:
        render.print_json(whole if isinstance(asked, Prefix) else each)
        return
    for line in lines:
        render.say(line)


def _address(text: str) -> Prefix:
    found = parse_sources(text)
    if len(found) != 1 or not found[0][0].is_address:
        raise UsageError(f"{text} is not a single address", "a packet has one: xdpguard explain 198.51.100.7 --port 22")
    return found[0][0]
