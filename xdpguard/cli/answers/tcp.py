# SPDX-License-Identifier: GPL-2.0
"""The answers of ``tcp states``, ``trace``, ``rtt``, ``retrans`` and ``cwnd``. Times are Unix time, in seconds.

``socket`` and ``netns_inode`` are present with --wide.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct, UnsetType, field


def wide(socket: int, netns: int) -> dict[str, Any]:
    """Return the fields that --wide adds: the kernel's address of a socket, and its namespace's inode number."""
    return {"socket": f"{socket:#x}", "netns_inode": netns}


class Transition(Struct, frozen=True):
    """A state transition of a socket; ``ms``: how long the old state lasted, None if unknown."""

    time: float
    netns: str
    pid: int | None
    process: str | None
    local: str
    local_port: int | None
    remote: str
    remote_port: int | None
    old: str
    new: str
    ms: float | None
    socket: str | UnsetType = UNSET
    netns_inode: int | UnsetType = UNSET
    rest: str | UnsetType | None = UNSET


class _Event(Struct, frozen=True, kw_only=True):
    """When, and on which connection."""

    time: float
    netns: str
    local: str
    local_port: int
    remote: str
    remote_port: int


class Retransmission(_Event, frozen=True, kw_only=True):
    """Retransmitted segments; ``sent``: segments that the connection has sent in total, None: none yet."""

    state: str
    kind: str
    segments: int
    again: bool
    sent: int | None
    socket: str | UnsetType = UNSET
    netns_inode: int | UnsetType = UNSET


class Sample(_Event, frozen=True, kw_only=True):
    """A connection's windows at one moment; the record of its end has ``closed``, and no windows."""

    closed: bool | UnsetType = UNSET
    cwnd: int | UnsetType = UNSET
    ssthresh: int | UnsetType | None = UNSET
    srtt_us: int | UnsetType = UNSET
    send_window: int | UnsetType = UNSET
    receive_window: int | UnsetType = UNSET
    in_flight: int | UnsetType = UNSET
    skipped: int | UnsetType = UNSET
    socket: str | UnsetType = UNSET
    netns_inode: int | UnsetType = UNSET


class Bucket(Struct, frozen=True):
    """A bar of a histogram."""

    low: float = field(name="from")
    high: float = field(name="to")
    count: int


class Times(Struct, frozen=True, kw_only=True):
    """Round-trip times of a group; the fields that identify the group are present."""

    netns: str
    netns_inode: int
    local: str | UnsetType = UNSET
    remote: str | UnsetType = UNSET
    local_port: int | UnsetType = UNSET
    remote_port: int | UnsetType = UNSET
    count: int
    average: float
    p50: float
    p90: float
    p99: float
    buckets: list[Bucket]


class RoundTrips(Struct, frozen=True, kw_only=True):
    """The answer of ``tcp rtt``; all times but the first are in ``unit``."""

    time: float
    unit: str
    groups: list[Times]
    groups_left_out: int


class Resent(Struct, frozen=True, kw_only=True):
    """What a group has retransmitted; without a name: the total of all groups."""

    netns: str | UnsetType = UNSET
    local: str | UnsetType = UNSET
    remote: str | UnsetType = UNSET
    listener: str | UnsetType = UNSET
    retransmitted: int
    kinds: dict[str, int]
    lost_again: int
    sent: int
    ratio: float | None


class ResentCounts(Struct, frozen=True, kw_only=True):
    """The answer of ``tcp retrans --count``."""

    by: str
    groups: list[Resent]
    groups_left_out: int
    total: Resent


class Listener(Struct, frozen=True, kw_only=True):
    """A listening port and its queues; ``fullest``: of the sockets that share the port."""

    address: str
    port: int
    sockets: int
    pid: int | None
    process: str | None
    accept_queue: int
    accept_limit: int
    fullest_queue: int
    fullest_limit: int
    syn_backlog: int
    syn_limit: int
    connections: int


class Remote(Struct, frozen=True):
    """The sockets connected to a remote prefix."""

    prefix: str
    sockets: int
    states: dict[str, int]


class Change(Struct, frozen=True):
    """How many sockets changed from one state to another since the previous document."""

    old: str
    new: str
    count: int
    per_second: float


class Namespace(Struct, frozen=True, kw_only=True):
    """The sockets of a network namespace; ``hints``: abnormal conditions, each with its evidence."""

    netns: str
    netns_inode: int
    sockets: int
    snapshot_age: float
    states: dict[str, int]
    listeners: list[Listener]
    hints: list[dict[str, Any]]
    remotes: list[Remote] | UnsetType = UNSET
    transitions: list[Change] | UnsetType = UNSET


class States(Struct, frozen=True):
    """The answer of ``tcp states``."""

    time: float
    namespaces: list[Namespace]
