# SPDX-License-Identifier: GPL-2.0
"""The line that announces a flood: where, how large, and whether real clients still get through."""

from __future__ import annotations

import math

from xdpguard.dataplane.tables import guard
from xdpguard.net.netns import place_of
from xdpguard.tui.draw import Line, Span, fit, scaled
from xdpguard.tui.floods import Flood
from xdpguard.tui.history import Snapshot
from xdpguard.tui.reading import Seen
from xdpguard.units import span


def banner(snapshot: Snapshot, width: int) -> Line | None:
    """Draw the line; None without a flood on any interface. With too little room it says less, in whole clauses."""
    flooded = [it for it in snapshot.reading.interfaces if it.place in snapshot.floods]
    if not flooded:
        return None
    floods = [snapshot.floods[it.place] for it in flooded]
    first = max(flooded, key=lambda it: snapshot.trends[it.place].rates["syns"])
    since = span(snapshot.reading.wall - min(it.active_since for it in flooded))
    rate = math.fsum(snapshot.trends[it.place].rates["syns"] for it in flooded)
    kind = "SPOOFED FLOOD" if any(it.spoofed for it in floods) else "FLOOD"
    others = f" and {len(flooded) - 1} more" if len(flooded) > 1 else ""
    name = place_of(*first.place)
    begin = [f"{kind} on {name}{others} for {since}", f"{kind} on {first.its.name}{others}", kind]
    state = first.guard
    assert state is not None  # otherwise it would be no flood
    why = f" ({guard.CAUSES[state.cause]}{f', port {state.port}' if state.port else ''})" if state.cause else ""
    clients = _clients(first, floods, snapshot.reading.mode)
    choices = [f" {where}: {scaled(rate)} SYN/s{cause}; {clients}" for where in begin for cause in (why, "")]
    text = next((it for it in choices if len(it) < width), choices[-1])
    return fit([Span(text, "alarm")], width, "alarm")


def _clients(seen: Seen, floods: list[Flood], mode: str) -> str:
    """Return what became of those that have proved to be real, by returning a cookie."""
    assert seen.guard is not None
    if mode == "observe" or seen.its.observe:
        return "only observed: no SYN is answered"
    if seen.guard.muted():
        return "its SYNs are left to the kernel"
    valid, through = sum(it.since.valid for it in floods), sum(it.through for it in floods)
    if not valid:
        return "no real client has come yet"
    least = "at least " if through < valid else ""
    since = "" if all(it.whole for it in floods) else " since top began"
    return f"real clients got through {least}{through:,} of {valid:,}{since}"
