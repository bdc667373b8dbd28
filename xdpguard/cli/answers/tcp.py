# SPDX-License-Identifier: GPL-2.0
"""TCP: ``tcp states``, ``trace``, ``rtt``, ``retrans``, ``cwnd``. Times are Unix times, in seconds.

``socket`` and ``netns_inode`` are there with --wide.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct, UnsetType, field


def wide(socket: int, netns: int) -> dict[str, Any]:
    """The fields that --wide adds: the kernel's address of a socket, and its namespace by inode number."""
    return {"socket": f"{socket:#x}", "netns_inode": netns}


class Transition(Struct, frozen=True):
    """A change of a socket's state; ``ms``: how long the old one lasted. None: that is not known."""

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


class Retransmission(Struct, frozen=True, kw_only=True):
    """Segments that were sent again; ``sent``: what the connection has sent in all, None: nothing yet."""

    time: float
    netns: str
    local: str
    local_port: int
    remote: str
    remote_port: int
    state: str
    kind: str
    segments: int
    again: bool
    sent: int | None
    socket: str | UnsetType = UNSET
    netns_inode: int | UnsetType = UNSET


class Sample(Struct, frozen=True, kw_only=True):
    """A connection's windows at a moment; its end has ``closed``, and no windows."""

    time: float
    netns: str
    local: str
    local_port: int
    remote: str
    remote_port: int
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
    """Round-trip times of a group: what they were added up by is there."""

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
    """``tcp rtt``; all times but the first are in ``unit``."""

    time: float
    unit: str
    groups: list[Times]
    groups_left_out: int


class Resent(Struct, frozen=True, kw_only=True):
    """What a group has sent again, or all of them: then nothing names it."""

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
    """``tcp retrans --count``."""

    by: str
    groups: list[Resent]
    groups_left_out: int
    total: Resent


class Listener(Struct, frozen=True, kw_only=True):
    """A port that is listened on, and its queues; ``fullest``: of the sockets that share it."""

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
    """Sockets of a remote prefix."""

    prefix: str
    sockets: int
    states: dict[str, int]


class Change(Struct, frozen=True):
    """How many sockets went from one state to another since the document before."""

    old: str
    new: str
    count: int
    per_second: float


class Namespace(Struct, frozen=True, kw_only=True):
    """The sockets of a network namespace; ``hints``: what is abnormal, each with its evidence."""

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
    """``tcp states``."""

    time: float
    namespaces: list[Namespace]
