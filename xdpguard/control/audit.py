# SPDX-License-Identifier: GPL-2.0
"""Audit: compare what the kernel holds with what is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from xdpguard.control.results import Share
from xdpguard.control.ruleset import Ruleset
from xdpguard.errors import XdpguardError
from xdpguard.net.links import Link
from xdpguard.net.netns import place_of
from xdpguard.units import counted


class ShadowAudit(NamedTuple):
    """The audit of shadow entries. ``behind``: an interrupted change has not been taken back yet."""

    rules: Share
    lists: dict[str, Share]
    behind: bool

    @property
    def whole(self) -> bool:
        """Whether the kernel holds all shadow entries."""
        return all(it.held >= it.stored for it in (self.rules, *self.lists.values()))


class Audit(NamedTuple):
    """How much of what is stored the kernel holds, where the program finds it: rules in force, and entries of each
    list.

    ``behind``: an interrupted change has not been taken back yet. ``shadow``: the audit of shadow entries. ``failed``:
    what a repair could not restore, in words; empty if there is nothing. ``seeded``: the data plane's settings are
    there, which tell it where to look, and how to hash. ``filters``: those of both modes. ``without_egress``:
    interfaces without the program at their egress, so that the default does not know what answers something that was
    sent.
    """

    rules: Share
    lists: dict[str, Share]
    behind: bool = False
    shadow: ShadowAudit | None = None
    failed: str = ""
    seeded: bool = True
    filters: Share = Share(0, 0)
    without_egress: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """The share of stored entries that the kernel holds, 0 to 1."""
        shares = [self.rules, self.filters, *self.lists.values()]
        stored = sum(share.stored for share in shares)
        return sum(share.held for share in shares) / stored if stored else 1.0 - self.behind

    @property
    def whole(self) -> bool:
        """Whether the kernel holds all entries and its settings, and no change was interrupted."""
        shares = [self.rules, self.filters, *self.lists.values()]
        enforced = all(it.held >= it.stored for it in shares) and not self.behind and self.seeded
        return enforced and not self.without_egress and (self.shadow is None or self.shadow.whole)

    def missing(self) -> list[str]:
        """Return what the kernel lacks of enforced entries, in words."""
        shares = [(("rule", "rules"), self.rules), (("filter", "filters"), self.filters)]
        shares += (((f"entry of list {name}", f"entries of list {name}"), it) for name, it in self.lists.items())
        return [f"{it.held:,} of {counted(it.stored, *names)}" for names, it in shares if it.held < it.stored]

    def otherwise(self) -> str:
        """Return what else is wrong with enforced entries, in words; empty if nothing is."""
        if self.without_egress:
            return f"no program at the egress of {', '.join(self.without_egress)}"
        return "an interrupted change" if self.behind else "" if self.seeded else "no settings of the data plane"


def audit(ruleset: Ruleset, repair: bool = False, carriers: Callable[[], Iterable[Link]] = tuple) -> Audit | None:
    """Audit the kernel against the store; ``repair`` restores what is missing, and looks again whether it is there.

    ``carriers``: finds the links that carry the program. Return what was found before the repair, or None if nothing is
    attached.
    """
    if not ruleset.changes.attached():
        return None
    found = _look(ruleset, carriers)
    if not repair or found.whole:
        return found
    why = _repair(ruleset, found, carriers)
    after = _look(ruleset, carriers)
    if after.whole:
        return found
    lacking = after.missing() or [after.otherwise() or "some shadow entries"]
    return found._replace(failed=f"{', '.join(lacking)}{f' ({why})' if why else ''}")


def _look(ruleset: Ruleset, carriers: Callable[[], Iterable[Link]]) -> Audit:
    pending = ruleset.changes.pending()
    shadow = ShadowAudit(
        Share(*ruleset.shadow_rules.audit()), ruleset.shadow_lists.shares(), pending or ruleset.shadow_lists.stale()
    )
    behind = pending or ruleset.lists.stale() or ruleset.default.stale()
    seeded = ruleset.rules.seeded()
    rules, filters = Share(*ruleset.rules.audit()), ruleset.filters.audit()
    without_egress = tuple(place_of(it.name, it.netns) for it in ruleset.default.lacking(carriers))
    return Audit(
        rules, ruleset.lists.shares(), behind, shadow, seeded=seeded, filters=filters, without_egress=without_egress
    )


def _repair(ruleset: Ruleset, found: Audit, carriers: Callable[[], Iterable[Link]]) -> str:
    """Restore what an audit found missing; return the kernel's reason if it refuses."""
    changes, shadow = ruleset.changes, found.shadow
    assert shadow is not None
    if changes.pending() or not found.seeded:
        changes.resync()
        return ""
    if ruleset.default.stale():
        changes.resync(ruleset.default)
    if found.without_egress:
        try:
            ruleset.default.hang_again(carriers())
        except XdpguardError as error:
            return str(error)
    for entries, its in ((ruleset.rules, found.rules), (ruleset.shadow_rules, shadow.rules)):
        if its.held < its.stored:
            changes.resync(entries)
    if found.filters.held < found.filters.stored:
        changes.resync(ruleset.filters)
    for lists, behind, of in (
        (ruleset.lists, found.behind, found.lists),
        (ruleset.shadow_lists, shadow.behind, shadow.lists),
    ):
        if behind or any(it.held < it.stored for it in of.values()):
            try:
                lists.fill()
            except (OSError, MemoryError) as error:
                return getattr(error, "strerror", "") or ""
    return ""
