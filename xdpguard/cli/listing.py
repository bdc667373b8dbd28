# SPDX-License-Identifier: GPL-2.0
"""rules, import."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xdpguard.cli import entries, health, render
from xdpguard.cli.session import options, ruleset

if TYPE_CHECKING:
    from xdpguard.policy.rule import Rule

_RULES_EXAMPLES = """
\b
Examples:
  xdpguard rules --kind block
  xdpguard rules --json | jq '.[] | select(.packets > 0)'
  xdpguard rules --export rules.toml     with reasons, origins and ends; read again by `import`
"""
_NOT_IN_FORCE = "nothing is attached: none of these is in force"


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command(epilog=_RULES_EXAMPLES)(rules)


def rules(
    context: typer.Context,
    kind: Annotated[
        Literal["allow", "block", "port", "shadow"] | None, typer.Option("--kind", help="Only this kind.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the stored rules, whether they are in force, and what they hit."""
    from xdpguard.control.presence import presences

    with ruleset(options(context), read_only=True) as found:
        real = found.rules.in_force(kind) if kind != "shadow" else []
        shadow = found.shadow_rules.in_force() if kind in (None, "shadow") else []
        left_out = health.left_out(found.store)
        where = presences(found.store)
    if as_json:
        from xdpguard.cli.answers.entries import Rule as Answer
        from xdpguard.cli.answers.entries import ShadowRule

        found_real = [Answer.of(item, left_out.get(_words(item.rule))) for item in real]
        render.print_json([*found_real, *map(ShadowRule.counted, shadow)])
        return
    now = time.time()
    if real:
        render.print_table(entries.RULE_COLUMNS, [entries.rule_row(item, now) for item in real], right="packets bytes")
        for words, addresses in left_out.items():
            if words in {_words(item.rule) for item in real}:
                render.say(f"{words} does not hold for {', '.join(addresses)}; see xdpguard status")
    if shadow:
        rows = [entries.shadow_rule_row(item, now) for item in shadow]
        render.print_table(entries.SHADOW_RULE_COLUMNS, rows, entries.SHADOW_TITLE, entries.SHADOW_RIGHT)
    if not real and not shadow:
        render.say("no rules")
        return
    for text in where.notes(_NOT_IN_FORCE):
        render.note(text)


def _words(rule: Rule) -> str:
    return f"closed port {rule.target}" if rule.kind == "port" else f"{rule.kind} {rule.target}"
