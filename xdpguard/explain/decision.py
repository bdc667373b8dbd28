# SPDX-License-Identifier: GPL-2.0
"""One packet: what the program does with it, which stage and entry decides, and what it would do without that entry."""

from __future__ import annotations

from typing import Any

import numpy as np

from xdpguard.capture import packet as packets
from xdpguard.capture.line import write
from xdpguard.dataplane.build.probe import LIST, LONGEST, RULE, VERDICTS, cut
from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.tables import guard
from xdpguard.dataplane.tables.shadow import CLASSES
from xdpguard.errors import XdpguardError
from xdpguard.explain.entries import Entries, Plain
from xdpguard.explain.subject import Subject
from xdpguard.net import netns
from xdpguard.policy.target import Prefix

_STAGES = {
    "allow": "allow list",
    "non_ip": "parse",
    "malformed": "parse",
    "deny": "block rules",
    "closed_port": "closed ports",
    "bad_flags": "sanity",
    "bad_source": "sanity",
    "syn_rate": "SYN guard",
    "cookie_sent": "SYN guard",
    "cookie_bad": "SYN guard",
    "ack_unknown": "SYN guard",
}
_LISTED = "named lists"
_END = "behind the last stage"


def explain(subject: Subject, frame: bytes, length: int) -> Plain:
    """Everything about a frame, or about what there is of one of ``length`` octets. XdpguardError when it is cut."""
    entries = Entries(subject.ruleset)
    with netns.entered(subject.netns):
        answer = subject.probe.ask_one(frame, length)[0]
    if cut(np.array([answer]), np.array([len(frame)]), np.array([length]))[0]:
        if len(frame) == length:
            raise XdpguardError(
                f"the frame has {length:,} octets; only its first {LONGEST:,} can be asked about, and they hold no"
                " whole headers, or wrong ones",
                "ask about a frame whose headers end before that",
            )
        raise XdpguardError(
            f"{len(frame):,} of the packet's {length:,} octets are there, too few to say anything",
            "capture more of each packet: tcpdump -s 256",
        )
    found = packets.decode(frame)
    return {
        "packet": write(found) if found else None,
        "octets": length,
        "interface": subject.link.name if subject.link else None,
        "netns": subject.netns or None,
        **_outcome(answer, entries),
        "observe": subject.observe,
        "shadow": _shadow(answer, entries),
        "without": _without(subject, entries, frame, length, answer),
        "guard": guard_as_json(subject),
    }


def guard_as_json(subject: Subject) -> Plain:
    """What the guard does at this moment, which is how the probe has it."""
    state = subject.state
    return {"mode": subject.mode, "active": state.active(), "cause": guard.CAUSES[state.cause] if state.began else None}


def _outcome(answer: Any, entries: Entries) -> Plain:
    reason = abi.reasons()[int(answer["reason"])]
    entry = _entry(answer, entries)
    stage = _LISTED if entry and entry["entry"] == "list" else _STAGES.get(reason.name, _END)
    return {
        "verdict": VERDICTS[int(answer["verdict"])],
        "observed": bool(answer["observed"]),
        "reason": reason.name,
        "help": reason.help,
        "stage": stage,
        "decided_by": entry,
    }


def _entry(answer: Any, entries: Entries) -> Plain | None:
    source, number = _source(answer), int(answer["number"])
    if answer["entry"] == RULE:
        return entries.of_slot(number, source)
    if answer["entry"] == LIST and source:
        return entries.list_of(number, source)
    return None


def _shadow(answer: Any, entries: Entries) -> Plain | None:
    """The shadow entry that counts the packet, and under what."""
    place, source = int(answer["shadow"]), _source(answer)
    if not place or source is None:
        return None
    return entries.shadow_at(place - 1, source) | {"class": CLASSES[int(answer["shadow_class"])]}


def _source(answer: Any) -> Prefix | None:
    size = {4: 4, 6: 16}.get(int(answer["ip_version"]))
    return Prefix(bytes(answer["source"])[:size], size * 8) if size else None


def _without(subject: Subject, entries: Entries, frame: bytes, length: int, answer: Any) -> Plain | None:
    """The outcome if the entry that decides were not there; None when no entry decides."""
    kind, number, source = int(answer["entry"]), int(answer["number"]), _source(answer)
    if not kind:
        return None
    with netns.entered(subject.netns):
        other = subject.probe.ask_one(frame, length, (kind, number))[0]
    if kind == LIST and source:
        # An address that stands in several lists stands in the index once: the others are the store's to tell.
        others = [plain for place, plain in entries.lists(source) if place != number]
        if others:
            return _outcome(answer, entries) | {"decided_by": others[0]}
    return _outcome(other, entries)
