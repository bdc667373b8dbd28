# SPDX-License-Identifier: GPL-2.0
"""The screen of `status`: first whether all is well, then the interfaces, then what is in force and who runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from xdpguard import units
from xdpguard.cli import health, render
from xdpguard.cli.columns import Cell, Column, Row, number
from xdpguard.net.netns import place_of

if TYPE_CHECKING:
    from xdpguard.cli.output import Colour
    from xdpguard.cli.status_read import Found
    from xdpguard.control.audit import Audit
    from xdpguard.control.interfaces import Interface

_NAMES = 10  # cells of the names of the lines below the table
_STATES = {
    "attached": "attached",
    "detached": "not attached: attach it again",
    "replaced": "carries another program",
    "renamed": "attached, but renamed or moved: detach it and attach it under its new name",
    "gone": "the interface no longer exists: detach forgets it",
}


def show(found: Found) -> None:
    """Print the screen; what is wrong, and what to know, as notes."""
    text, colour = headline(found)
    render.say(text, colour)
    if found.interfaces:
        render.print_table(_columns(found), [_row(found, it) for it in found.interfaces])
    for name, text, colour in lines(found):
        render.say(f"{name:<{_NAMES}}{text}", colour)
    for text in notes(found):
        render.note(text)


def headline(found: Found) -> tuple[str, Colour]:
    """Return the state in one line: OK, FLOOD or DEGRADED, and why."""
    floods = [f"{place_of(*place)}: {its.words}" for place, its in found.floods.items()]
    if faults := found.degraded:
        more = f"; and {render.counted(len(faults) - 1, 'more fault')}" if faults[1:] else ""
        flood = f"; flood on {', '.join(floods)}" if floods else ""
        return f"DEGRADED: {faults[0]}{more}{flood}", "red"
    if floods:
        return f"FLOOD on {'; '.join(floods)}", "red"
    if not found.interfaces:
        return "OK: nothing is attached; attach with: xdpguard attach IFACE", ""
    seeing = [it for it in found.interfaces if it.observe]
    only = f", {len(seeing)} of them only observing" if seeing else ""
    return f"OK: {render.counted(len(found.interfaces), 'interface')} attached{only}", "green"


def _columns(found: Found) -> list[Column]:
    return [
        Column("interface"),
        Column("netns", 0 if any(it.netns for it in found.interfaces) else 4),
        Column("mode"),
        Column("packets/s", right=True),
        Column("drops/s", right=True),
        Column("guard", clip="end"),
        Column("observe", 0 if any(it.observe for it in found.interfaces) else 3),
        Column("mtu", 2),
        Column("program", 1, right=True),
        Column("state", clip="end"),
    ]


def _row(found: Found, its: Interface) -> Row:
    rates = found.rates.get((its.name, its.netns))
    state: Colour = "green" if its.state == "attached" else "red"
    return [
        its.name,
        its.netns or "-",
        its.mode,
        number(round(rates.packets) if rates else None),
        number(round(rates.drops) if rates else None, "red"),
        _guard(found, its),
        Cell("yes" if its.observe else "no", colour="yellow" if its.observe else ""),
        f"{its.mtu or '-'}{', any' if its.any_mtu else ''}",
        str(its.prog_id or "-"),
        Cell(_STATES[its.state], its.state, colour=state),
    ]


def _guard(found: Found, its: Interface) -> Cell:
    """Say what the SYN guard of an interface does now."""
    place = (its.name, its.netns)
    if place not in found.answers.silences:
        return Cell("-")
    mode = found.answers.mode
    if any(it is its for it, _ in found.silent):
        return Cell("cannot answer", colour="yellow")
    if place in found.floods:
        return Cell("would act" if mode == "observe" or its.observe else "active", colour="red")
    return Cell({"auto": "watching", "observe": "observing"}.get(mode, mode))


def lines(found: Found) -> Iterator[tuple[str, str, Colour]]:
    """Yield name, text and colour of what is in force, and of who runs."""
    run = f"active, process {found.service}" if found.service else "not active; start it with: xdpguard run"
    yield "run", run, "" if found.service else "yellow"
    for url in found.metrics:
        yield "metrics", url, ""
    bans = f" ({render.counted(found.bans, 'ban')} of the guard)" if found.bans else ""
    counts = (f"{count:,} {kind}{bans if kind == 'block' else ''}" for kind, count in found.rules.items())
    yield "rules", ", ".join(counts), ""
    if found.lists:
        yield "lists", _named(found.lists), ""
    if found.filters["enforce"]:
        yield "filters", units.number(found.filters["enforce"]), ""
    shadow = [render.counted(found.shadow_rules, "rule")] if found.shadow_rules else []
    shadow += [render.counted(found.filters["shadow"], "filter")] if found.filters["shadow"] else []
    shadow += [_named(found.shadow_lists)] if found.shadow_lists else []
    if shadow:
        one = found.shadow_rules + found.filters["shadow"] + len(found.shadow_lists) == 1
        yield "shadow", f"{', '.join(shadow)}; {'it only counts' if one else 'they only count'}", "dim"
    if found.default != "pass":
        yield "default", found.default, ""
    if found.fleet:
        yield "fleet", found.fleet, ""
    for its in found.bridges:
        yield "bridge", its.summary(time.time()), ""
    for name, places in found.others.items():
        yield "instance", f"{name}: attached to {', '.join(places)}", "dim"


def _named(lists: dict[str, int]) -> str:
    return ", ".join(f"{name} ({units.number(count)})" for name, count in lists.items())


def notes(found: Found) -> Iterator[str]:
    """Yield what a person must know, with the remedy."""
    yield from _lacking(found.audit)
    yield from health.unreached(found.interfaces, found.audit)
    yield from found.waiting.texts()
    yield from found.everybody
    yield from map(health.conflict_text, found.conflicts)
    yield from found.clock
    yield from found.away
    for place in found.awaited:
        yield f"{place_of(*place)} is named in the configuration but not attached; xdpguard run attaches it"
    if found.unread:
        yield f"the configuration cannot be read: {found.unread}"
    yield from (_fixed_mtu(it) for it in found.interfaces if it.may_fix_mtu())
    yield from (health.silent_text(*it) for it in found.silent)


def _lacking(audit: Audit | None) -> Iterator[str]:
    """Yield what the kernel does not hold of what is stored."""
    if audit and not audit.seeded and audit.ratio == 1:
        yield "the settings of the data plane were overwritten; attach again, or let xdpguard run restore them"
    if audit and audit.without_egress:
        yield (
            f"the program at the egress of {', '.join(audit.without_egress)} is missing, so the default does not "
            "know what answers something that was sent; attach again, or let xdpguard run restore it"
        )
    if audit and audit.shadow and not audit.shadow.whole:
        yield "the kernel lacks some shadow entries; attach again, or let xdpguard run restore them"
    if audit and audit.ratio < 1:
        missing = ", ".join(audit.missing())
        yield f"the kernel holds only {missing}; attach again, or let xdpguard run restore them"


def _fixed_mtu(its: Interface) -> str:
    place = place_of(its.name, its.netns)
    remedy = "detach, then attach again with --mtu-any, or once it is raised"
    return f"{place}: a larger MTU (for a veth, of its peer) may be refused while this program is attached; {remedy}"
