# SPDX-License-Identifier: GPL-2.0
"""One packet: what the program does with it, which stage and entry decide, and what happens without that entry."""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import structs

from xdpguard.capture import packet as packets
from xdpguard.capture.line import write
from xdpguard.dataplane.build.probe import FILTER, LIST, LONGEST, RULE, VERDICTS, cut
from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.tables import guard
from xdpguard.dataplane.tables.shadow import CLASSES
from xdpguard.errors import XdpguardError
from xdpguard.explain.answers import (
    Entry,
    Filter,
    Guard,
    NamedList,
    Outcome,
    Packet,
    Shadow,
    UnknownFilter,
    UnknownList,
)
from xdpguard.explain.entries import Entries
from xdpguard.explain.subject import Subject
from xdpguard.net import netns
from xdpguard.policy.target import Prefix
from xdpguard.units import counted

_STAGES = {
    "allow": "allow list",
    "non_ip": "parse",
    "malformed": "parse",
    "deny": "block rules",
    "closed_port": "closed ports",
    "bad_flags": "sanity",
    "bad_source": "sanity",
    "default_deny": "default",
    "filter": "filters",
    "filter_limit": "filters",
    "syn_rate": "SYN guard",
    "cookie_sent": "SYN guard",
    "cookie_bad": "SYN guard",
    "ack_unknown": "SYN guard",
}
_LISTED = "named lists"
_FILTERED = "filters"
_BY_FILTERS = ("pass", "fragment", "filter", "filter_limit")  # otherwise a filter passed it on to the SYN guard
_END = "after the last stage"


def explain(subject: Subject, frame: bytes, length: int) -> Packet:
    """Explain a frame of ``length`` bytes, whose beginning ``frame`` may be. Raise XdpguardError if cut short."""
    entries = Entries(subject.ruleset)
    with netns.entered(subject.netns):
        answer = subject.probe.ask_one(frame, length)[0]
        matched = subject.probe.matched()
    if cut(np.array([answer]), np.array([len(frame)]), np.array([length]))[0]:
        if len(frame) == length:
            raise XdpguardError(
                f"the frame has {counted(length, 'byte')}; only its first {LONGEST:,} can be tested, and they hold no"
                " complete headers, or invalid ones",
                "use a frame whose headers end before that",
            )
        raise XdpguardError(
            f"{len(frame):,} of the packet's {counted(length, 'byte is', 'bytes are')} there, too few to tell anything",
            "capture more of each packet: tcpdump -s 256",
        )
    found = packets.decode(frame)
    return Packet(
        packet=write(found) if found else None,
        octets=length,
        interface=subject.link.name if subject.link else None,
        netns=subject.netns or None,
        **structs.asdict(_outcome(answer, entries)),
        observe=subject.observe,
        shadow=_shadow(answer, entries),
        shadow_filter=entries.filter_of(int(answer["shadow_filter"]) - 1) if answer["shadow_filter"] else None,
        filters=entries.filter_names(matched),
        without=_without(subject, entries, frame, length, answer),
        guard=guard_now(subject),
    )


def guard_now(subject: Subject) -> Guard:
    """Return the guard's state as the probe uses it."""
    state = subject.state
    return Guard(subject.mode, state.active(), guard.CAUSES[state.cause] if state.began else None)


def _outcome(answer: Any, entries: Entries) -> Outcome:
    reason = next(it for it in abi.reasons() if it.number == answer["reason"])
    entry = _entry(answer, entries)
    stage = _STAGES.get(reason.name, _END)
    if isinstance(entry, (NamedList, UnknownList)):
        stage = _LISTED
    elif isinstance(entry, (Filter, UnknownFilter)):
        stage = _FILTERED
    return Outcome(
        verdict=VERDICTS[int(answer["verdict"])],
        observed=bool(answer["observed"]),
        reason=reason.name,
        help=reason.help,
        stage=stage,
        decided_by=entry,
    )


def _entry(answer: Any, entries: Entries) -> Entry | None:
    source, number = _source(answer), int(answer["number"])
    if answer["entry"] == RULE:
        return entries.of_slot(number, source)
    if answer["entry"] == LIST and source:
        return entries.list_of(number, source)
    if answer["entry"] == FILTER and abi.reasons()[int(answer["reason"])].name in _BY_FILTERS:
        return entries.filter_of(number)
    return None


def _shadow(answer: Any, entries: Entries) -> Shadow | None:
    """Return the shadow entry that counts the packet, with the packet's class."""
    place, source = int(answer["shadow"]), _source(answer)
    if not place or source is None:
        return None
    return structs.replace(entries.shadow_at(place - 1, source), class_=CLASSES[int(answer["shadow_class"])])


def _source(answer: Any) -> Prefix | None:
    size = {4: 4, 6: 16}.get(int(answer["ip_version"]))
    return Prefix(bytes(answer["source"])[:size], size * 8) if size else None


def _without(subject: Subject, entries: Entries, frame: bytes, length: int, answer: Any) -> Outcome | None:
    """Return the outcome without the deciding entry; None when no entry decides."""
    kind, number, source = int(answer["entry"]), int(answer["number"]), _source(answer)
    if not kind:
        return None
    with netns.entered(subject.netns):
        other = subject.probe.ask_one(frame, length, (kind, number))[0]
    if kind == LIST and source:
        # An address in several lists is in the index only once: only the store knows the other lists.
        others = [its for place, its in entries.lists(source) if place != number]
        if others:
            return structs.replace(_outcome(answer, entries), decided_by=others[0])
    return _outcome(other, entries)
