# SPDX-License-Identifier: GPL-2.0
"""The command explain."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard.cli import health, output, places, probing, render
from xdpguard.cli.explain_what import Asked, Toward
from xdpguard.cli.explained import address_lines, packet_lines
from xdpguard.cli.session import Options, controller, options, pins
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.policy.target import Prefix

if TYPE_CHECKING:
    from xdpguard.explain.subject import Subject

_LONGEST_HEX = 1 << 20  # characters

_EXAMPLES = """
\b
Examples:
  xdpguard explain 198.51.100.7                                       all that is known about an address
  xdpguard explain 198.51.100.7 --port 22                             may it connect to port 22 of this host?
  xdpguard explain 198.51.100.0/24                                    the rules and lists for a prefix
  xdpguard explain 22/tcp                                             is the port closed, which filters name it?
  xdpguard explain 198.51.100.7 to 203.0.113.1:80                     a TCP SYN, spelled without >
  xdpguard explain 'tcp 198.51.100.7:4000 > 203.0.113.1:80 S'         what happens to such a packet, and why
  xdpguard explain 'udp [2001:db8::7] > [2001:db8:1::1]:53 len=40 vlan=5'
  xdpguard explain 'icmp 198.51.100.7 > 203.0.113.1' --interface eth0
  xdpguard explain --hex '0200 0000 0001 ...'                         a frame; - reads it from standard input
  xdpguard explain --pcap trace.pcap --packet 17

A packet is written as [PROTOCOL] SOURCE > DESTINATION [FLAGS] [KEY=VALUE...]. PROTOCOL: tcp (without it), udp, icmp,
icmpv6 or a number. FLAGS, for TCP: letters of FSRPAUEW (. is A), or a word: syn (without any), syn-ack, none. Keys:
len= bytes after the headers, ttl=, frag=OFFSET[+], vlan=[OUTER,]VLAN; for ICMP type=; for TCP seq=, ack=,
options=mss,sack,ts,ws.

The verdict comes from the attached program itself, compiled a second time so that it counts nothing and changes no
rule; the SYN guard is in the state it has at this moment. For a SYN that it would answer with a cookie, the copy asks
the kernel for one, as the attached program would.
"""


def register(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command(epilog=_EXAMPLES)(explain)


def explain(
    context: typer.Context,
    what: Annotated[
        list[str] | None,
        typer.Argument(metavar="[WHAT]", help="An address, prefix, port, or packet in a line.", show_default=False),
    ] = None,
    port: Annotated[
        str, typer.Option("--port", metavar="PORT", help="A packet of the address to this port: 22, 53/udp, ssh.")
    ] = "",
    to: Annotated[
        str, typer.Option("--to", metavar="ADDRESS", help="With --port, to this address. Default: this host's own.")
    ] = "",
    hexadecimal: Annotated[
        str, typer.Option("--hex", metavar="BYTES", help="A frame in hexadecimal; - for standard input.")
    ] = "",
    pcap: Annotated[str, typer.Option("--pcap", metavar="FILE", help="A capture file, with --packet.")] = "",
    number: Annotated[
        int | None, typer.Option("--packet", metavar="N", min=1, help="Which packet of it, from 1.")
    ] = None,
    config: probing.Config = None,
    interface: places.Interface = "",
    netns: places.Netns = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what happens to a packet and what decides it, or all that is known about an address, a prefix, a port."""
    from xdpguard.cli import explain_what

    line = " ".join(what or [])
    if port and not hexadecimal and not pcap and (not line or explain_what.is_source(line)):
        asked: Asked = explain_what.of_port(line, port, to)
    elif port or to:
        raise UsageError("--port and --to go with an address", "for example: xdpguard explain 198.51.100.7 --port 22")
    elif sum(map(bool, (line, hexadecimal, pcap))) != 1 or bool(pcap) != bool(number):
        raise UsageError("give one of: WHAT, --hex BYTES, --pcap FILE with --packet N", "see xdpguard explain --help")
    else:
        asked = explain_what.of_words(line) if line else None
    chosen = options(context)
    if asked is None or isinstance(asked, Toward):
        source = (asked or line, hexadecimal, pcap, number or 0)
        _explain_packet(chosen, source, (config, interface, netns), as_json)
        return
    if config or interface or netns is not None:
        what_is = "an address" if isinstance(asked, Prefix) and asked.is_address else "a prefix or a port"
        raise UsageError(f"{what_is} is looked up in the whole instance", "leave out --config, --interface and --netns")
    if isinstance(asked, Prefix) and asked.is_address:
        _explain_address(chosen, asked, as_json)
        return
    explain_what.show(chosen, asked, as_json)


def explain_line(chosen: Options, line: str, whom: tuple[Path | None, str, str | None], as_json: bool) -> None:
    """Explain a packet in a line; ``whom``: configuration, interface and namespace, as for `probing.asked`."""
    _explain_packet(chosen, (line, "", "", 0), whom, as_json)


def _explain_address(chosen: Options, address: Prefix, as_json: bool) -> None:
    from xdpguard.control.presence import nothing_attached, presences_of
    from xdpguard.explain.address import about

    with controller(chosen, read_only=True) as session:
        found = about(session, pins(chosen), address)
        late = health.clock_notes(session.store) if found.attached else []
        where = presences_of(session)
        unread = "" if found.attached and found.interfaces else str(nothing_attached(session.store))
        if found.outcome and any(it.fault for it in where.all):
            late += where.notes()
    if as_json:
        render.print_json(found)
        return
    colour: output.Colour = "red" if found.outcome == "deny" else "green" if found.outcome == "allow" else ""
    for number, text in enumerate(address_lines(found, unread)):
        render.say(text, "" if number else colour)
    for text in late:
        render.note(text)


def _explain_packet(
    chosen: Options,
    source: tuple[str | Toward, str, str, int],
    whom: tuple[Path | None, str, str | None],
    as_json: bool,
) -> None:
    from xdpguard.capture.ethernet import OWN_MAC
    from xdpguard.capture.line import parse
    from xdpguard.capture.packet import encode
    from xdpguard.explain.decision import explain as decide

    line, hexadecimal, pcap, number = source
    packet = parse(line) if line and isinstance(line, str) else None
    frame = _frame(hexadecimal) if hexadecimal else b""
    with probing.asked(chosen, *whom) as subject:
        length = len(frame)
        if isinstance(line, Toward):
            packet = line.packet(subject)
        if packet:
            frame = encode(packet, subject.mac or OWN_MAC)
            length = len(frame)
        elif pcap:
            frame, length = _captured(pcap, number, subject)
        found = decide(subject, frame, length)
        notes = subject.notes
    for text in notes:
        render.note(text)
    if as_json:
        render.print_json(found)
        return
    verdicts: dict[str, output.Colour] = {"DROP": "red", "PASS": "green"}
    for text in packet_lines(found, subject.label):
        render.say(text, verdicts.get(found.verdict, "") if text.startswith("  verdict ") else "", found.verdict)


def _frame(text: str) -> bytes:
    if text == "-":
        if sys.stdin is None:
            raise UsageError("standard input is closed", "give the bytes after --hex")
        text = sys.stdin.buffer.read(_LONGEST_HEX).decode("ascii", "replace")
    digits = "".join(text.split()).replace(":", "").removeprefix("0x")
    try:
        frame = bytes.fromhex(digits)
    except ValueError as error:
        wrong = next((letter for letter in digits if letter not in "0123456789abcdefABCDEF"), "")
        what = f"{wrong!r} is not a hexadecimal digit" if wrong else "an odd number of digits"
        raise UsageError(f"--hex: {what}", "give two digits per byte; spaces and colons may separate them") from error
    if not 14 <= len(frame) <= 65_535:
        raise UsageError(
            f"--hex: a frame of {len(frame):,} bytes", "give 14 to 65535 bytes, beginning with the Ethernet header"
        )
    return frame


def _captured(pcap: str, number: int, subject: Subject) -> tuple[bytes, int]:
    last = 0
    with probing.capture(pcap, subject) as capture:
        for place, data, length, sent, _ in capture:
            if place == number:
                if sent:
                    render.note(f"the capturing host sent packet {number:,}; this is what would happen if it came in")
                return data, length
            last = place
            if place > number:
                break
        for text in capture.notes():
            render.note(text)
    raise XdpguardError(
        f"{pcap} has no packet {number:,} that is a frame",
        f"the last frame before it is packet {last:,}" if last else "it has no frame before that either",
    )
