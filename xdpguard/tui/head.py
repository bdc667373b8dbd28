# SPDX-License-Identifier: GPL-2.0
"""The upper part of the screen: the interface, packets by verdict, TCP flags, the guard."""

from __future__ import annotations

import math
import time

from xdpguard.control.guard import answers
from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.tables import guard
from xdpguard.net.netns import place_of
from xdpguard.tcp.text import end
from xdpguard.tui.banner import banner
from xdpguard.tui.draw import Line, Span, bars, cell, fit, highest, scaled, share
from xdpguard.tui.history import VERDICTS, Trend
from xdpguard.tui.reading import ALL, Seen
from xdpguard.tui.view import View
from xdpguard.units import span

_FULL = 0.9  # of a queue; from here on it is marked as full
_TALL = 36  # rows; from here on plots are higher
_UNHEARD = {
    guard.MUTE_TOLD: "its answers would not arrive",
    guard.MUTE_FOUND: "the data plane found that its answers do not arrive",
}
_FIGURES = 49  # columns before the plots
_STYLES = {"pass": "pass", "drop": "drop", "answer": "guard"}


def head(view: View, width: int, height: int) -> list[Line]:
    """Draw the title, the flood if there is one, verdicts with their plots, TCP flags, and the guard."""
    trend = view.snapshot.trends.get(view.place) if view.snapshot and view.place else None
    flood = banner(view.snapshot, width) if view.snapshot else None
    return [
        _title(view, width),
        *([flood] if flood else []),
        *_verdicts(view, trend, width, 3 if height >= _TALL else 1),
        fit(_flags(trend, width), width),
        *(fit(line, width) for line in _guard(view, trend, width)),
    ]


def _title(view: View, width: int) -> Line:
    words = [f" {'xdpguard ' * (width >= 100)}{view.instance}", *_where(view), f"every {view.interval:g} s"]
    why = view.stale()
    moment = time.strftime("%H:%M:%S", time.localtime(view.snapshot.reading.wall)) if view.snapshot else ""
    if why:
        state = Span(f" STALE {span(view.age)}: {why} ", "alarm")
    elif view.paused:
        state = Span(f" PAUSED at {moment} ", "notice")
    else:
        state = Span(f" {moment} ", "head")
    left = fit([Span("  ".join(words), "head")], max(0, width - len(state.text)), "head")
    return fit([*left, state], width)


def _where(view: View) -> list[str]:
    if view.snapshot is None or view.place is None:
        return []
    seen = view.snapshot.reading.interfaces
    if view.place == ALL:
        attached = sum(it.its.state == "attached" for it in seen)
        return [f"all {len(seen)} interfaces" + (f", {attached} attached" if attached < len(seen) else "")]
    words = [view.place[0] + (f" in {view.place[1]}" if view.place[1] else "")]
    for it in seen:
        if it.place == view.place:
            words.append(it.its.mode + (", observing" if it.its.observe else ""))
            words.append(f"counting {span(view.snapshot.reading.wall - it.since)}")
    return words


def _verdicts(view: View, trend: Trend | None, width: int, height: int) -> list[Line]:
    """Draw rates, totals, bits and shares, and plots that share one scale."""
    room = max(0, width - _FIGURES - 1)
    most = max((highest(trend.past[name], room) for name in VERDICTS), default=0.0) if trend else 0.0
    window = f"the last {span(room * view.interval)}" + (f", up to {scaled(most)}/s" if most else "")
    heads = f" {'packets/s':>19}{'packets':>9}{'bit/s':>8}{'share':>8}   "
    lines = [fit([Span(heads + cell(window, room), "dim")], width)]
    total = sum(trend.rates[name] for name in VERDICTS) if trend else math.nan
    for name in VERDICTS:
        style = _STYLES[name]
        rate = trend.rates[name] if trend else math.nan
        plot = bars(trend.past[name], room, height, view.glyphs, most) if trend else [" " * room] * height
        for text in plot[:-1]:
            lines.append(fit([Span(" " * _FIGURES), Span(text, style)], width))
        words = [
            Span(f" {name:<8}", style),
            Span(f"{scaled(rate):>11}", f"{style} bold" if rate >= 0.5 else "dim"),
            Span(f"{scaled(trend.totals[name]) if trend else '':>9}"),
            Span(f"{scaled(8 * trend.rates[f'bytes {name}']) if trend else '':>8}"),
            Span(f"{share(rate, total):>8}   ", f"{style} bold" if name == "drop" and rate >= 0.5 else ""),
        ]
        lines.append(fit([*words, Span(plot[-1], style)], width))
    return lines


def _flags(trend: Trend | None, width: int) -> Line:
    digits = 3 if width >= 90 else 2
    line = [Span(" TCP/s   " if digits > 2 else " TCP/s", "dim")]
    for name in abi.FLAGS:
        rate = trend.rates[f"tcp {name}"] if trend else math.nan
        line += [
            Span(f" {name} ", "dim"),
            Span(f"{scaled(rate, digits):<{6 if digits > 2 else 4}}", "" if rate >= 0.5 else "dim"),
        ]
    return line


def _guard(view: View, trend: Trend | None, width: int) -> list[Line]:
    seen = view.focus()
    if view.snapshot is None or seen is None or seen.guard is None or trend is None:
        return [[Span(" guard    -", "dim")], [], []]
    mode, state = view.snapshot.reading.mode, seen.guard
    rates, totals = trend.rates, trend.totals
    where = f" on {place_of(*seen.place)}" if view.place == ALL else ""
    if mode == "off":
        words = Span("off", "dim")
    elif state.muted() and answers(mode) and not seen.its.observe:
        words = Span(f"ANSWERS NO SYN{where}: {_UNHEARD[state.mute]}; see xdpguard status", "alarm")
    elif mode == "always":
        words = Span("always: every SYN is answered with a cookie", "guard")
    elif seen.active_since:
        acts = "WOULD ACT" if mode == "observe" else "ACTIVE"
        since = time.strftime("%H:%M:%S", time.localtime(seen.active_since))
        length = span(view.snapshot.reading.wall - seen.active_since)
        port = f", port {state.port}" if state.port else ""
        words = Span(f"{acts}{where} {length}, since {since}: {guard.CAUSES[state.cause]}{port}", "guard bold")
    else:
        floods = f"; floods so far: {state.floods}" if state.floods else ""
        words = Span(f"idle, watching ({mode}){floods}")
    figures = [
        f"          cookies {scaled(rates['reason cookie_sent'])}/s, valid {scaled(rates['valid'])}/s,"
        f" bad {scaled(rates['reason cookie_bad'])}/s",
        f"unknown {scaled(rates['reason ack_unknown'])}/s",
        *([f"untracked {scaled(rates['skipped'])}/s"] if totals["skipped"] else []),
        f"sent {scaled(totals['reason cookie_sent'])}",
    ]
    while len("; ".join(figures)) > width:  # drop whole figures: half a number would mislead
        figures.pop()
    return [[Span(" guard    ", "dim"), words], [Span("; ".join(figures), "dim")], _backlog(seen)]


def _backlog(seen: Seen) -> Line:
    """Draw the listener whose queues are fullest; in a flood, the one under attack."""
    port = seen.guard.port if seen.guard is not None and seen.active_since else 0
    its = next((it for it in seen.listeners if it.port == port), seen.listeners[0] if seen.listeners else None)
    if its is None:
        return [Span(" backlog  no listeners", "dim")]
    again = f" ({its.syn_retransmitted:,} retransmitted)" if its.syn_retransmitted else ""
    return [
        Span(" backlog  ", "dim"),
        Span(
            f"{end(its.address, its.port)} half-open {its.syn.length:,}/{its.syn.limit:,}{again};"
            f" accept queue {its.fullest.length:,}/{its.fullest.limit:,}",
            "alarm" if its.share >= _FULL else "" if its.syn.length or its.accept.length else "dim",
        ),
    ]
