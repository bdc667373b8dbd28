# SPDX-License-Identifier: GPL-2.0
"""Faults of an instance, for `status`, and needed addresses to which entries do not apply."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from xdpguard.cli import undoing
from xdpguard.cli.session import Options, remembered_config, remembered_policy
from xdpguard.control.presence import UNREACHED
from xdpguard.errors import XdpguardError
from xdpguard.net.netns import place_of
from xdpguard.store.attachments import attachments

if TYPE_CHECKING:
    from xdpguard.control.answering import Silence
    from xdpguard.control.audit import Audit
    from xdpguard.control.controller import Controller
    from xdpguard.control.interfaces import Interface
    from xdpguard.control.needed import Conflict
    from xdpguard.store.bridges import Bridge
    from xdpguard.store.database import Store
    from xdpguard.store.journal import Change

Place = tuple[str, str]


class Waiting(NamedTuple):
    """The change that waits for its confirmation, and the last one if it was undone for want of it."""

    pending: Change | None
    unconfirmed: Change | None

    def texts(self) -> list[str]:
        """Return them as text."""
        from xdpguard.control.confirm import told

        waits = [undoing.waiting_text(self.pending)] if self.pending else []
        return waits + ([told(self.unconfirmed)] if self.unconfirmed else [])


def waiting(store: Store) -> Waiting:
    """Return what the store says of changes to be confirmed."""
    from xdpguard.control.confirm import unconfirmed
    from xdpguard.store import journal

    return Waiting(journal.pending(store), unconfirmed(store))


def awaited(session: Controller, chosen: Options) -> tuple[list[Place], str]:
    """Return interfaces that the configuration names but that are not attached, and why it cannot be read, if so."""
    try:
        if remembered_config(session, chosen) is None:
            return [], ""  # the defaults name none, and reading them takes longer than all else here
        policy = remembered_policy(session, chosen)
    except XdpguardError as error:
        return [], str(error)
    there = {(it.name, it.netns) for it in attachments(session.store)}
    return [its.place for its in policy.attach if its.place not in there], ""


def faults(
    interfaces: Sequence[Interface],
    audit: Audit | None,
    conflicts: Iterable[Conflict],
    missing: Iterable[Place],
    unread: str,
) -> list[str]:
    """Return everything that degrades the instance, a sentence each; empty when it is healthy."""
    found = [f"{place_of(it.name, it.netns)} is {it.state}" for it in interfaces if it.state != "attached"]
    found += unreached(interfaces, audit)
    found += [f"{place_of(*place)} is named in the configuration but not attached" for place in missing]
    if unread:
        found.append(f"the configuration cannot be read: {unread}")
    if audit and not audit._replace(seeded=True, without_egress=()).whole:
        found.append("the kernel lacks some of the stored entries")
    elif audit and not audit.seeded:
        found.append("the settings of the data plane were overwritten")
    if audit and audit.without_egress:
        found.append(f"the program at the egress of {', '.join(audit.without_egress)} is missing")
    return found + [str(it) for it in conflicts]


def unreached(interfaces: Iterable[Interface], audit: Audit | None) -> list[str]:
    """Return what is wrong with interfaces that carry the program while no maps are pinned; without, no audit is."""
    attached = [it for it in interfaces if it.state == "attached"] if audit is None else []
    return [f"{place_of(it.name, it.netns)} {UNREACHED}" for it in attached]


def conflict_text(conflict: Conflict) -> str:
    """Describe a needed address that passes although an entry blocks it, with the remedy."""
    return f"{conflict}; to resolve it: {conflict.remedy}"


def silent_text(interface: Interface, silence: Silence) -> str:
    """Describe an interface whose SYN guard is on but sends no answers, with the remedy."""
    from xdpguard.control.answering import in_words

    place = place_of(interface.name, interface.netns)
    return f"the SYN guard on {place} {in_words(silence.muted, silence.why)}; {silence.remedy}"


def bridged(store: Store) -> tuple[list[Bridge], list[str]]:
    """Return the bridges that have run here, and what is wrong with them, a sentence each."""
    import time

    from xdpguard.store.bridges import bridges

    found = bridges(store)
    return found, [fault for it in found if (fault := it.wrong(time.time()))]


def clock_notes(store: Store) -> list[str]:
    """Return a note if the clock was set and rules in the kernel do not follow it yet."""
    import time

    from xdpguard import units
    from xdpguard.cli.render import counted
    from xdpguard.store import clock

    ahead = clock.stepped(store)
    count = clock.misplaced(store, time.time()) if ahead else 0
    lists = clock.misplaced_lists(store) if ahead else 0
    if not count and not lists:
        return []
    set_to = f"{units.span(abs(ahead))} {'ahead' if ahead > 0 else 'back'}"
    when = "later" if ahead > 0 else "earlier"
    named = [counted(count, "rule")] if count else []
    named += [f"entries of {counted(lists, 'list')}"] if lists else []
    what, end = " and ".join(named), "ends" if count == 1 and not lists else "end"
    return [
        f"the clock was set {set_to}: {what} from before this boot {end} that much {when} than stored,"
        " until xdpguard run or the next change adjusts the kernel"
    ]


def left_out(store: Store) -> dict[str, list[str]]:
    """Return exempt addresses by entry (``block 192.0.2.0/24``, ``the list drop``, ``closed port 22/tcp``)."""
    from xdpguard.control.needed import kept

    found: dict[str, list[str]] = {}
    for conflict in kept(store):
        for entry in conflict.entries:
            found.setdefault(entry.words, []).append(f"{conflict.address} ({conflict.role})")
    return found


def fleet(store: Store, now: float) -> str:
    """Describe how this host stands in its fleet; empty if it belongs to none."""
    from xdpguard.store.fleet import JOINED, STATE

    if not store.fact(STATE):
        return "joined; xdpguard run has not followed it yet" if store.fact(JOINED) else ""
    from xdpguard import units
    from xdpguard.fleet.hosts import recorded

    its = recorded(store)
    if its is None:
        return ""
    state = "connected" if its.connected else f"not connected: {its.failed or 'not yet'}"
    held = f"{its.state.held:,} of {units.counted(its.state.wanted, 'entry', 'entries')} in force"
    refused = f", {its.state.refused:,} refused" if its.state.refused else ""
    return f"{state}; {held}{refused}; {units.about(now - its.state.at)} ago" if its.state.at else state
