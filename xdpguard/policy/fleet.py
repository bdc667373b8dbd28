# SPDX-License-Identifier: GPL-2.0
"""``[fleet]``: the server of a fleet's common entries, and what of them this host may put in force."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta, Struct, field

from xdpguard.errors import UsageError
from xdpguard.policy.duration import parse_duration, parse_within
from xdpguard.policy.foreign import ForeignLimits
from xdpguard.policy.rule import Mode

HOST = re.compile(r"[A-Za-z0-9_-]{1,63}")
_NO_NAME = re.compile(r"[^A-Za-z0-9_-]")
_SCHEMES = ("nats", "tls")
_PORT = 4222
_SKEW = (1, 3600)  # seconds


class FleetTls(Struct, frozen=True, forbid_unknown_fields=True):
    """``[fleet.tls]``: files in PEM. ``ca``: who signs the server's certificate; the others: this host's own."""

    ca: str = ""
    cert: str = ""
    key: str = ""


class Fleet(Struct, frozen=True, forbid_unknown_fields=True):
    """``[fleet]``: without a server, what ``fleet join`` has recorded holds; ``mode`` without a value, too.

    ``name``: under which this host publishes, by default its host name. ``keeper``: whether this host keeps the
    snapshot from which hosts join, for which it needs an operator's credentials. ``share_bans``: whether the guard's
    bans are published. ``ban_after``: the number of hosts whose guards must ban a source before it is banned here as
    well; 0: each ban that is shared counts. ``max_per_host``: entries of one publisher that count here, but for an
    operator's. ``max_list_entries``: that its lists may have together. ``totals``: whether the metrics of `run` have
    the sums over all hosts. The rest: see ForeignLimits.
    """

    server: tuple[str, ...] = ()
    name: str = ""
    credentials: str = ""
    tls: FleetTls = field(default_factory=FleetTls)
    mode: Mode | None = None
    keeper: bool = False
    share_bans: bool = False
    ban_after: Annotated[int, Meta(ge=0, le=10_000)] = 0
    max_entries: Annotated[int, Meta(ge=1, le=1_000_000)] = 100_000
    max_per_host: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    max_list_entries: Annotated[int, Meta(ge=0, le=10_000_000)] = 1_000_000
    shortest4: Annotated[int, Meta(ge=1, le=32)] = 16
    shortest6: Annotated[int, Meta(ge=1, le=128)] = 32
    allow: bool = False
    filters: bool = False
    clock_skew: str = "5m"
    totals: bool = False

    @property
    def per_host(self) -> int:
        """How many entries of one publisher count here: by default half of all."""
        return self.max_per_host or max(1, self.max_entries // 2)

    @property
    def limits(self) -> ForeignLimits:
        """What the fleet may put in force here."""
        return ForeignLimits(
            self.mode or "enforce",
            self.max_entries,
            self.shortest4,
            self.shortest6,
            self.allow,
            self.filters,
            self.clock_skew,
        )


def own_name() -> str:
    """Return this host's name as keys may have it."""
    return _NO_NAME.sub("-", socket.gethostname().partition(".")[0])[:63] or "host"


def check_name(name: str) -> None:
    """Raise UsageError if a host cannot publish under a name."""
    if not HOST.fullmatch(name):
        raise UsageError(f"not a host's name in a fleet: {name!r}", "use up to 63 letters, digits, - or _")


def check_server(url: str) -> None:
    """Raise UsageError if it is not the address of a NATS server."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in _SCHEMES and parts.hostname and parts.port != 0 and not parts.path.strip("/")
    except ValueError:
        fits = False
    if not fits or not url.isprintable() or " " in url:
        raise UsageError(f"not a NATS server: {url!r}", "write nats://HOST or nats://HOST:PORT, or tls:// for TLS")
    if parts.username or parts.password:
        raise UsageError(
            "the server's address holds a user or password", "put them into a file, and name it as credentials"
        )


def port_of(url: str) -> int:
    """Return the TCP port of a server's address."""
    return urlsplit(url).port or _PORT


def fleet_faults(its: Fleet) -> Iterator[tuple[str, UsageError]]:
    """Yield the key and error of each value of ``[fleet]`` that has the right type but is invalid."""
    for key, check, values in (
        ("server", check_server, its.server),
        ("name", check_name, (its.name,) * bool(its.name)),
    ):
        for value in values:
            try:
                check(value)
            except UsageError as error:
                yield key, error
    if bool(its.tls.cert) != bool(its.tls.key):
        given, missing = ("cert", "key") if its.tls.cert else ("key", "cert")
        yield f"tls.{given}", UsageError(f"{given} without {missing}", "they belong together: give both, or neither")
    try:
        parse_duration(its.clock_skew)
        parse_within(its.clock_skew, *_SKEW)
    except UsageError as error:
        yield "clock_skew", error
