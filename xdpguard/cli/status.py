# SPDX-License-Identifier: GPL-2.0
"""The commands status and doctor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard.cli import output, places, render
from xdpguard.cli.session import controller, options
from xdpguard.errors import EXIT_FAILED, EXIT_MISSING

if TYPE_CHECKING:
    from xdpguard.cli.answers.state import Status
    from xdpguard.cli.status_read import Found

_STATUS_EXAMPLES = """
\b
Examples:
  xdpguard status                    everything that is attached
  xdpguard status -i eth0            one interface
  xdpguard status --json | jq .degraded    why it exits with 1
"""
_DOCTOR_EXAMPLES = """
\b
Examples:
  xdpguard doctor              what is missing, and how to get it
  sudo xdpguard doctor --fix   what can be fixed safely is
"""


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command(epilog=_STATUS_EXAMPLES)(status)
    app.command(epilog=_DOCTOR_EXAMPLES)(doctor)


def status(
    context: typer.Context,
    interface: places.Interface = "",
    netns: places.Netns = None,
    as_json: output.Json = False,
    _output: output.Output = "",
) -> None:
    """Show what is attached, and how many rules are in force. Exit with 1 if something is wrong."""
    from xdpguard.cli import status_read

    chosen = options(context)
    with controller(chosen, read_only=True) as session:
        found = status_read.read(session, chosen, interface, netns, rates=not as_json)
    if as_json:
        render.print_json(_answer(found))
    else:
        from xdpguard.cli import status_shown

        status_shown.show(found)
    if found.degraded:
        raise typer.Exit(EXIT_FAILED)


def _answer(found: Found) -> Status:
    import time

    from xdpguard.cli.answers import changes, state
    from xdpguard.cli.answers.bridges import Shown as Bridged
    from xdpguard.dataplane.sys.abi import ABI

    return state.Status(
        instance=found.instance,
        abi=ABI,
        interfaces=[state.Interface.of(it, found.answers) for it in found.interfaces],
        rules=found.rules,
        lists=found.lists,
        shadow=state.ShadowCounts(found.shadow_rules, found.shadow_lists, found.filters["shadow"]),
        filters=found.filters["enforce"],
        audit=state.Audit.of(found.audit) if found.audit else None,
        awaited=[state.Awaited(*place) for place in found.awaited],
        conflicts=[state.Conflict.of(it) for it in found.conflicts],
        allows_everybody=found.everybody,
        default=found.default,
        confirm=changes.Confirmation.of(*found.waiting),
        bridges=[Bridged.of(it, time.time()) for it in found.bridges],
        degraded=found.degraded,
        state=found.state,
    )


def doctor(
    context: typer.Context,
    fix: Annotated[bool, typer.Option("--fix", help="Fix what can be fixed safely, and say what was done.")] = False,
    as_json: output.Json = False,
) -> None:
    """Check that this machine has what xdpguard needs, and say how to get what it lacks."""
    from xdpguard import doctor as checks

    found = checks.run(options(context).instance, fix)
    if as_json:
        render.print_json(found)
    else:
        marks = {"ok": "ok", "warn": "warn", "fail": "FAIL"}
        colours: dict[str, output.Colour] = {"ok": "green", "warn": "yellow", "fail": "red"}
        for check in found:
            render.say(f"{marks[check.result]:<5} {check.name}: {check.finding}", colours[check.result])
            if check.fixed:
                render.say(f"      fixed: {check.fixed}")
            if check.remedy:
                render.say(f"      -> {check.remedy}")
    failed = {check.name for check in found if check.result == "fail"}
    if failed:
        raise typer.Exit(EXIT_FAILED if failed <= {"programs", "entries"} else EXIT_MISSING)
