# SPDX-License-Identifier: GPL-2.0
"""Everything that is known about one address."""

from __future__ import annotations

from collections import Counter

from xdpguard.control import needs, openness
from xdpguard.control.controller import Controller
from xdpguard.control.needed import kept
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.explain.answers import Address, Ban, Destination, Entry, Need, Place, Traffic
from xdpguard.explain.entries import Entries
from xdpguard.policy.target import Prefix
from xdpguard.store.offences import offences
from xdpguard.telemetry import tracking

_SITE6 = 64  # bits: the prefix length of an IPv6 ban
_PLACES = 10  # destinations shown


def about(session: Controller, pins: Pins, address: Prefix) -> Address:
    """Return the rules, lists, bans, traffic and roles of an address. Nothing needs to be attached."""
    entries = Entries(session.ruleset)
    allow, block = entries.covering("allow", address), entries.covering("block", address)
    lists = [answer for _, answer in entries.lists(address)]
    asked: list[Entry] = [*allow, *block, *lists]
    first = asked[0] if asked else None
    return Address(
        address=str(address),
        outcome="allow" if allow else "deny" if first else None,
        decided_by=first,
        allow=allow,
        block=block,
        lists=lists,
        ended=entries.ended(address),
        shadow=entries.shadow(address),
        bans=_bans(session, address),
        traffic=_traffic(pins, address) if pins.exist() else None,
        attached=pins.exist(),
        interfaces=_interfaces(session) if pins.exist() else [],
        needed=_needed(session, address),
        allows_everybody=openness.notes(session.store, {address.version}) if allow else [],
        left_out_of=[by.words for it in kept(session.store) if it.address == address for by in it.entries],
    )


def _interfaces(session: Controller) -> list[Place]:
    """Return the attached interfaces by their recorded names, and whether they only observe."""
    attached = [it for it in session.interfaces() if it.state in ("attached", "renamed")]
    return [Place(it.name, it.netns or None, it.observe) for it in attached]


def _bans(session: Controller, address: Prefix) -> list[Ban]:
    """Return how often the guard has banned an address, or the site it belongs to."""
    sites = [address]
    if address.version == 6:
        sites.append(Prefix(address.network[: _SITE6 // 8] + bytes(16 - _SITE6 // 8), _SITE6))
    found = []
    for site in sites:
        number, last = offences(session.store, str(site))
        if number:
            found.append(Ban(str(site), number, int(last)))
    return found


def _traffic(pins: Pins, address: Prefix) -> Traffic | None:
    counts = tracking.one(pins, address.network)
    places: Counter[tuple[str, int]] = Counter()
    for its, syns in tracking.tuples(pins).items():
        if its.source == str(address):
            places[its.destination, its.destination_port] += syns
    if counts is None and not places:
        return None
    return Traffic(
        packets=counts.packets if counts else 0,
        flags=counts.flags if counts else {},
        ports=counts.ports if counts else 0,
        syns=sum(places.values()),
        destinations=[Destination(*place, count) for place, count in places.most_common(_PLACES)],
    )


def _needed(session: Controller, address: Prefix) -> list[Need]:
    """Return what the host needs an address for, in this namespace and in those with attached interfaces."""
    return [
        Need(it.words, where or None)
        for where, found in needs.by_place(session.store)
        for it in found
        if it.address.covers(address)
    ]
