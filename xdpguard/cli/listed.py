# SPDX-License-Identifier: GPL-2.0
"""The rules that `rules` shows: which, in which order, how many, and a line that sums them up."""

from __future__ import annotations

import math
import select
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard import units
from xdpguard.cli import entries, health, places, render
from xdpguard.cli.session import options, ruleset
from xdpguard.errors import UsageError
from xdpguard.policy import selection
from xdpguard.policy.duration import parse_duration
from xdpguard.policy.selection import Order
from xdpguard.policy.target import KINDS, Label

if TYPE_CHECKING:
    from xdpguard.control.results import RuleHits
    from xdpguard.policy.rule import Rule

Match = Annotated[
    str,
    typer.Option(
        "--match",
        metavar="TEXT|PREFIX",
        help="Only sources inside PREFIX, or with TEXT in target, reason or origin.",
        callback=places.given,
    ),
]
Expiring = Annotated[str | None, typer.Option("--expiring", metavar="TIME", help="Only those that end within 10m, 2h.")]
Sort = Annotated[
    Order | None,
    typer.Option("--sort", help="By packets hit, by end, or by age (the default).", show_default=False),
]
Top = Annotated[
    int,
    typer.Option("--top", "-n", metavar="N", min=0, help="Only the first N, by hits without --sort."),
]
Watch = Annotated[
    float,
    typer.Option("--watch", metavar="SECONDS", show_default="once", help="Repeat every 0.1 to 86400 seconds."),
]
_NOT_IN_FORCE = "nothing is attached: none of these is in force"
_LABELS: tuple[Label, ...] = (*KINDS, "shadow")
_SHORTEST, _LONGEST = 0.1, 86_400
_CLEAR = "\x1b[H\x1b[2J"


@dataclass(frozen=True)
class Which:
    """Which rules, as typed; ``top``: 0 for all."""

    kind: Label | None
    match: str
    expiring: str | None
    sort: Order | None
    top: int

    @property
    def narrows(self) -> bool:
        """Whether it says more than the kind."""
        return bool(self.match or self.expiring is not None or self.sort or self.top)

    def of(self, found: list[RuleHits], now: float) -> list[RuleHits]:
        """Return the rules to show, in order."""
        if self.match:
            fits = selection.matching(self.match)
            found = [it for it in found if fits(it.rule)]
        if self.expiring is not None:
            ends = selection.ending(parse_duration(self.expiring), now)
            found = [it for it in found if ends(it.rule)]
        order = self.sort or ("hits" if self.top else "created")
        found = sorted(found, key=_ORDERS[order])
        return found[: self.top] if self.top else found


# Imported rules are as old as they were, so that their age is not the order in which they were stored.
_ORDERS: dict[Order, Callable[[RuleHits], float]] = {
    "hits": lambda it: -it.packets,
    "expires": lambda it: math.inf if it.rule.expires is None else it.rule.expires,
    "created": lambda it: it.rule.created,
}


def repeat(seconds: float, show: Callable[[], None]) -> None:
    """Show once, or again and again until Ctrl-C; on a terminal each time in the place of the last."""
    if seconds and not _SHORTEST <= seconds <= _LONGEST:
        raise UsageError("--watch is too short or too long", f"give {_SHORTEST} to {_LONGEST} seconds")
    try:
        while True:
            if seconds and sys.stdout.isatty():
                typer.echo(_CLEAR, nl=False)
            show()
            sys.stdout.flush()
            if not seconds:
                return
            select.select([], [], [], seconds)
    except KeyboardInterrupt:
        return


def show(context: typer.Context, which: Which, as_json: bool) -> None:
    """Print the rules in force, and what they hit."""
    from xdpguard.control.presence import presences_of

    with ruleset(options(context), read_only=True) as found:
        real = [] if which.kind == "shadow" else found.rules.in_force(which.kind)
        shadow = found.shadow_rules.in_force() if which.kind in (None, "shadow") else []
        left_out = health.left_out(found.store)
        where = presences_of(found)
        late = health.clock_notes(found.store)
        filters = found.filters.stored.count(time.time()) if which.kind is None and not which.narrows else {}
    now, total = time.time(), len(real) + len(shadow)
    shown = which.of([*real, *shadow], now)
    real = [it for it in shown if it.rule.mode == "enforce"]
    shadow = [it for it in shown if it.rule.mode == "shadow"]
    if as_json:
        from xdpguard.cli.answers.entries import Rule as Answer
        from xdpguard.cli.answers.entries import ShadowRule

        found_real = [Answer.of(item, left_out.get(_words(item.rule))) for item in real]
        render.print_json([*found_real, *map(ShadowRule.counted, shadow)])
        return
    if real:
        render.print_table(entries.RULE_COLUMNS, [entries.rule_row(item, now) for item in real])
        for words, addresses in left_out.items():
            if words in {_words(item.rule) for item in real}:
                render.say(f"{words} does not apply to {', '.join(addresses)}; see xdpguard status")
    if shadow:
        rows = [entries.shadow_rule_row(item, now) for item in shadow]
        render.print_table(entries.SHADOW_RULE_COLUMNS, rows, entries.SHADOW_TITLE)
    render.say(_summary(shown, total, now))
    if more := _filters(filters):
        render.say(more)
    for text in (*where.notes(_NOT_IN_FORCE), *late) if shown else ():
        render.note(text)


def _summary(shown: list[RuleHits], total: int, now: float) -> str:
    """Sum the rules up in a line."""
    if not shown:
        return f"none of {render.counted(total, 'rule')}" if total else "no rules"
    counts = Counter(it.rule.label for it in shown)
    parts = [", ".join(f"{counts[label]:,} {label}" for label in _LABELS if counts[label])]
    ends = sorted(it.rule.expires for it in shown if it.rule.expires is not None)
    if ends:
        parts.append(f"{len(ends):,} with an end, the next in {units.span(ends[0] - now)}")
    parts.append(f"{render.counted(sum(it.packets for it in shown), 'packet')} hit")
    of = f" of {total:,}" if len(shown) < total else ""
    return f"{len(shown):,}{of} {'rule' if max(len(shown), total if of else 0) == 1 else 'rules'}: {'; '.join(parts)}"


def _filters(counts: dict[str, int]) -> str:
    """Say how many filters there are beside the rules; empty if there are none."""
    if not sum(counts.values()):
        return ""
    shadow = f", {counts['shadow']:,} of them in shadow" if counts["shadow"] else ""
    return f"and {render.counted(sum(counts.values()), 'filter')}{shadow}: xdpguard filter list"


def _words(rule: Rule) -> str:
    return f"closed port {rule.target}" if rule.kind == "port" else f"{rule.kind} {rule.target}"
