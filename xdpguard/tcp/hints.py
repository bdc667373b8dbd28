# SPDX-License-Identifier: GPL-2.0
"""What is abnormal in a snapshot, one sentence each, with the supporting figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import numpy as np

from xdpguard.tcp.names import CLOSE_WAIT, LISTEN, SYN_SENT, TIME_WAIT
from xdpguard.tcp.owners import Owner, Owners
from xdpguard.tcp.snapshot import Listener, Snapshot
from xdpguard.tcp.text import address, end
from xdpguard.units import counted

Kind = Literal["close_wait", "syn_recv", "accept_queue", "time_wait", "time_wait_limit", "syn_sent"]

_MANY_CLOSE_WAIT = 50  # sockets of one process that its peers have closed
_MANY_HALF_OPEN = 64
_FULL = 0.5  # of a queue
_NEARLY_FULL = 0.75
_NEAR_LIMIT = 0.7  # of the ports, or of tcp_max_tw_buckets
_MANY_SYN_SENT = 64


class Hint(NamedTuple):
    """An anomaly: its description and the evidence."""

    kind: Kind
    text: str
    evidence: Mapping[str, object]


def hints(snapshot: Snapshot, its_listeners: list[Listener], owners: Owners) -> list[Hint]:
    """Return every anomaly. ``owners`` must have looked up the sockets that `concerned` returns."""
    return [
        *_half_open(its_listeners),
        *_not_accepted(its_listeners, owners),
        *_not_closed(snapshot, owners),
        *_time_wait(snapshot),
        *_unanswered(snapshot),
    ]


def concerned(snapshot: Snapshot) -> set[int]:
    """Return the inodes of the sockets whose processes a hint may name."""
    states = snapshot.sockets["state"]
    waiting = states == CLOSE_WAIT
    wanted = states == LISTEN
    if waiting.sum() >= _MANY_CLOSE_WAIT:
        wanted |= waiting
    return set(snapshot.sockets["inode"][wanted].tolist())


def _half_open(its_listeners: list[Listener]) -> Iterator[Hint]:
    for it in its_listeners:
        if it.syn.length < _MANY_HALF_OPEN and (it.syn.share < _FULL or it.syn.length < 8):
            continue
        again = it.syn_retransmitted / it.syn.length
        if again >= _FULL:
            why = "most did not answer the SYN-ACK: a SYN flood with spoofed sources, or answers are lost"
        elif it.syn_sources > it.syn.length * _FULL:
            why = "nearly as many sources as SYNs: a SYN flood, or a rush of clients"
        else:
            why = "few sources: some clients do not complete their handshakes"
        yield Hint(
            "syn_recv",
            f"{it.syn.length:,} half-open connections on {end(it.address, it.port)} (limit {it.syn.limit:,}),"
            f" {it.syn_retransmitted:,} with a retransmitted SYN-ACK, {counted(it.syn_sources, 'source')}: {why}",
            {
                "address": address(it.address),
                "port": it.port,
                "half_open": it.syn.length,
                "limit": it.syn.limit,
                "synack_again": it.syn_retransmitted,
                "sources": it.syn_sources,
            },
        )


def _not_accepted(its_listeners: list[Listener], owners: Owners) -> Iterator[Hint]:
    for it in its_listeners:
        if it.fullest.share < _NEARLY_FULL or not it.fullest.length:
            continue
        who = _first(owners, it.inodes)
        wait = counted(it.fullest.length, "connection waits", "connections wait")
        which = f", at one of {it.sockets:,} sockets," if it.sockets > 1 else ""
        yield Hint(
            "accept_queue",
            f"{wait} on {end(it.address, it.port)}{which} to be accepted (limit"
            f" {it.fullest.limit:,}): {_named(who)} does not keep up; once the queue is full, new connections are lost",
            {
                "address": address(it.address),
                "port": it.port,
                "waiting": it.fullest.length,
                "limit": it.fullest.limit,
                **_owner_fields(who),
            },
        )


def _not_closed(snapshot: Snapshot, owners: Owners) -> Iterator[Hint]:
    sockets = snapshot.sockets
    waiting = sockets[sockets["state"] == CLOSE_WAIT]
    if waiting.size < _MANY_CLOSE_WAIT:
        return
    inodes = waiting["inode"].tolist()
    by_process = Counter(owners.known(inode) for inode in inodes)
    for who, number in by_process.most_common():
        if number < _MANY_CLOSE_WAIT:
            return
        yield Hint(
            "close_wait",
            f"{number:,} connections of {_named(who)} are in CLOSE_WAIT: the peers have closed them,"
            " the application has not",
            {"sockets": number, **_owner_fields(who)},
        )


def _time_wait(snapshot: Snapshot) -> Iterator[Hint]:
    sockets, limits = snapshot.sockets, snapshot.limits
    waiting = sockets[sockets["state"] == TIME_WAIT]
    if waiting.size >= _NEAR_LIMIT * limits.tcp_max_tw_buckets:
        yield Hint(
            "time_wait_limit",
            f"{waiting.size:,} sockets in TIME_WAIT; above net.ipv4.tcp_max_tw_buckets = {limits.tcp_max_tw_buckets:,}"
            " connections end without it",
            {"sockets": int(waiting.size), "limit": limits.tcp_max_tw_buckets},
        )
    first, last = limits.ports
    served = sockets["local_port"][sockets["state"] == LISTEN]
    ours = (waiting["local_port"] >= first) & (waiting["local_port"] <= last) & ~np.isin(waiting["local_port"], served)
    outgoing = waiting[ours]
    if outgoing.size < _NEAR_LIMIT * limits.port_count:
        return
    ends = np.zeros(outgoing.size, [("local", "u1", 16), ("remote", "u1", 16), ("port", "<u2")])
    for name, column in (("local", "local"), ("remote", "remote"), ("port", "remote_port")):
        ends[name] = outgoing[column]
    keys, numbers = np.unique(ends.view("V34").reshape(-1), return_counts=True)
    for place in np.flatnonzero(numbers >= _NEAR_LIMIT * limits.port_count):
        raw = keys[place].item()
        local, remote, port = raw[:16], raw[16:32], int.from_bytes(raw[32:], "little")
        yield Hint(
            "time_wait",
            f"{int(numbers[place]):,} ports of {address(local)} are in TIME_WAIT towards {end(remote, port)}, of"
            f" {limits.port_count:,} (net.ipv4.ip_local_port_range): soon no more connections to it can be opened",
            {
                "local": address(local),
                "remote": address(remote),
                "remote_port": port,
                "sockets": int(numbers[place]),
                "ports": limits.port_count,
            },
        )


def _unanswered(snapshot: Snapshot) -> Iterator[Hint]:
    sockets = snapshot.sockets
    sent = sockets[sockets["state"] == SYN_SENT]
    again = sent[sent["retrans"] > 0]
    if again.size < _MANY_SYN_SENT:
        return
    where = Counter(zip(map(bytes, again["remote"]), again["remote_port"].tolist(), strict=True))
    (remote, port), number = where.most_common(1)[0]
    yield Hint(
        "syn_sent",
        f"{again.size:,} outgoing connection attempts get no answer, {number:,} of them to {end(remote, port)}",
        {"sockets": int(again.size), "remote": address(remote), "remote_port": port, "to_it": number},
    )


def _first(owners: Owners, inodes: tuple[int, ...]) -> Owner | None:
    return next((who for who in map(owners.known, inodes) if who), None)


def _named(who: Owner | None) -> str:
    return str(who) if who else "an unknown process"


def _owner_fields(who: Owner | None) -> dict[str, object]:
    return {"pid": who.pid if who else None, "process": who.name if who else None}
