# SPDX-License-Identifier: GPL-2.0
"""Print what replay found, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdpguard import units
from xdpguard.cli import render
from xdpguard.cli.columns import REASON_COLUMNS, Column, Row, number, size, verdict_colour

if TYPE_CHECKING:
    from xdpguard.capture.reader import Capture
    from xdpguard.explain.replay import Result
    from xdpguard.explain.subject import Subject
    from xdpguard.explain.tallied import FilterCount

_FILTER_COLUMNS = [
    Column("filter"),
    Column("action"),
    Column("mode", 2),
    Column("matched", right=True),
    Column("bytes", 3, right=True),
    Column("above", 1, right=True),
    Column("drops from", clip="end"),
]
_CHANGE_COLUMNS = [
    Column("now"),
    Column("then"),
    Column("packets", right=True),
    Column("bytes", 1, right=True),
    Column("which", clip="end"),
]
_KNOWN_BY = {
    "flag": "by their pcapng flags",
    "packet_type": "by the packet type in their cooked header",
    "mac": "by their source MAC address",
    "address": "by their source IP address",
}


def show(capture: Capture, judged: Subject, before: Subject | None, result: Result) -> None:
    """Print the verdicts by reason, and what changes from ``before``."""
    from xdpguard.dataplane.sys.abi import reasons

    found = result.tally.named()
    helps = {reason.name: reason.help for reason in reasons()} | {"cut": "too little of it was captured to tell"}
    rows: list[Row] = [
        [name, number(it.packets, verdict_colour(name)), number(it.observed_packets),
         size(it.bytes + it.observed_bytes), helps[name]]
        for name, it in found.reasons.items()
        if it.packets or it.observed_packets
    ]  # fmt: skip
    rate = f", {result.packets / result.seconds:,.0f} packets/s" if result.seconds else ""
    packets = render.counted(found.packets, "packet")
    title = f"{judged.label}: {packets}, {units.byte_count(found.bytes)}, {found.dropped:,} dropped" + (
        f", {found.would_drop:,} would be: observed only" if found.would_drop else ""
    )
    if rows:
        render.print_table(REASON_COLUMNS, rows, title)
    else:
        render.say(f"{capture.name}: no {'incoming ' if result.sent else ''}packets")
    for name, counted in (("flags", found.flags), ("protocols", found.protocols)):
        render.say(f"  {name:<10} " + "  ".join(f"{key} {units.number(it)}" for key, it in counted.items()))
    if found.blocked_sources:
        named = ", ".join(f"{it.source} ({it.packets:,})" for it in found.blocked_sources)
        about = "" if found.blocked_sources_exact else ", about"
        dropped = "would be dropped" if not found.dropped else "dropped or observed" if found.would_drop else "dropped"
        render.say(f"  {dropped} most{about}: {named}")
    if found.shadow:
        counts = "  ".join(f"{key} {units.number(it)}" for key, it in found.shadow.items())
        render.say(f"  shadow     {counts}, which shadow entries would count")
    if found.filters:
        _print_filters(found.filters)
    if result.sent:
        by = ", ".join(f"{units.number(count)} {_KNOWN_BY[how]}" for how, count in result.sent.most_common())
        done = "run as if they came in" if result.every else "left out"
        render.say(f"  outgoing   {render.counted(result.sent.total(), 'packet')} {done}; known {by}")
    render.say(f"  {capture.format}, {result.seconds:.2f} s{rate}")
    if before is not None and result.difference is not None:
        _print_changes(before, judged, result)


def _print_filters(filters: list[FilterCount]) -> None:
    """Print what each filter matched and whose packets it drops."""
    rows: list[Row] = [
        [
            it.name,
            it.action,
            it.mode,
            number(it.packets),
            size(it.bytes),
            number(it.limited_packets if it.action.startswith("limit") else None),
            ", ".join(f"{one.source} ({one.packets:,})" for one in it.sources),
        ]
        for it in filters
    ]
    render.print_table(_FILTER_COLUMNS, rows, "filters that match; those in shadow would drop")


def _reason(reason: str, name: str | None) -> str:
    return f"{reason} {name}" if name else reason


def _print_changes(before: Subject, judged: Subject, result: Result) -> None:
    assert result.difference
    changes = result.difference.changes()
    if not changes:
        render.say(f"{judged.label} changes nothing for these packets, compared with {before.label}")
        return
    rows: list[Row] = [
        [
            f"{_reason(it.before, it.filter_before)} ({it.verdict_before})",
            f"{_reason(it.after, it.filter_after)} ({it.verdict_after})",
            number(it.packets),
            size(it.bytes),
            ", ".join(map(str, it.first)) + (", ..." if it.packets > len(it.first) else ""),
        ]
        for it in changes
    ]
    title = f"what {judged.label} would change, compared with {before.label}"
    render.print_table(_CHANGE_COLUMNS, rows, title)
