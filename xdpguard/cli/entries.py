# SPDX-License-Identifier: GPL-2.0
"""Rules and lists as table rows; for shadow entries, with the classes of packets they would have dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdpguard import units
from xdpguard.cli import columns
from xdpguard.cli.columns import Cell, Column, Row, coloured, number
from xdpguard.policy.hits import NO_SPLIT

if TYPE_CHECKING:
    from xdpguard.control.presence import Presences
    from xdpguard.control.results import ListHits, RuleHits, Share
    from xdpguard.policy.hits import Split
    from xdpguard.policy.rule import Rule
    from xdpguard.store.lists import NamedList

_REASON = Column("reason", clip="end")
_FILE = Column("file", 2, clip="start")
RULE_COLUMNS = [
    Column("kind"),
    Column("target"),
    Column("packets", right=True),
    Column("bytes", 4, right=True),
    Column("expires", 1),
    Column("source", 3),
    Column("created", 2),
    _REASON,
]
LIST_COLUMNS = [
    Column("list"),
    Column("entries", right=True),
    Column("in kernel"),
    Column("in force"),
    Column("packets", right=True),
    Column("bytes", 3, right=True),
    Column("format", 4),
    Column("skipped", 5, right=True),
    Column("loaded", 1),
    _FILE,
]
SHADOW_TITLE = "shadow entries: they drop nothing, and count what they would hit"
_CLASSES = [Column(name, right=True) for name in ("established", "others", "allowed")]
_SHADOW_BYTES = Column("bytes", 4, right=True)
SHADOW_RULE_COLUMNS = [
    Column("target"),
    *_CLASSES,
    _SHADOW_BYTES,
    Column("expires", 1),
    Column("source", 3),
    Column("created", 2),
    _REASON,
]
SHADOW_LIST_COLUMNS = [
    Column("list"),
    Column("entries", right=True),
    Column("in kernel", 3),
    Column("counting"),
    *_CLASSES,
    _SHADOW_BYTES,
    Column("format", 5),
    Column("loaded", 1),
    _FILE,
]


def rule_row(item: RuleHits, now: float) -> Row:
    """Return a row for RULE_COLUMNS."""
    rule = item.rule
    return [
        rule.kind,
        str(rule.target),
        number(item.packets, "green" if rule.kind == "allow" else "red"),
        columns.size(item.bytes),
        columns.due(rule.expires, now),
        _origins(rule, now),
        columns.ago(rule.created, now),
        rule.why,
    ]


def shadow_rule_row(item: RuleHits, now: float) -> Row:
    """Return a row for SHADOW_RULE_COLUMNS."""
    rule = item.rule
    row: Row = [
        str(rule.target),
        *_cells(item.split or NO_SPLIT),
        columns.due(rule.expires, now),
        _origins(rule, now),
        columns.ago(rule.created, now),
        rule.why,
    ]
    return coloured(row, "dim")


def list_row(item: ListHits, shares: dict[str, Share], where: Presences, now: float) -> Row:
    """Return a row for LIST_COLUMNS."""
    its = item.its
    return [
        its.name,
        number(its.entries),
        _held(its.name, shares),
        _of(len(where.enforcing), where),
        number(item.packets, "red"),
        columns.size(item.bytes),
        its.format,
        number(its.skipped),
        columns.ago(its.loaded, now),
        its.file or "-",
    ]


def shadow_list_row(item: ListHits, shares: dict[str, Share], where: Presences, now: float) -> Row:
    """Return a row for SHADOW_LIST_COLUMNS."""
    its = item.its
    row: Row = [
        its.name,
        number(its.entries),
        _held(its.name, shares),
        _of(len(where.carrying), where),
        *_cells(item.split or NO_SPLIT),
        its.format,
        columns.ago(its.loaded, now),
        its.file or "-",
    ]
    return coloured(row, "dim")


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
    established = units.counted(split.established.packets, "packet")
    return (
        f"{established} of established peers, {split.other.packets:,} of others, "
        f"{split.allowed.packets:,} of allowed sources, which would pass"
    )


def _cells(split: Split) -> list[Cell]:
    return [
        number(split.established.packets),
        number(split.other.packets),
        number(split.allowed.packets),
        columns.size(split.total.bytes),
    ]


def _origins(rule: Rule, now: float) -> str:
    """Return the origins of the parts that have not ended, the one that counts first."""
    return ", ".join(it.source for it in rule.parts if it.expires is None or it.expires > now)


def _held(name: str, shares: dict[str, Share]) -> str:
    share = shares.get(name)
    return "not attached" if share is None else "all" if share.held == share.stored else f"{share.held:,}"


def _of(there: int, where: Presences) -> str:
    """Say on how many of the recorded interfaces."""
    return "no" if not there else "yes" if there == len(where.all) else f"{there} of {len(where.all)}"
