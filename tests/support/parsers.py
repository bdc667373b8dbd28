# SPDX-License-Identifier: GPL-2.0
"""Every parser of what comes from outside, with valid inputs of each, for the fuzzer."""

from __future__ import annotations

import fcntl
import io
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np

from support.expressions import texts
from support.parser_fuzz import Target
from xdpguard.bridges.bgp.exabgp import ExaBGP
from xdpguard.bridges.bgp.gobgp import GoBGP
from xdpguard.bridges.bgp.routes import Routes
from xdpguard.bridges.crowdsec.client import refusal_message
from xdpguard.bridges.crowdsec.decisions import Decisions, decoded
from xdpguard.capture import line, packet
from xdpguard.capture.reader import Capture
from xdpguard.capture.writer import Writer
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.fleet import hosts, objects, reading, snapshot
from xdpguard.fleet.message import Value, encode
from xdpguard.fleet.state import Message, State
from xdpguard.lists.addresses import aggregate
from xdpguard.lists.formats import Request, read
from xdpguard.lists.formats.request import FORMATS
from xdpguard.lists.parse import parse_lines
from xdpguard.policy import exchange
from xdpguard.policy.duration import parse_duration
from xdpguard.policy.flowspec import text as flowspec
from xdpguard.policy.limit import parse_limit
from xdpguard.policy.load import load
from xdpguard.policy.matching.parsing import parse as parse_match
from xdpguard.policy.matching.writing import written
from xdpguard.policy.sources import parse_sources
from xdpguard.policy.target import parse_ports

NOW = 1_795_000_000.0
_MOST_ENTRIES = 1 << 20
_FRAME = bytes.fromhex("020000000001020000000002080045000028000100004006000001020304c6336407") + bytes(20)
LISTS = (
    b"192.0.2.1\n198.51.100.0/24\t# who\n2001:db8::/32 ; what\n\n# 9.9.9.9\n203.0.113.7 2001:db8::1\n",
    b"# list\n10.0.0.1-10.0.0.9\nSome name, inc:10.1.0.0-10.1.255.255\n2001:db8::1-2001:db8::ff\n",
    b"000.000.000.000 - 000.255.255.255 , 000 , [L2]Bogon\n001.002.004.000 - 001.002.004.255 , 200 , China\n",
    b"ip,netmask,expires\n192.0.2.1,255.255.255.255,2026-12-01T00:00:00Z\n198.51.100.0,255.255.255.0,\n",
    b'id;network;comment\n1;"198.51.100.0/24";"a;b"\n2;2001:db8::/48;x\n',
    b":127.0.0.2:listed $\n192.0.2.0/24\n10.0.0.1-9\n!192.0.2.7\n2001:db8::/32\n$SOA 3000 a. b. 0 600 300 86400 300\n",
    b"; Spamhaus DROP List\n; Expires: Mon, 01 Jun 2026 00:00:00 GMT\n1.10.16.0/20 ; SBL256894\n2a0a::/32 ; SBL1\n",
    b'{"cidr":"1.10.16.0/20","sblid":"SBL1","rir":"apnic"}\n{"cidr":"2001:db8::/32","sblid":"SBL2"}\n'
    b'{"type":"metadata","timestamp":1795000000,"size":2}\n',
    b"table inet t {\n\tset s {\n\t\ttype ipv4_addr\n\t\tflags interval,timeout\n\t\telements = { 192.0.2.1 timeout 1h "
    b'expires 10m, 198.51.100.0/24 comment "x", 10.0.0.1-10.0.0.9 }\n\t}\n}\n',
    b"flush ruleset\nadd table inet t\nadd set inet t bl { type ipv4_addr; }\nadd element inet t bl { 1.2.3.4 }\n"
    b"define x = { 10.0.0.0/8, 2001:db8::1 }\n",
    b'{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"set": {"family": "ip", "name": "s", "table": "t", "type": '
    b'"ipv4_addr", "elem": ["192.0.2.1", {"prefix": {"addr": "198.51.100.0", "len": 24}}, {"range": ["10.0.0.1", '
    b'"10.0.0.9"]}, {"elem": {"val": "192.0.2.7", "timeout": 600, "expires": 60, "comment": "x"}}]}}]}',
    b"create bl hash:net family inet hashsize 1024 maxelem 65536 timeout 600\nadd bl 192.0.2.1 timeout 60\n"
    b"add bl 198.51.100.0/24\ncreate b6 hash:ip family inet6\nadd b6 2001:db8::1\n",
    b'[{"id": 1, "source": {"value": "192.0.2.1"}, "decisions": [{"id": 1, "duration": "1h2m3.5s", "origin": "cscli", '
    b'"scenario": "x", "scope": "Ip", "type": "ban", "value": "192.0.2.1"}]}]',
    b"id,source,ip,reason,action,country,as,events_count,expiration,simulated,alert_id\n"
    b"1,cscli,Ip:192.0.2.1,manual,ban,,,1,3h59m,false,1\n",
    b"192.0.2.1 \t2026-11-20 10:00:00 + 600 = 2026-11-20 10:10:00\n192.0.2.2 \t2026-11-20 10:00:00 + -1 = 9999\n",
)
TARGETS = (
    b"192.0.2.1\n198.51.100.0/24, 10.0.0.1 # who\n\n2001:db8::/32 ; what\n::ffff:9.9.9.9\n",
    b"\xef\xbb\xbf10.0.0.1-10.0.0.9\n2001:db8::1-2001:db8::ff\n198.51.100.7/24\n",
)
TOML = (
    b"""[limits]\nsources = 65536\n[sanity]\nbad_flags = true\n[default]\npolicy = "drop"\nmode = "shadow"
[guard]\nmode = "auto"\nflood_rate = 20000\nwindow = "500ms"\nbans = ["10m", "1h"]\nexempt_ports = ["8080"]
[rules]\nallow = ["192.0.2.0/24"]\nblock = ["198.51.100.7", "2001:db8::/48"]\nports = ["23/tcp", "53"]
[lists.drop]\nfile = "drop.txt"\nevery = "1m"\nformat = "csv"\ncolumn = "ip"\n""",
    b"""[attach]\ninterfaces = ["eth0", "eth1@web"]\n[[filters]]\nname = "dns"
match = "udp sport 53 meta length > 512"\naction = "drop"\n[[filters]]\nname = "ssh"
match = "tcp dport 22"\nlimit = "10/s"\nburst = "20"\nper = "source/24,56"\nshadow = true\nreason = "x"
[metrics]\nlisten = "127.0.0.1:9782"\ntop = 10\n[metrics.tcp]\nrtt = true\n[api]\nlisten = "127.0.0.1:9783"
token_file = "/etc/token"
[fleet]\nserver = ["nats://192.0.2.5"]\nname = "web1"\n[bridges.crowdsec]\nclock_skew = "5s"\n""",
)
IMPORTS = (
    b"""[[rules]]\nkind = "block"\ntarget = "198.51.100.7"\nmode = "enforce"\norigin = "cli"\nreason = "ssh"
created = 2026-03-01T10:00:00+00:00\nexpires = 2026-12-01T10:10:00+00:00\n[[rules]]\nkind = "port"\ntarget = "80/tcp"
[[filters]]\nname = "a"\nmatch = "tcp dport 80"\nlimit = "1/s"\nburst = "5"
expires = 2026-12-01T00:00:00+00:00\n""",
)
PACKETS = (
    b"tcp 198.51.100.7:4000 > 203.0.113.1:80 SA len=10 ttl=3 vlan=5,7 options=mss,sack seq=1 ack=2",
    b"udp [2001:db8::1]:53 > [2001:db8::2]:4000 frag=0+ len=1400",
    b"udp 2001:db8::1 > 2001:db8::2 frag=8 ttl=0",
    b"icmp 198.51.100.7 > 203.0.113.1 type=8",
    b"198.51.100.7 to 203.0.113.1:80 syn,ack",
    b"50 198.51.100.7 > 203.0.113.1",
)
FLOWSPEC = (
    b"gobgp global rib -a ipv4-flowspec add match destination 10.0.0.0/24 protocol tcp destination-port '==80' "
    b"'>=8080&<=8888' tcp-flags '=SA' fragment '=first-fragment' then rate-limit 1000\n",
    b"gobgp global rib -a ipv6-flowspec add match source 2001:db8::/32 0 packet-length '>512' then discard\n",
    b"flow { route dns { match { source 192.0.2.0/24; protocol =udp; source-port =53; packet-length >512; } then { "
    b"rate-limit 9600; extended-community [ 0x800c0000447a0000 ]; action terminal; } } }\n",
)


def _gobgp() -> bytes:
    parts = [
        {"type": 2, "value": {"prefix": "192.0.2.0/24"}},
        {"type": 3, "value": [{"op": 129, "value": 6}]},
        {"type": 9, "value": [{"op": 1, "value": 2}, {"op": 194, "value": 16}]},
        {"type": 10, "value": [{"op": 146, "value": 512}]},
        {"type": 12, "value": [{"op": 128, "value": 6}]},
    ]
    communities = [
        {"type": 128, "subtype": 6, "as": 0, "rate": 0},
        {"type": 128, "subtype": 12, "value": "DAAARHoAAA=="},
        {"type": 128, "subtype": 7, "terminal": True, "sample": False},
    ]
    attrs = [{"type": 1, "value": 0}, {"type": 16, "value": communities}, {"type": 14, "afi": 1, "safi": 133}]
    path = {"nlri": {"value": parts}, "age": 1795892646, "best": True, "attrs": attrs, "neighbor-ip": "192.0.2.9"}
    return json.dumps({"web": [path]}).encode()


def _unicast() -> bytes:
    attrs = [{"type": 8, "communities": [65535 << 16 | 666]}]
    path = {"nlri": {"prefix": "203.0.113.9/32"}, "attrs": attrs, "neighbor-ip": "192.0.2.9", "age": 1}
    return json.dumps({"203.0.113.9/32": [path]}).encode()


NEIGHBORS = (
    b'[{"conf": {"peer_asn": 65001}, "state": {"session_state": 6, "neighbor_address": "192.0.2.9"}, "timers": '
    b'{"state": {"uptime": {"seconds": 1795000000}}}}]'
)


def _exabgp() -> Iterator[bytes]:
    rule = {"string": "flow source-ipv4 192.0.2.0/24 protocol =udp source-port =53 packet-length >512"}
    community = {"value": 0x8006000047C35000, "string": "rate-limit:100000"}
    attributes = {"origin": "igp", "community": [[65535, 666]], "extended-community": [community]}
    for what in (
        {"attribute": attributes, "announce": {"ipv4 flow": {"no-nexthop": [rule]}}},
        {"attribute": attributes, "announce": {"ipv4 unicast": {"192.0.2.1": [{"nlri": "203.0.113.9/32"}]}}},
        {"withdraw": {"ipv4 flow": [rule], "ipv4 unicast": [{"nlri": "203.0.113.9/32"}]}},
    ):
        neighbor = {"address": {"peer": "192.0.2.9"}, "asn": {"peer": 65001}, "message": {"update": what}}
        yield json.dumps({"exabgp": "4.0.1", "type": "update", "neighbor": neighbor}).encode()
    state = {"address": {"peer": "192.0.2.9"}, "state": "up"}
    yield json.dumps({"exabgp": "4.0.1", "type": "state", "neighbor": state}).encode()


CROWDSEC = (
    b'{"new": [{"id": 1, "duration": "1h59m59.06s", "origin": "CAPI", "scenario": "ssh-bf", "scope": "Ip", "type": '
    b'"ban", "value": "192.0.2.1", "simulated": false}, {"id": 2, "duration": "-10.4\xc2\xb5s", "origin": "x", '
    b'"scenario": "y", "scope": "Range", "type": "captcha", "value": "2001:db8::/32"}], "deleted": [{"id": 1, '
    b'"duration": "0s", "scope": "Ip", "type": "ban", "value": "192.0.2.1"}]}',
)


def _captures() -> Iterator[bytes]:
    for order, magic in (("<", 0xA1B2C3D4), (">", 0xA1B23C4D)):
        for link in (1, 113, 276, 101, 0):
            head = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65_535, link)
            data = _FRAME if link == 1 else bytes(14) + b"\x08\0" + bytes(4) + _FRAME[14:]
            one = struct.pack(order + "IIII", 1_795_000_000, 5, len(data), len(data)) + data
            yield head + one * 3
    file = io.BytesIO()
    writer = Writer(file.write, [("eth0", "x"), ("eth1", "")], 128, "xdpguard 1", "Linux 6")
    for number in range(3):
        writer.packet(number % 2, int(NOW * 1e9), _FRAME, len(_FRAME), "deny", 1)
    writer.statistics(0, 3, 0)
    yield file.getvalue()
    section = struct.pack(">IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
    options = struct.pack(">HH8sHHbxxxHHqHH", 4, 8, bytes(8), 9, 1, -120, 14, 8, 5, 0, 0)
    interface = struct.pack(">IIHHI", 1, 20 + len(options), 1, 0, 96) + options + struct.pack(">I", 20 + len(options))
    padded = _FRAME + bytes(-len(_FRAME) % 4)
    simple = struct.pack(">III", 3, 16 + len(padded), len(_FRAME)) + padded + struct.pack(">I", 16 + len(padded))
    old = struct.pack(">IIHHIIII", 2, 32 + len(padded), 0, 0, 1, 2, len(_FRAME), len(_FRAME)) + padded
    yield section + interface + simple + old + struct.pack(">I", 32 + len(padded))


def _values() -> Iterator[bytes]:
    for key, value in (
        ("web9.block.4-c0000201-32", Value(1, "block", "192.0.2.1", NOW, NOW + 3600, "x", "guard")),
        ("operator.allow.6-20010db8000000000000000000000000-32", Value(1, "allow", "2001:db8::/32", NOW)),
        ("operator.filter.dns", Value(1, "filter", "dns", NOW, match="udp sport 53", action="limit", limit="9/s")),
        ("operator.list.drop", Value(1, "list", "drop", NOW, digest="0" * 64, object="abc", size=9, entries=1)),
    ):
        yield key.encode() + b" " + encode(value)


def _capture(data: bytes) -> None:
    its = Capture("-", io.BytesIO(data))
    for frame in its:
        packet.decode(frame.data)
    list(its.notes())


def _lists(form: str) -> Callable[[bytes], object]:
    return lambda data: read("list", io.BytesIO(data), Request(form, now=NOW))


def _columns(data: bytes) -> None:
    head, _, rest = data.partition(b"\n")
    column, _, prefix = head.decode("utf-8", "replace").partition(";")
    read("list", io.BytesIO(rest), Request("", column, prefix, now=NOW))


def _text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: parse(data.decode("utf-8", "surrogateescape"))


def _line(text: str) -> None:
    found = line.parse(text)
    packet.encode(found)
    if line.parse(line.write(found)) != found:
        raise AssertionError("what is written reads differently")


def _match(text: str) -> None:
    found = parse_match(text)
    again = parse_match(written(found))
    if parse_match(written(again)) != again:  # bytes may have a shorter form than they were given
        raise AssertionError("what is written reads differently")


def _words(text: str) -> None:
    kind, _, rest = text.partition(" ")
    parse: Callable[[str], object] = {"ports": parse_ports, "for": parse_duration}.get(kind, parse_sources)
    if kind == "limit":
        parse_limit(*rest.split(" ")[:3])
    else:
        parse(rest)


def _decisions(data: bytes) -> None:
    known = Decisions("mine")
    for whole in (True, False):
        known.take(decoded(data), NOW, whole)


def fed(data: bytes) -> Routes:
    """The routes after events as ExaBGP writes them to a process; a pipe holds them all."""
    events, feed = os.pipe()
    told = os.open(os.devnull, os.O_WRONLY)
    try:
        fcntl.fcntl(feed, fcntl.F_SETPIPE_SZ, 1 << 20)
        os.write(feed, data[: 1 << 20])
        its, routes = ExaBGP(events, told), Routes(300.0)
        its.heard()
        its.look(routes)
        return routes
    finally:
        for descriptor in (events, feed, told):
            os.close(descriptor)


class Told(GoBGP):
    """A GoBGP that says the same to each question, but for that about its neighbors."""

    def __init__(self, said: bytes, neighbors: bytes) -> None:
        self.place, self.own, self.fault = "here", set(), ""
        self._said, self._neighbors = said, neighbors
        self._monitor, self._sessions = None, {}
        self._quick_at = self._thorough_at = self._start_at = 0.0

    def _watch(self, now: float) -> None:
        pass

    def _asked(self, *words: str) -> Any:
        said = b'{"num_destination": 1}' if "summary" in words else self._said
        return self._answer(self._neighbors if words[0] == "neighbor" else said, b"", 0)


def _daemon(data: bytes) -> None:
    """What a GoBGP says: of its neighbors, if it is an array, or else of its routes."""
    routes = Routes(300.0)
    Told(b"{}" if data[:1] == b"[" else data, data if data[:1] == b"[" else NEIGHBORS).look(routes)
    routes.wanted()


def _fleet(data: bytes) -> None:
    key, _, value = data.partition(b" ")
    state = State("web1")
    state.take([Message(1, key.decode("utf-8", "replace"), value), Message(2, "web2.block.4-c0000201-32", value)])
    list(state.all_wanted())


def _live(data: bytes) -> None:
    """A message that the server published again: its number, reply and value on lines."""
    number, _, rest = data.decode("utf-8", "replace").partition("\n")
    reply, _, value = rest.partition("\n")
    headers = {"Nats-Sequence": number}
    reading.live(SimpleNamespace(headers=headers, subject="xg.live.a", reply=reply, data=value.encode()))


def _message(data: bytes) -> None:
    """A message of a stream: subject, reply and value on lines."""
    subject, _, rest = data.decode("utf-8", "replace").partition("\n")
    reply, _, value = rest.partition("\n")
    reading.change(SimpleNamespace(headers=None, subject=subject, reply=reply, data=value.encode()), "xg")


def _recompressed(change: Callable[[bytes], object]) -> Callable[[bytes], object]:
    """Also with what is inside changed, not what it is packed into."""

    def both(data: bytes) -> None:
        if data[:1] == b"\x78":
            change(data)
        else:
            change(zlib.compress(data, 1))

    return both


def _packed() -> tuple[list[bytes], list[bytes]]:
    """Snapshots and objects, packed and not."""
    rows = [[1, "web9.block.4-c0000201-32", b"{}"], [2, "operator.filter.dns", b"x" * 20]]
    six = np.array([0x20010DB8 << 32], np.uint64)
    entries = aggregate(
        np.array([0xC0000201], np.uint32), np.array([0xC00002FF], np.uint32), six, six * 0, np.array([32], np.uint8)
    )[0]
    inside = msgspec.msgpack.encode(rows)
    whole = objects.packed(entries)
    return [inside, zlib.compress(inside)], [zlib.decompress(whole), whole]


def targets(folder: Path) -> list[Target]:
    """All parsers; some read a file, which is put into a folder."""
    path = folder / "fuzz.toml"

    def configuration(data: bytes) -> None:
        path.write_bytes(data)
        load(path)

    usage = (UsageError,)
    snapshots, packed = _packed()
    gobgp, exabgp = [_gobgp(), _unicast(), NEIGHBORS], list(_exabgp())
    words = [b"source 192.0.2.0/24, 2001:db8::1", b"source 10.0.0.1-10.0.0.9", b"ports 80/tcp,8000-8010,ssh"]
    words += [b"for 1h30m", b"limit 1000/s 50 source/24,56", b"limit 10mbit/s 1mbyte source+port"]
    host = hosts.HostState(floods=("eth0",), lists={"drop": "00112233"}, drops={"deny": 1.5}, at=NOW)
    found = [
        Target("captures", _capture, list(_captures()), usage),
        Target("configuration", configuration, TOML, usage),
        Target("import", lambda data: exchange.parse("file", data, NOW), IMPORTS, usage),
        Target("block -", lambda data: parse_lines("-", data.splitlines(keepends=True)), TARGETS, usage),
        Target("packet lines", _text(_line), PACKETS, usage),
        Target("matches", _text(_match), [text.encode() for text in texts()], usage),
        Target("words", _text(_words), words, usage),
        Target("FlowSpec", _text(lambda text: flowspec.read(text, "rules")), [*FLOWSPEC, gobgp[0], exabgp[0]], usage),
        Target("GoBGP", _daemon, gobgp, (XdpguardError,)),
        Target("ExaBGP", lambda data: fed(data + b"\n").wanted(), exabgp, ()),
        Target("CrowdSec", _decisions, CROWDSEC, (XdpguardError,)),
        Target("CrowdSec refusals", refusal_message, [b'{"message": "access forbidden"}'], ()),
        Target("fleet entries", _fleet, list(_values()), ()),
        Target(
            "fleet messages",
            _message,
            [b"$KV.xg.a\n$JS.ACK.s.c.1.22.33.1795000000000000000.0\n{}"],
            (ValueError, IndexError, OverflowError),  # the connection is then made anew
        ),
        Target("fleet changes", _live, [b"123\n\n{}", b"1\n$JS.ACK.s.c.1.2.3.4.0\n{}"], ()),
        Target("fleet snapshots", _recompressed(snapshot.unpacked), snapshots, (snapshot.RefusedError,)),
        Target("fleet lists", _recompressed(lambda data: objects.unpacked(data, _MOST_ENTRIES)), packed, (ValueError,)),
        Target("fleet hosts", lambda data: hosts.decode(data, 0.0), [msgspec.json.encode(host)], ()),
        Target("lists by column", _columns, [b"ip;netmask\n" + LISTS[3], b"1,2;none\na,b\n10.0.0.1,10.0.0.9\n"], usage),
    ]
    return [*found, *(Target(f"lists{' ' if form else ''}{form}", _lists(form), LISTS, usage) for form in _FORMS)]


_FORMS: Sequence[str] = ("", *FORMATS)
