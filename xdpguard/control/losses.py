# SPDX-License-Identifier: GPL-2.0
"""Name what blocks would cut off of what the host needs: an SSH session first, then a gateway, a name server, more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from xdpguard.control import needs
from xdpguard.control.outlook import Outlook, end_after
from xdpguard.net import dhcp
from xdpguard.net.sockets import OWN, Protected
from xdpguard.policy.target import Prefix, Target
from xdpguard.store.database import Store
from xdpguard.store.rows import around

_NAMED = 4  # addresses and blocks that are named one by one


class Loss(NamedTuple):
    """An address that the host needs, what for, and the block that contains it."""

    address: Prefix
    needs: tuple[Protected, ...]
    by: Prefix

    @property
    def words(self) -> str:
        """Its roles with the evidence, as a phrase that fits after "is"."""
        return " and ".join(dict.fromkeys(it.words for it in self.needs))

    def __str__(self) -> str:
        return f"{self.address} ({' and '.join(dict.fromkeys(it.role for it in self.needs))})"


def of_blocks(store: Store, prefixes: Collection[Prefix], life: float | None) -> list[Loss]:
    """Return what blocks of so many seconds (None: for good) cut off: needed, and not allowed for as long.

    The first of each role come before the second, so that few names tell of all roles.
    """
    outlook, until, wanted = Outlook(store), end_after(life), set(prefixes)
    found: dict[Prefix, Loss] = {}
    for need in sorted(needs.refusing(store), key=lambda it: (not it.evidence, it.role.startswith(OWN))):
        by = next((it for it in (Prefix(*pair) for pair in around(need.address)) if it in wanted), None)
        if by is not None and outlook.allowed_until(need.address) < until:
            there = found.get(need.address, Loss(need.address, (), by))
            found[need.address] = there._replace(needs=(*there.needs, need))
    roles: Counter[str] = Counter()
    ranks = {}
    for address, loss in found.items():
        ranks[address] = roles[loss.needs[0].role]
        roles[loss.needs[0].role] += 1
    return sorted(found.values(), key=lambda it: ranks[it.address])


def sentence(lost: Sequence[Loss]) -> str:
    """Return which blocks contain what the host needs."""
    if len(lost) == 1:
        (only,) = lost
        return f"{only.by} {'' if only.by == only.address else f'contains {only.address}, which '}is {only.words}"
    blocks = list(dict.fromkeys(it.by for it in lost))
    return f"{named(blocks)} {'contains' if len(blocks) == 1 else 'contain'} what this host needs: {named(lost)}"


def named(found: Sequence[Loss | Prefix]) -> str:
    """Return the first of them by name, and how many more there are."""
    more = f" and {len(found) - _NAMED:,} more" if len(found) > _NAMED else ""
    return f"{', '.join(map(str, found[:_NAMED]))}{more}"


def command(lost: Sequence[Loss]) -> str:
    """Return the command that lets those through that are named."""
    return f"xdpguard allow {' '.join(str(it.address) for it in lost[:_NAMED])}"


def note(store: Store, targets: Collection[Target], life: float | None) -> str:
    """Return a note on what blocks cut off that were made although they are refused; empty if nothing.

    Where DHCP comes from has notes of its own: `needs.dhcp_notes`.
    """
    found = of_blocks(store, [it for it in targets if isinstance(it, Prefix)], life)
    lost = [it for it in found if it.address not in (dhcp.NO_ADDRESS, dhcp.LINK_LOCAL)]
    return f"{sentence(lost)}; to let {'it' if len(lost) == 1 else 'them'} through: {command(lost)}" if lost else ""
