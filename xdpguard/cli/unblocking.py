# SPDX-License-Identifier: GPL-2.0
"""``unblock --all``, ``--match`` and ``--origin`` without targets: remove many rules, once that is confirmed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from xdpguard.cli import notes, render, undoing
from xdpguard.cli.session import options, ruleset
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.policy.origins import OWNED, is_foreign
from xdpguard.policy.rule import CONFIG, MODES, Rule
from xdpguard.policy.selection import matching
from xdpguard.policy.target import Prefix

if TYPE_CHECKING:
    from xdpguard.control.ruleset import Ruleset

_LOOKED_AT = 100  # sources for which it is said what else drops them


@dataclass(frozen=True)
class Which:
    """Which rules: ``match`` as typed, empty for all; ``origin``: the parts of this one alone, empty for any."""

    match: str = ""
    origin: str = ""
    shadow: bool = False

    def chosen(self, found: Ruleset) -> tuple[list[Rule], int]:
        """Return the block rules, closed ports and shadow rules to remove; and how many stay, being configured."""
        fits = matching(self.match) if self.match else lambda rule: True
        held = [
            rule
            for mode in (MODES if not self.shadow else MODES[1:])
            for rule in found.store.rules(mode=mode)
            if rule.kind != "allow" and fits(rule) and (not self.origin or rule.part(self.origin))
        ]
        gone = [rule for rule in held if self.origin or rule.origins != [CONFIG]]
        return gone, len(held) - len(gone)

    def __str__(self) -> str:
        words = [f"with {self.match!r}" if self.match else "", f"of {self.origin}" if self.origin else ""]
        return " ".join(it for it in words if it)


def unblock(context: typer.Context, which: Which, yes: bool, confirm: str) -> None:
    """Remove rules after asking; ``yes``: without asking. Raise UsageError where nobody can be asked."""
    from xdpguard.control.presence import presences_of
    from xdpguard.control.standing import Standing

    if which.origin in OWNED:
        raise UsageError(f"what {which.origin} blocks comes back by itself", "change it where it comes from")
    chosen = options(context)
    if not yes:
        with ruleset(chosen, read_only=True) as found:
            rules, _ = which.chosen(found)
        if rules:
            _ask(rules)
    with ruleset(chosen, command=undoing.of_command(context, confirm)) as found:
        found.purge()
        rules, kept = which.chosen(found)
        if not rules:
            _nothing(which, kept)
            return
        standing = Standing(found)
        again = list(notes.may_come_again([it for it in rules if it.kind == "block"], standing))
        _remove(found, rules, which.origin)
        standing, where = Standing(found), presences_of(found)
        sources = [it.target for it in rules if it.mode == "enforce" and isinstance(it.target, Prefix)][:_LOOKED_AT]
        left = {it: words for it in sources if (words := standing.dropped(it))}
    render.say(f"removed {_counts(rules)}")
    for target, words in left.items():
        render.say(f"{target} {where.being('still')} {words}")
    if kept:
        stay = "1 more stays" if kept == 1 else f"{kept:,} more stay"
        render.note(f"{stay}: the configuration file has {'it' if kept == 1 else 'them'}, in [rules]")
    for text in again:
        render.note(text)


def _remove(found: Ruleset, rules: list[Rule], origin: str) -> None:
    from xdpguard.control.foreign import Foreign

    if origin and is_foreign(origin):
        for kind in {rule.kind for rule in rules}:
            Foreign(found, origin, needed=()).remove(kind, [rule.target for rule in rules if rule.kind == kind])
        return
    with found.changes.begin():
        for mode, its in zip(MODES, (found.rules, found.shadow_rules), strict=True):
            for kind in {rule.kind for rule in rules if rule.mode == mode}:
                parts = [rule for rule in rules if rule.mode == mode and rule.kind == kind]
                its.leave(parts, lambda part: part.source != origin if origin else part.source in OWNED)


def _ask(rules: list[Rule]) -> None:
    what = f"this removes {_counts(rules)}"
    if not sys.stdin.isatty():
        raise UsageError(f"{what}, and nobody can be asked", "to remove them without being asked: --yes")
    if not typer.confirm(f"{what}; go on?", err=True):
        raise XdpguardError("nothing was changed", "answer y to remove them, or name what to unblock")


def _nothing(which: Which, kept: int) -> None:
    if kept:
        raise XdpguardError("the configuration file has all of these", "remove them from [rules] there")
    if which.match or which.origin:
        raise XdpguardError(f"there is no block, closed port or shadow rule {which}", "xdpguard rules shows what is")
    render.say("nothing is blocked")


def _counts(rules: list[Rule]) -> str:
    shadow = sum(1 for it in rules if it.mode == "shadow")
    blocks = sum(1 for it in rules if it.kind == "block") - shadow
    ports = len(rules) - shadow - blocks
    kinds = (blocks, "block"), (ports, "closed port"), (shadow, "shadow rule")
    found = [render.counted(count, one) for count, one in kinds if count]
    return f"{', '.join(found[:-1])} and {found[-1]}" if len(found) > 1 else found[0]
