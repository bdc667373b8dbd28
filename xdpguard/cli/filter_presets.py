# SPDX-License-Identifier: GPL-2.0
"""The command filter presets."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard.cli import output, render, undoing
from xdpguard.cli.columns import Column
from xdpguard.errors import UsageError, XdpguardError

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
  xdpguard filter presets amplification --add  a group: amplification, icmp, tcp, fragments or stray
  xdpguard filter list                         what they would have dropped
  xdpguard promote --filter ntp                drop it from now on
"""
_COLUMNS = [
    Column("group", 1),
    Column("name"),
    Column("match", 2, clip="end", keeps=40),
    Column("action"),
    Column("what it is for", clip="end"),
]


def presets(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME|GROUP...", help="Which ones.", show_default=False)
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="Add them as filters, in shadow.")] = False,
    enforce: Annotated[bool, typer.Option("--enforce", help="With --add: drop at once.")] = False,
    confirm: undoing.Confirm = "",
    force: Annotated[
        bool, typer.Option("--force", help="Override the check that no address this host needs is cut off.")
    ] = False,
    as_json: output.Json = False,
    _output: output.Output = "",
) -> None:
    """Show ready-made filters against the usual floods, or add some of them."""
    from xdpguard.policy.presets.catalogue import PRESETS, group_of
    from xdpguard.policy.presets.catalogue import presets as named

    chosen = named(names or ())
    output.expect_table(not chosen, "leave out -o, or the names")
    if add and not chosen:
        raise UsageError("--add without a name", "name presets: xdpguard filter presets ntp ssdp --add")
    if not add and (enforce or force or confirm):
        raise UsageError("--enforce, --confirm and --force go with --add", "see xdpguard filter presets --help")
    if add and as_json:
        raise UsageError("--json shows presets, and --add changes filters", "leave out one of them")
    if add:
        _add(context, chosen, enforce, confirm, force)
    elif as_json:
        from xdpguard.cli.answers.filters import Preset as Answer

        render.print_json([Answer.of(it, group_of(it)) for it in chosen or PRESETS])
    elif chosen:
        for it in chosen:
            _describe(it, group_of(it))
    else:
        render.print_table(_COLUMNS, [[group_of(it), it.name, it.text, _does(it), it.summary] for it in PRESETS])
        render.say("the source of one: xdpguard filter presets NAME")


def _add(context: typer.Context, chosen: list[Preset], enforce: bool, confirm: str, force: bool) -> None:
    from xdpguard.cli.filter_changes import change
    from xdpguard.cli.filters_shown import added
    from xdpguard.control.filter_order import with_last

    now = time.time()
    wanted = [_filter(it, enforce, now) for it in chosen]
    there: dict[str, Filter] = {}

    def plan(held: list[Filter]) -> list[Filter]:
        there.update(_there(held, wanted, now))
        return with_last(held, [it for it in wanted if it.name not in there], False)

    def told(found: Ruleset) -> Iterator[str]:
        for it in wanted:
            if it.name not in there:
                yield added(found, it)[0]
            else:
                its = there[it.name]
                yield f"filter {it.name}: there already, {'in shadow' if its.mode == 'shadow' else 'enforced'}"

    change(context, plan, [it.name for it in wanted], lambda found: list(told(found)), confirm, force)


def _filter(its: Preset, enforce: bool, now: float) -> NewFilter:
    from xdpguard.policy.filters import FilterEntry, new_filter

    action = "" if its.action == "limit" else its.action
    reason = f"preset, {its.source}"
    entry = FilterEntry(its.name, its.text, action, its.rate, "", its.per, not enforce, reason)
    return new_filter(entry, "cli", now, None)


def _there(held: Iterable[Filter], wanted: Iterable[NewFilter], now: float) -> dict[str, Filter]:
    """Return those filters of the presets that there are. Raise XdpguardError for one that does something else."""
    by_name = {it.name: it for it in held if it.alive(now)}
    found: dict[str, Filter] = {}
    for new in wanted:
        its = by_name.get(new.name)
        if its is None:
            continue
        if (its.match, its.action, its.limit) != (new.match, new.action, new.limit):
            raise XdpguardError(
                f"there is another filter {its.name} already: {its.does} {its.text}",
                f"nothing was changed; remove it first: xdpguard filter remove {its.name}",
            )
        if its.mode == "shadow" and new.mode == "enforce":
            raise XdpguardError(
                f"the filter {its.name} is there already, in shadow",
                f"nothing was changed; xdpguard promote --filter {its.name} enforces it",
            )
        found[its.name] = its
    return found


def _does(its: Preset) -> str:
    if its.action == "drop":
        return "drop"
    return f"limit {its.rate}" + ("" if its.per == "filter" else f" per {its.per}")


def _describe(its: Preset, group: str) -> None:
    render.say(f"{its.name}, of the group {group}")
    for name, value in (("match", its.text), ("action", _does(its)), ("for", its.summary), ("source", its.source)):
        render.say(f"  {name:<8} {value}")
