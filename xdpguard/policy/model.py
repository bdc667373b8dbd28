# SPDX-License-Identifier: GPL-2.0
"""The policy of an instance: frozen, typed, with every default. Filled by load.py."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from xdpguard.policy.api import Api
from xdpguard.policy.attach import AttachTo
from xdpguard.policy.filters import FilterEntry
from xdpguard.policy.fleet import Fleet
from xdpguard.policy.foreign import ForeignLimits

# Bounds keep a typing error from requesting all of the kernel's memory.
_Entries = Annotated[int, Meta(ge=1024, le=16_777_216)]
RULES = 131_072
_Rate = Annotated[int, Meta(ge=0, le=100_000_000)]


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """``[limits]``: sizes of the kernel's tables, in entries, and how fast they may fill.

    Without ``rules``, there is room for 131,072, or for twice the stored ones when the tables are created.
    """

    rules: _Entries | None = None
    sources: _Entries = 65_536
    tuples: _Entries = 65_536
    new_sources_per_second: _Rate = 10_000
    new_tuples_per_second: _Rate = 10_000


class Sanity(Struct, frozen=True, forbid_unknown_fields=True):
    """``[sanity]``: which impossible packets are dropped."""

    bad_flags: bool = True
    bad_source: bool = True


class Rules(Struct, frozen=True, forbid_unknown_fields=True):
    """``[rules]``: rules in the file, in force from each attach on."""

    allow: tuple[str, ...] = ()
    block: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()


GuardMode = Literal["off", "observe", "auto", "always"]


class Guard(Struct, frozen=True, forbid_unknown_fields=True):
    """``[guard]``: the SYN guard. Rates are per second, durations as in ``--for``; a rate of 0 means no limit."""

    mode: GuardMode = "auto"
    # What starts a flood, besides a listener's full queue, and how long the guard stays active after the last trigger.
    flood_rate: _Rate = 20_000
    window: str = "500ms"
    unproved_rate: _Rate = 50
    hold: str = "5s"
    # Per source prefix: SYNs that reach the kernel, SYN cookies, connections by cookie. A sender that forges a client's
    # address could exhaust its share of the first two, so these are off by default. Then RSTs of closed ports.
    prefix4: Annotated[int, Meta(ge=8, le=32)] = 32
    prefix6: Annotated[int, Meta(ge=16, le=128)] = 64
    syn_rate: _Rate = 0
    answer_rate: _Rate = 0
    connection_rate: _Rate = 0
    reset_rate: _Rate = 1_000
    # SYNs with an unknown owner (NAT, VLANs); those with TCP-MD5, TCP-AO or MP_JOIN, for which cookies do not work.
    unknown_rate: _Rate = 10_000
    signed_rate: _Rate = 1_000
    burst: str = "2s"
    # What the answers may carry, and what the controller may raise while a flood lasts.
    options: bool = True
    sysctls: bool = True
    exempt_ports: tuple[str, ...] = ()
    translated: Literal["auto", "yes", "no"] = "auto"
    # Bans of proved sources, by the controller: distinct closed ports in a minute, connections/s; 0: none.
    scan_ports: Annotated[int, Meta(ge=0, le=65_535)] = 15
    ban_connections: _Rate = 500
    bans: tuple[str, ...] = ("10m", "1h", "24h")
    forget: str = "7d"


class Default(Struct, frozen=True, forbid_unknown_fields=True):
    """``[default]``: what becomes of packets that no rule decides about and that belong to nothing on this host.

    In ``shadow`` mode they are only counted. ``strict_udp``: of UDP only answers pass, not all that reaches a socket.
    """

    policy: Literal["pass", "drop"] = "pass"
    mode: Literal["shadow", "enforce"] = "shadow"
    strict_udp: bool = False

    @property
    def enforced(self) -> bool:
        """Whether such packets are dropped."""
        return self.policy == "drop" and self.mode == "enforce"


LIST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


ListFormat = Literal[
    "", "plain", "addresses", "ranges", "csv", "dat", "rbldnsd", "spamhaus", "nftables", "ipset", "crowdsec"
]


class ListFile(Struct, frozen=True, forbid_unknown_fields=True):
    """``[lists.NAME]``: a named list kept in a file. ``every``: how often ``run`` checks whether the file changed.

    ``shadow``: it only counts what it would drop. ``format``, ``column`` and ``prefix_column`` say how to read it,
    where its content leaves that in doubt; ``allow_empty`` accepts a file without entries.
    """

    file: str
    every: str = "1m"
    strict: bool = False
    force: bool = False
    shadow: bool = False
    format: ListFormat = ""
    column: str = ""
    prefix_column: str = ""
    allow_empty: bool = False


class TcpMetrics(Struct, frozen=True, forbid_unknown_fields=True):
    """``[metrics.tcp]``: which TCP metrics are exported. ``rtt`` adds a small cost to every received segment."""

    states: bool = True
    transitions: bool = True
    retransmissions: bool = True
    backlog: bool = True
    rtt: bool = False


class Metrics(Struct, frozen=True, forbid_unknown_fields=True):
    """``[metrics]``: what ``run`` exports. ``listen`` is address:port, or ``off``; parsed by metrics.py."""

    listen: str = "127.0.0.1:9782"
    top: Annotated[int, Meta(ge=0, le=100)] = 10  # number of sources, and of ports, that are named
    otlp: str = ""  # URL to push to as well
    otlp_interval: str = "15s"
    tcp: TcpMetrics = field(default_factory=TcpMetrics)
    hosts: tuple[str, ...] = ()  # names, besides localhost, this host's and addresses, that requests may name


class Policy(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration file."""

    limits: Limits = field(default_factory=Limits)
    sanity: Sanity = field(default_factory=Sanity)
    rules: Rules = field(default_factory=Rules)
    guard: Guard = field(default_factory=Guard)
    lists: dict[str, ListFile] = field(default_factory=dict)
    default: Default = field(default_factory=Default)
    metrics: Metrics = field(default_factory=Metrics)
    bridges: dict[str, ForeignLimits] = field(default_factory=dict)  # what each may put in force, by its name
    fleet: Fleet = field(default_factory=Fleet)  # see fleet.py
    api: Api = field(default_factory=Api)
    attach: tuple[AttachTo, ...] = ()  # from separate tables, see attach.py
    filters: tuple[FilterEntry, ...] = ()  # from tables, too, see filters.py
