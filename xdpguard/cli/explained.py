# SPDX-License-Identifier: GPL-2.0
"""The answers of explain as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from xdpguard import units
from xdpguard.net.netns import place_of
from xdpguard.policy.target import parse_prefix

if TYPE_CHECKING:
    from xdpguard.explain.answers import Address, Entry, Outcome, Packet, Port, Range, Shadow


def packet_lines(found: Packet, label: str) -> Iterator[str]:
    """Yield the lines about a packet that arrives at the interface ``label``."""
    yield f"{found.packet or 'a frame'} ({units.counted(found.octets, 'byte')}), on {label}"
    yield f"  verdict   {_verdict(found)}"
    yield f"  stage     {found.stage}"
    if found.decided_by:
        yield f"  decided   by {_entry(found.decided_by)}"
    if found.observed:
        yield f"  observed  {_observing(found, label)}: the packet is counted, and passes"
    if found.shadow:
        yield f"  shadow    {_shadow(found.shadow)}"
    if found.shadow_filter:
        yield f"  shadow    would be dropped if promoted: {_entry(found.shadow_filter)}"
    named = {getattr(it, "name", None) for it in (found.decided_by, found.shadow_filter)}
    if passed := [it for it in found.filters if it not in named]:
        yield f"  matches   {', '.join(passed)}, which {'lets' if len(passed) == 1 else 'let'} it go on"
    if found.without:
        by = f", by {_entry(found.without.decided_by)}" if found.without.decided_by else ""
        yield f"  without   {_verdict(found.without)}{by}"
    state = f"active ({found.guard.cause or 'always'})" if found.guard.active else "idle"
    yield f"  guard     {found.guard.mode}, {state}"


def _observing(found: Packet, label: str) -> str:
    if found.observe:
        return f"{label} only observes"
    return "the default is in shadow" if found.stage == "default" else "the guard only observes"


def _verdict(found: Packet | Outcome) -> str:
    return f"{found.verdict}, {found.reason}: {found.help}"


def _entry(entry: Entry | Shadow) -> str:
    from xdpguard.explain.answers import Filter, NamedList, UnknownFilter, UnknownList, UnknownRule

    if isinstance(entry, UnknownFilter):
        return f"a filter in slot {entry.slot}, unknown to the store; attach again to repair it"
    if isinstance(entry, UnknownList):
        return f"list number {entry.number}, unknown to the store"
    if isinstance(entry, UnknownRule):
        return f"a rule in slot {entry.slot}, unknown to the store; attach again to repair it"
    hits = f", {units.counted(entry.packets, 'packet')} hit"
    if isinstance(entry, NamedList):
        where = f" ({entry.file})" if entry.file else ""
        left = "" if entry.left is None else f", {units.span(entry.left)} left"
        return units.visible(f"the list {entry.name}{where}, {entry.holds}{left}{hits}")
    why = f', "{entry.reason}"' if entry.reason else ""
    end = "for good" if entry.left is None else f"{units.span(entry.left)} left"
    age = units.span(entry.age)
    if isinstance(entry, Filter):
        its = f"the filter {entry.name}: {entry.action} {entry.match}"
    else:
        its = f"{entry.kind} {entry.target}"
    return units.visible(f"{its}{why}, from {entry.source} {age} ago, {end}{hits}")


def _shadow(entry: Shadow) -> str:
    if entry.class_ == "allowed":
        return f"would still pass if promoted, being allowed: {_entry(entry)}"
    whose = ", although from an established peer" if entry.class_ == "established" else ""
    return f"would be dropped if promoted{whose}: {_entry(entry)}"


def _outcome(found: Address, unread: str) -> str:
    if found.outcome is None:
        return "no rule or list"
    if not found.interfaces:
        return f"{'allowed' if found.outcome == 'allow' else 'blocked'}; {unread}"
    if found.outcome == "allow":
        return "its packets pass: allowed"
    watching = [place_of(it.interface, it.netns or "") for it in found.interfaces if it.observe]
    if not watching:
        return "its packets are dropped: blocked"
    only = f"{', '.join(watching)} only {'observes' if len(watching) == 1 else 'observe'}"
    if len(watching) == len(found.interfaces):
        return f"blocked, but {only}"
    return f"its packets are dropped: blocked; but {only}"


def range_lines(found: Range, unread: str) -> Iterator[str]:
    """Yield the lines about a prefix. ``unread``: why no map can be read, for where none can."""
    whole = found.allow[:1] or found.block[:1]
    lists = [it for it in found.lists if it.holds and parse_prefix(it.holds)[0].covers(parse_prefix(found.prefix)[0])]
    if whole:
        state = "allowed" if found.allow else "blocked"
    elif lists:
        state = "blocked"
    else:
        state = "no rule or list for all of it"
    yield f"{found.prefix}: {state}{'' if found.attached else f'; {unread}'}"
    for rule in (*found.allow, *found.block):
        yield f"  rule      {_entry(rule)}"
    for its in found.lists:
        part = "" if its in lists else ", which is part of it; it may hold more"
        yield f"  list      {_entry(its)}{part}"
    for entry in found.shadow:
        yield f"  shadow    {_entry(entry)}"
    for rule in found.inside:
        yield f"  inside    {_entry(rule)}"
    if found.inside_total > len(found.inside):
        yield f"  inside    and {found.inside_total - len(found.inside):,} more: xdpguard rules --match {found.prefix}"


def port_lines(found: Port, unread: str) -> Iterator[str]:
    """Yield the lines about a port; ``unread`` as in `range_lines`."""
    state = "closed" if found.closed else "not closed by a rule"
    yield f"{found.port}: {state}{'' if found.attached else f'; {unread}'}"
    if found.closed:
        yield f"  rule      {_entry(found.closed)}"
    for its in found.filters:
        yield f"  filter    {_entry(its)}"


def address_lines(found: Address, unread: str) -> Iterator[str]:
    """Yield the lines about an address; ``unread`` as in `range_lines`."""
    yield f"{found.address}: {_outcome(found, unread)}"
    for rule in (*found.allow, *found.block):
        yield f"  rule      {_entry(rule)}"
    for its in found.lists:
        yield f"  list      {_entry(its)}"
    for old in found.ended:
        name = f"the {'shadow ' if old.shadow else ''}list {old.name}"
        yield f"  ended     {name} had {old.holds} until {units.moment(old.ended)}"
    for entry in found.shadow:
        becomes = "still pass if promoted, being allowed" if found.allow else "be dropped if promoted"
        yield f"  shadow    its packets would {becomes}: {_entry(entry)}"
    for ban in found.bans:
        times = "once" if ban.number == 1 else f"{ban.number:,} times"
        yield f"  bans      {ban.target} {times}, most recently on {units.moment(ban.last)}"
    if found.traffic:
        flags = "  ".join(f"{name} {units.number(count)}" for name, count in found.traffic.flags.items() if count)
        yield f"  seen      {units.counted(found.traffic.packets, 'TCP segment')}: {flags}"
        yield f"  SYNs      {units.number(found.traffic.syns)}"
        for it in found.traffic.destinations:
            yield f"            {units.number(it.syns)} to {it.destination} port {it.port}"
    elif found.attached:
        yield "  seen      no TCP segment of it is still tracked"
    else:
        yield f"  seen      {unread}"
    for need in found.needed:
        yield f"  needed    it is {need.role}{' in ' + need.netns if need.netns else ''}"
    for text in found.allows_everybody:
        yield f"  open      {text}"
    if found.left_out_of:
        yield f"  safety    therefore exempt from {', '.join(found.left_out_of)}; see xdpguard status"
