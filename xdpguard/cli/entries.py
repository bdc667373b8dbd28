# SPDX-License-Identifier: GPL-2.0
"""Rules and lists as table rows; for shadow entries, with the classes of packets they would have dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdpguard import units
from xdpguard.policy.hits import NO_SPLIT

if TYPE_CHECKING:
    from xdpguard.control.presence import Presences
    from xdpguard.control.results import ListHits, RuleHits, Share
    from xdpguard.policy.hits import Split
    from xdpguard.policy.rule import Rule
    from xdpguard.store.lists import NamedList

RULE_COLUMNS = ["kind", "target", "packets", "bytes", "expires in", "source", "created", "reason"]
LIST_COLUMNS = ["list", "entries", "in kernel", "in force", "packets", "bytes", "format", "skipped", "loaded", "file"]
SHADOW_TITLE = "shadow entries: they drop nothing, and count what they would hit"
_CLASSES = ["established", "others", "allowed"]
SHADOW_RULE_COLUMNS = ["target", *_CLASSES, "bytes", "expires in", "source", "created", "reason"]
SHADOW_LIST_COLUMNS = ["list", "entries", "in kernel", "counting", *_CLASSES, "bytes", "format", "loaded", "file"]
SHADOW_RIGHT = "established others allowed bytes entries"


def rule_row(item: RuleHits, now: float) -> list[str]:
    """Return a row for RULE_COLUMNS."""
    rule = item.rule
    return [
        rule.kind,
        str(rule.target),
        units.number(item.packets),
        units.byte_count(item.bytes),
        _left(rule.expires, now),
        _origins(rule, now),
        units.moment(rule.created),
        rule.why,
    ]


def shadow_rule_row(item: RuleHits, now: float) -> list[str]:
    """Return a row for SHADOW_RULE_COLUMNS."""
    rule = item.rule
    return [
        str(rule.target),
        *_cells(item.split or NO_SPLIT),
        _left(rule.expires, now),
        _origins(rule, now),
        units.moment(rule.created),
        rule.why,
    ]


def list_row(item: ListHits, shares: dict[str, Share], where: Presences) -> list[str]:
    """Return a row for LIST_COLUMNS."""
    its = item.its
    return [
        its.name,
        units.number(its.entries),
        _held(its.name, shares),
        _of(len(where.enforcing), where),
        units.number(item.packets),
        units.byte_count(item.bytes),
        its.format,
        units.number(its.skipped),
        units.moment(its.loaded),
        its.file or "-",
    ]


def shadow_list_row(item: ListHits, shares: dict[str, Share], where: Presences) -> list[str]:
    """Return a row for SHADOW_LIST_COLUMNS."""
    its = item.its
    return [
        its.name,
        units.number(its.entries),
        _held(its.name, shares),
        _of(len(where.carrying), where),
        *_cells(item.split or NO_SPLIT),
        its.format,
        units.moment(its.loaded),
        its.file or "-",
    ]


def ends_words(its: NamedList, shadow: bool) -> str:
    """Describe the ends that entries of a list have, or had; empty if there are none."""
    its_ends = its.timing
    if its_ends.ended and not its.entries:
        what = "its entry has" if its_ends.ended == 1 else f"all {its_ends.ended:,} entries have"
        return f"{what} ended: it {'counts' if shadow else 'blocks'} nothing until it is loaded again"
    said = []
    if its_ends.next is not None and its_ends.last is not None:
        one, first, last = its_ends.timed == 1, units.moment(its_ends.next), units.moment(its_ends.last)
        when = f"at {first}" if its_ends.next == its_ends.last else f"the next at {first}, the last at {last}"
        said.append(f"{its_ends.timed:,} {'entry has' if one else 'entries have'} an end, {when}")
    if its_ends.ended:
        said.append(f"{its_ends.ended:,} {'has' if its_ends.ended == 1 else 'have'} ended")
    return "; ".join(said)


def words(split: Split) -> str:
    """Describe in words the classes of packets hit."""
    return (
        f"{split.established.packets:,} packets of established peers, {split.other.packets:,} of others, "
        f"{split.allowed.packets:,} of allowed sources, which would pass"
    )


def _cells(split: Split) -> list[str]:
    return [
        units.number(split.established.packets),
        units.number(split.other.packets),
        units.number(split.allowed.packets),
        units.byte_count(split.total.bytes),
    ]


def _origins(rule: Rule, now: float) -> str:
    """Return the origins of the parts that have not ended, the one that counts first."""
    return ", ".join(it.source for it in rule.parts if it.expires is None or it.expires > now)


def _left(expires: float | None, now: float) -> str:
    return "never" if expires is None else units.span(expires - now)


def _held(name: str, shares: dict[str, Share]) -> str:
    share = shares.get(name)
    return "not attached" if share is None else "all" if share.held == share.stored else f"{share.held:,}"


def _of(there: int, where: Presences) -> str:
    """Say on how many of the recorded interfaces."""
    return "no" if not there else "yes" if there == len(where.all) else f"{there} of {len(where.all)}"
