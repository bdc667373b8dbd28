# SPDX-License-Identifier: GPL-2.0
"""The command filter presets."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard.cli import render, undoing
from xdpguard.errors import UsageError

if TYPE_CHECKING:
    from xdpguard.control.ruleset import Ruleset
    from xdpguard.policy.filter import Filter, NewFilter
    from xdpguard.policy.presets.preset import Preset

PRESETS_EXAMPLES = """
\b
Examples:
  xdpguard filter presets                      what there is
  xdpguard filter presets ntp                  one, with its source
  xdpguard filter presets ntp ssdp --add       add them in shadow: they count, and drop nothing
  xdpguard filter list                         what they would have dropped
  xdpguard promote --filter ntp                drop it from now on
"""
_COLUMNS = ["name", "match", "action", "what it is for"]


def presets(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="Which ones.", show_default=False)
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="Add them as filters, in shadow.")] = False,
    enforce: Annotated[bool, typer.Option("--enforce", help="With --add: drop at once.")] = False,
    confirm: undoing.Confirm = "",
    force: Annotated[
        bool, typer.Option("--force", help="Override the check that no address this host needs is cut off.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show ready-made filters against the usual floods, or add some of them."""
    from xdpguard.policy.presets.catalogue import PRESETS, preset

    chosen = [preset(it) for it in dict.fromkeys(names or ())]
    if add and not chosen:
        raise UsageError("--add without a name", "name presets: xdpguard filter presets ntp ssdp --add")
    if not add and (enforce or force or confirm):
        raise UsageError("--enforce, --confirm and --force go with --add", "see xdpguard filter presets --help")
    if add:
        _add(context, chosen, enforce, confirm, force)
    elif as_json:
        from xdpguard.cli.answers.filters import Preset as Answer

        render.print_json([Answer.of(it) for it in chosen or PRESETS])
    elif chosen:
        for it in chosen:
            _describe(it)
    else:
        render.print_table(_COLUMNS, [[it.name, it.text, _does(it), it.summary] for it in PRESETS])


def _add(context: typer.Context, chosen: list[Preset], enforce: bool, confirm: str, force: bool) -> None:
    from xdpguard.cli.filter_changes import change
    from xdpguard.cli.filters_shown import added
    from xdpguard.control.filter_order import with_new
    from xdpguard.policy.filters import FilterEntry, new_filter

    now = time.time()
    new: list[NewFilter] = []
    for it in chosen:
        action = "" if it.action == "limit" else it.action
        entry = FilterEntry(it.name, it.text, action, it.rate, "", it.per, not enforce, "preset")
        new.append(new_filter(entry, "cli", now, None))

    def plan(held: list[Filter]) -> list[Filter]:
        for it in new:
            held = with_new(held, it, "", False)
        return held

    def told(found: Ruleset) -> list[str]:
        return [added(found, it)[0] for it in new]

    change(context, plan, [it.name for it in new], told, confirm, force)


def _does(its: Preset) -> str:
    if its.action == "drop":
        return "drop"
    return f"limit {its.rate}" + ("" if its.per == "filter" else f" per {its.per}")


def _describe(its: Preset) -> None:
    render.say(its.name)
    for name, value in (("match", its.text), ("action", _does(its)), ("for", its.summary), ("source", its.source)):
        render.say(f"  {name:<8} {value}")
