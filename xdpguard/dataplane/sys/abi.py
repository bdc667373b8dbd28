# SPDX-License-Identifier: GPL-2.0
"""The structs shared with bpf/abi.h, and the reasons of bpf/reasons.def.

Sizes go to the compiler (cflags.py), which refuses to build when the two sides differ.
"""

from __future__ import annotations

import re
from ctypes import c_uint32, c_uint64
from functools import cache
from struct import Struct, calcsize
from typing import Literal, NamedTuple

from xdpguard.dataplane.sys.source import source_folder

ABI = 5  # part of the pins' path; raised with every change of a struct or of a map

REASON_SLOTS = 32
PORT_WORDS = 1024
FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr")
PROTOCOLS = ("tcp", "udp", "icmp", "icmpv6", "other")

RULE = Struct("=QII")  # expires, slot, prefix length
RULE_NEEDED = 1 << 31  # beside the prefix length: XG_RULE_NEEDED
HITS = Struct("=QQ")  # packets, bytes
SHADOW_RULES = 8192  # shadow rules there may be
SHADOW_HITS = Struct("=6Q")  # packets, bytes: of established peers, of allowed sources, of others
PREFIX4 = Struct("=I4s")  # length, address
PREFIX6 = Struct("=I16s")
ADDRESS4 = Struct("=4s4x")
ADDRESS6 = Struct("=16s")
PORT = Struct("=HH")  # port, protocol
SOURCE4 = Struct("=4sI")  # address, cpu
SOURCE6 = Struct("=16sI")
TUPLE_KEY = Struct("=Q")  # hash of the tuple
TUPLE4 = Struct("=4s4s2s2sIQQ")  # source, destination, ports in network byte order, cpu, SYNs, SYNs of other CPUs
TUPLE6 = Struct("=16s16s2s2sIQQ")
SOURCE_COUNTS = Struct("=13Q")  # packets, then FLAGS, then ports tried: bits, since, number; then clean
_DENIALS = 64 * 40 + 24 + 8  # octets, of the program's own use: struct xg_denial, xg_after, xg_handover
REASON_COUNTS = "7Q2I"  # packets, octets, observed both; then of samples: due, window, taken, left, lost
REASON_FIELDS = 9
COUNTERS = Struct(f"={REASON_COUNTS * REASON_SLOTS}{256 + len(PROTOCOLS) + 4}Q2IQII6I{_DENIALS}x")
SECRETS = 5
SETTINGS_PORTS = 20  # fields before the closed ports
SETTINGS = Struct(f"=12IQQ6I{2 * PORT_WORDS + SECRETS}Q")  # flags, generation, closed ports, secrets of the hash
GUARD_POLICY = Struct(f"=4I4Q12Q2Q4sI{PORT_WORDS}Q")
_GUARD = "QQQQQIIQQQQQQQQQQIIIIQ"
GUARD = Struct("=" + _GUARD)
# Of each field its type and where it begins, octets.
GUARD_FIELDS = tuple(
    (c_uint64 if code == "Q" else c_uint32, calcsize("=" + _GUARD[:at])) for at, code in enumerate(_GUARD)
)
FLIGHT = Struct("=QQ")  # hash of a tuple, time
MAC = Struct("=8s")  # a MAC address, then two zeroes
MACS = 1024  # of devices above an interface
BUCKETS = Struct("=4Q")
LISTS = 1024  # named lists there may be
NETS4 = Struct("=QQ")  # 64 networks: addresses, prefixes
LINE = Struct("=8Q")
INDEX = Struct("=Q8I3Q")  # struct xg_index
PROBE_BATCH = 16_384  # answers
PROBE_ANSWER = Struct("=8BIHBB16s")  # see struct xg_probe_answer
PROBE_STATE = Struct("=4I")  # place, length, then what is to be left out: kind, number
EVENT = Struct("=QII16sHBBI")  # at, kind, ifindex, source, port, IP version, cause

DROP_FRAME = 128  # octets
KEPT = 8  # last samples of a reason and a CPU
DROP = Struct(f"=IIQII4B{DROP_FRAME}sI")  # see struct xg_drop
READER = Struct("=Q4I")  # until, samples, session, reasons

SIZES = {
    "RULE": RULE.size,
    "HITS": HITS.size,
    "SHADOW_HITS": SHADOW_HITS.size,
    "ADDRESS4": ADDRESS4.size,
    "ADDRESS6": ADDRESS6.size,
    "PREFIX4": PREFIX4.size,
    "PREFIX6": PREFIX6.size,
    "PORT": PORT.size,
    "SOURCE4": SOURCE4.size,
    "SOURCE6": SOURCE6.size,
    "TUPLE4": TUPLE4.size,
    "TUPLE6": TUPLE6.size,
    "SOURCE_COUNTS": SOURCE_COUNTS.size,
    "COUNTERS": COUNTERS.size,
    "SETTINGS": SETTINGS.size,
    "GUARD_POLICY": GUARD_POLICY.size,
    "GUARD": GUARD.size,
    "FLIGHT": FLIGHT.size,
    "BUCKETS": BUCKETS.size,
    "EVENT": EVENT.size,
    "DROP": DROP.size,
    "READER": READER.size,
    "INDEX": INDEX.size,
    "LINE": LINE.size,
    "NETS4": NETS4.size,
    "PROBE_ANSWER": PROBE_ANSWER.size,
    "PROBE_STATE": PROBE_STATE.size,
}

_REASON = re.compile(r'^XG_REASON\((\w+), (\d+), (PASS|DROP|TX), "([^"]*)"\)', re.MULTILINE)


class Reason(NamedTuple):
    """A line of reasons.def. ``action`` is what the program does with such a packet."""

    name: str
    number: int
    action: Literal["PASS", "DROP", "TX"]
    help: str


@cache
def reasons() -> tuple[Reason, ...]:
    """Every reason, in order of number."""
    text = (source_folder() / "reasons.def").read_text(encoding="utf-8")
    found = [Reason(m[1], int(m[2]), m[3], m[4]) for m in _REASON.finditer(text)]  # type: ignore[arg-type]
    return tuple(sorted(found, key=lambda reason: reason.number))
