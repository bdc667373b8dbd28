# SPDX-License-Identifier: GPL-2.0
"""What C and Python agree on: the layouts of bpf/layouts/ as `struct.Struct`, sizes of tables, and the reasons.

The layouts are declared in `layouts`; the compiler refuses to build a program that has them otherwise.
"""

from __future__ import annotations

import re
from functools import cache
from struct import Struct
from typing import Literal, NamedTuple

from xdpguard.dataplane.sys.layouts import counts, default, filters, guard, rules
from xdpguard.dataplane.sys.layouts.base import fields, packer, places
from xdpguard.dataplane.sys.source import source_folder

ABI = 8  # part of the pins' path; raised with every change of a struct or of a map

REASON_SLOTS = counts.REASON_SLOTS
PROTOCOLS = counts.PROTOCOLS
DROP_FRAME = counts.DROP_FRAME
PORT_WORDS = rules.PORT_WORDS
SECRETS = rules.SECRETS
FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr")
RULE_NEEDED = 1 << 31  # beside the prefix length: XG_RULE_NEEDED
SHADOW_RULES = 8192  # shadow rules there may be
SENT_CLIENTS = 32_768  # UDP ports from here on are clients'
MACS = 1024  # of devices above an interface
ABOVE = 8192  # ports of sockets bound to them, and one more
ABOVE_PORT, ABOVE_SHARED = 1, 2  # enum xg_above
LISTS = 1024  # named lists there may be
FILTERS = 1024  # of a set
FILTER_LIMITS = 512  # of them that may be limits
FILTER_SLOTS = 2048  # of their hit counters
FILTER_SETS = 32_768  # of token buckets of sources, four in each
FILTER_LACKING = 65_536  # key of a field that a packet lacks
FILTER_HALF, FILTER_HIGH, FILTER_SET_SIZE = 0x200000, 0x1FE000, 0x3FF000  # bytes
FILTER_PLACES, FILTER_TABLES = 1024, 32  # where a set's tables begin, and how many there are
PROBE_BATCH = 16_384  # answers
KEPT = 8  # last samples of a reason and a CPU

RULE = packer(rules.Rule)
HITS = packer(rules.Hits)
SHADOW_HITS = packer(rules.ShadowHits)  # packets, bytes: of established peers, of allowed sources, of others
PREFIX4 = packer(rules.Prefix4)
PREFIX6 = packer(rules.Prefix6)
ADDRESS4 = packer(rules.Address4)
ADDRESS6 = packer(rules.Address6)
PORT = packer(rules.Port)
NETS4 = packer(rules.Nets4)
LINE = packer(rules.Line)
INDEX = packer(rules.Index)
SETTINGS = packer(rules.Settings)
SETTINGS_PORTS = places(rules.Settings)["closed_ports"]

SOURCE4 = packer(counts.Source4)
SOURCE6 = packer(counts.Source6)
SOURCE_COUNTS = packer(counts.SourceCounts)
TUPLE_KEY = Struct("=Q")  # hash of the tuple
TUPLE4 = packer(counts.Tuple4)
TUPLE6 = packer(counts.Tuple6)
COUNTERS = packer(counts.Counters)
REASON_FIELDS = len(tuple(fields(counts.ReasonCounts)))
EVENT = packer(counts.Event)
DROP = packer(counts.Drop)
READER = packer(counts.Reader)
PROBE_STATE = packer(counts.ProbeState)

FILTER = packer(filters.Filter)
FILTER_BYTES = packer(filters.FilterBytes)
FILTER_HEAD = packer(filters.FilterHead)
FILTER_HITS = packer(filters.FilterHits)
FILTER_BUCKETS = packer(filters.FilterBuckets)

GUARD_POLICY = packer(guard.GuardPolicy)
GUARD = packer(guard.Guard)
GUARD_FIELDS = tuple((field.type, field.offset) for field in fields(guard.Guard))  # bytes
FLIGHT = packer(guard.Flight)
BUCKETS = packer(guard.Buckets)
SENT_KEY = packer(default.SentKey)
CUT_KEY = packer(default.CutKey)
CUT = packer(default.Cut)
MAC = Struct("=8s")  # a MAC address, then two zeroes

_REASON = re.compile(r'^XG_REASON\((\w+), (\d+), (PASS|DROP|TX), "([^"]*)"\)', re.MULTILINE)


class Reason(NamedTuple):
    """A line of reasons.def. ``action`` is what the program does with such a packet."""

    name: str
    number: int
    action: Literal["PASS", "DROP", "TX"]
    help: str


@cache
def reasons() -> tuple[Reason, ...]:
    """Return every reason, in order of number."""
    text = (source_folder() / "reasons.def").read_text(encoding="utf-8")
    found = [Reason(m[1], int(m[2]), m[3], m[4]) for m in _REASON.finditer(text)]  # type: ignore[arg-type]
    return tuple(sorted(found, key=lambda reason: reason.number))
