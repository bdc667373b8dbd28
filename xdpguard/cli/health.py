# SPDX-License-Identifier: GPL-2.0
"""What is not as it should be of an instance, for `status`; and entries from which needed addresses are left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from xdpguard.cli.session import Options, remembered_policy
from xdpguard.errors import XdpguardError
from xdpguard.net.netns import place_of

if TYPE_CHECKING:
    from xdpguard.control.answering import Silence
    from xdpguard.control.audit import Audit
    from xdpguard.control.controller import Controller
    from xdpguard.control.interfaces import Interface
    from xdpguard.control.needed import Conflict
    from xdpguard.store.database import Store

Place = tuple[str, str]


def awaited(session: Controller, chosen: Options) -> tuple[list[Place], str]:
    """Interfaces that the configuration names and that are not attached; and what keeps it from being read."""
    try:
        policy = remembered_policy(session, chosen)
    except XdpguardError as error:
        return [], str(error)
    there = {(it.name, it.netns) for it in session.store.attachments()}
    return [its.place for its in policy.attach if its.place not in there], ""


def faults(
    interfaces: Sequence[Interface],
    audit: Audit | None,
    conflicts: Iterable[Conflict],
    missing: Iterable[Place],
    unread: str,
) -> list[str]:
    """Everything that degrades the instance, a sentence each; empty when it is well."""
    found = [f"{place_of(it.name, it.netns)} is {it.state}" for it in interfaces if it.state != "attached"]
    found += [f"{place_of(*place)} is named in the configuration and not attached" for place in missing]
    if unread:
        found.append(f"the configuration cannot be read: {unread}")
    if audit and (audit.ratio < 1 or audit.behind or (audit.shadow and not audit.shadow.whole)):
        found.append("the kernel does not hold all that is stored")
    return found + [str(it) for it in conflicts]


def conflict_text(conflict: Conflict) -> str:
    """A needed address that an entry blocks, and that is let through."""
    return f"{conflict}; to settle it: {conflict.remedy}"


def silent_text(interface: Interface, silence: Silence) -> str:
    """An interface on which the SYN guard is on and answers nobody."""
    from xdpguard.control.answering import in_words

    place = place_of(interface.name, interface.netns)
    return f"the SYN guard on {place} {in_words(silence.muted, silence.why)}; {silence.remedy}"


def left_out(store: Store) -> dict[str, list[str]]:
    """By entry (``block 198.51.100.0/24``, ``the list drop``, ``closed port 22/tcp``) what it does not hold for."""
    from xdpguard.control.needed import kept

    found: dict[str, list[str]] = {}
    for conflict in kept(store):
        for entry in conflict.entries:
            found.setdefault(entry.words, []).append(f"{conflict.address} ({conflict.role})")
    return found
