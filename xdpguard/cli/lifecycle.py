# SPDX-License-Identifier: GPL-2.0
"""The commands attach, detach, status, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xdpguard import units
from xdpguard.cli import health, places, render
from xdpguard.cli.session import controller, options, pins, remembered_policy
from xdpguard.errors import EXIT_FAILED, EXIT_MISSING, UsageError, XdpguardError
from xdpguard.net.netns import place_of

if TYPE_CHECKING:
    from xdpguard.control.attach import Outcome
    from xdpguard.control.interfaces import Interface

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_ATTACH_EXAMPLES = """
\b
Examples:
  xdpguard attach eth0                      native mode, or generic if the driver lacks it
  xdpguard attach eth0 --observe            count what would be dropped, drop nothing
  xdpguard attach eth0 --netns web          an interface in another network namespace
  xdpguard attach eth0 --netns 'pid 1234'   in the namespace of a process, such as a container's
  xdpguard attach eth0 --mtu-any            let the MTU be raised later
  xdpguard attach eth0 --config guard.toml  with limits, checks and rules from a file
\b
Attaching again swaps the program atomically: no packet passes unfiltered, rules and counters are kept.
A driver may refuse a larger MTU while the program is attached: detach, raise it, attach again; or use --mtu-any.
"""

_DETACH_EXAMPLES = """
\b
Examples:
  xdpguard detach eth0
  xdpguard detach --all      every interface of this instance
\b
Rules and their hit counts stay in the store for the next attach.
"""


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command(epilog=_ATTACH_EXAMPLES)(attach)
    app.command(epilog=_DETACH_EXAMPLES)(detach)
    app.command()(status)
    app.command()(doctor)


def attach(
    context: typer.Context,
    interface: Annotated[str, typer.Argument(metavar="IFACE", help="The interface whose incoming packets to inspect.")],
    netns: places.OneNetns = "",
    mode: Annotated[
        Literal["auto", "native", "generic"],
        typer.Option(
            "--mode", help="native: in the driver; generic: later and slower, on any driver; auto: native if it works."
        ),
    ] = "auto",
    observe: Annotated[bool, typer.Option("--observe", help="Count what would be dropped; drop nothing.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace another XDP program.")] = False,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Configuration file, TOML; remembered.")
    ] = None,
    no_config: Annotated[bool, typer.Option("--no-config", help="Forget the configuration; use the defaults.")] = False,
    mtu_any: Annotated[
        bool, typer.Option("--mtu-any", help="Accept frames of any size, so that the MTU can be raised while attached.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Attach even if a rule blocks an address this host needs.")
    ] = False,
) -> None:
    """Attach the program to an interface, or swap the one attached."""
    from xdpguard.cli.lists import list_notes
    from xdpguard.control.planning import Request
    from xdpguard.policy.load import load
    from xdpguard.policy.model import Policy

    chosen = options(context)
    if config is not None and no_config:
        raise UsageError("--config and --no-config cannot be combined", "give one of them")
    policy = load(config) if config else Policy()
    with controller(chosen) as session:
        if config is None and not no_config:
            policy = remembered_policy(session, chosen)
        place = session.place(interface, netns, anew=True)
        wanted = Request(*place, mode, observe=observe, replace=replace, force=force, any_mtu=mtu_any)
        outcome = session.attach(wanted, policy)
        if no_config or (config is not None and config.is_file()):
            session.remember_config(config)
    for text in [*(text for done in outcome.lists for text in list_notes(done)), *outcome.moved, *outcome.notes]:
        render.note(text)
    done = outcome.interface
    words = f"{', observing only' if done.observe else ''}{', any MTU' if done.any_mtu else ''}"
    render.say(f"attached to {place_of(done.name, done.netns)} in {done.mode} mode{words} (program {done.prog_id})")


def detach(
    context: typer.Context,
    interface: Annotated[str, typer.Argument(metavar="[IFACE]", help="The interface.", show_default=False)] = "",
    netns: places.OneNetns = "",
    everything: Annotated[bool, typer.Option("--all", help="Every interface of this instance.")] = False,
) -> None:
    """Detach the program from an interface. Programs of others are never touched."""
    if bool(interface) == everything:
        words = "an interface and --all cannot be combined" if everything else "give an interface, or --all"
        raise UsageError(words, "xdpguard status shows what is attached")
    if everything and netns:
        raise UsageError("--all means every namespace", "leave out --netns, or name one interface in it")
    errors: list[XdpguardError] = []
    with controller(options(context)) as session:
        if everything:
            outcomes, errors = session.detach_all()
        else:
            outcomes = [session.detach(*session.place(interface, netns))]
    for outcome in outcomes:
        _report(outcome)
    # What is wrong with the environment is wrong for each interface.
    for error in {str(it): it for it in errors}.values():
        render.failure(error, options(context).verbose)
    if errors:
        raise typer.Exit(max(it.exit_code for it in errors))
    if not outcomes:
        render.say("nothing is attached")


def _report(outcome: Outcome) -> None:
    for text in [*outcome.moved, *outcome.notes]:
        render.note(text)
    if not outcome.notes:
        render.say(f"detached from {place_of(outcome.interface.name, outcome.interface.netns)}")
    for change in outcome.restored:
        render.say(f"put back {change}")


def status(
    context: typer.Context, interface: places.Interface = "", netns: places.Netns = None, as_json: _Json = False
) -> None:
    """Show what is attached, and how many rules are in force. Exit with 1 if something is wrong."""
    import time

    from xdpguard.control import needed, openness
    from xdpguard.control.answering import Reach
    from xdpguard.dataplane.sys.abi import ABI

    chosen = options(context)
    with controller(chosen, read_only=True) as session:
        interfaces = session.matching(interface, netns)
        lists = {it.name: it.entries for it in session.lists.stored.all()}
        shadow_lists = {it.name: it.entries for it in session.shadow_lists.stored.all()}
        shadow_rules = len(session.shadow_rules.in_force())
        audit = session.audit()
        answers = Reach(pins(chosen), session.links(interfaces))
        conflicts = needed.kept(session.store)
        everybody = openness.notes(session.store)
        awaited, unread = health.awaited(session, chosen)
        counts = session.store.counts(time.time())
        late = health.clock_notes(session.store) if audit else []
    failing = [health.silent_text(it, its) for it, its in answers.failing(interfaces)]
    degraded = [*health.faults(interfaces, audit, conflicts, awaited, unread), *failing]
    if as_json:
        from xdpguard.cli.answers import state

        render.print_json(
            state.Status(
                instance=chosen.instance.name,
                abi=ABI,
                interfaces=[state.Interface.of(it, answers) for it in interfaces],
                rules=counts,
                lists=lists,
                shadow=state.ShadowCounts(shadow_rules, shadow_lists),
                audit=state.Audit.of(audit) if audit else None,
                awaited=[state.Awaited(*place) for place in awaited],
                conflicts=[state.Conflict.of(it) for it in conflicts],
                allows_everybody=everybody,
                degraded=degraded,
            )
        )
        _exit(degraded)
        return
    total = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    render.say(f"instance {chosen.instance.name}: rules: {total}")
    if lists:
        named = ", ".join(f"{name} ({units.number(count)})" for name, count in lists.items())
        render.say(f"lists: {named}")
    if shadow_rules or shadow_lists:
        named = "".join(f", {name} ({units.number(count)})" for name, count in shadow_lists.items())
        render.say(f"shadow, only counting: {render.counted(shadow_rules, 'rule')}{named}")
    if audit and audit.shadow and not audit.shadow.whole:
        render.note("the kernel lacks some shadow entries; attach again, or let xdpguard run restore them")
    if audit and audit.ratio < 1:
        missing = ", ".join(audit.missing())
        render.note(f"the kernel holds only {missing}; attach again, or let xdpguard run restore them")
    for text in [*everybody, *map(health.conflict_text, conflicts), *late]:
        render.note(text)
    for place in awaited:
        render.note(f"{place_of(*place)} is named in the configuration but not attached; xdpguard run attaches it")
    if unread:
        render.note(f"the configuration cannot be read: {unread}")
    if not interfaces:
        render.say("nothing is attached; attach with: xdpguard attach IFACE")
        _exit(degraded)
        return
    rows = [
        [
            it.name,
            it.netns or "-",
            it.mode,
            str(it.prog_id or "-"),
            "yes" if it.observe else "no",
            f"{it.mtu or '-'}{', any' if it.any_mtu else ''}",
            _state(it),
        ]
        for it in interfaces
    ]
    render.print_table(["interface", "netns", "mode", "program", "observe", "mtu", "state"], rows, right="program")
    for it in interfaces:
        if it.may_fix_mtu():
            render.note(_fixed_mtu(it))
    for text in failing:
        render.note(text)
    _exit(degraded)


def _exit(degraded: list[str]) -> None:
    if degraded:
        raise typer.Exit(EXIT_FAILED)


def doctor(
    context: typer.Context,
    fix: Annotated[bool, typer.Option("--fix", help="Fix what can be fixed safely, and say what was done.")] = False,
    as_json: _Json = False,
) -> None:
    """Check that this machine has what xdpguard needs, and say how to get what it lacks."""
    from xdpguard import doctor as checks

    found = checks.run(options(context).instance, fix)
    if as_json:
        render.print_json(found)
    else:
        marks = {"ok": "ok", "warn": "warn", "fail": "FAIL"}
        for check in found:
            render.say(f"{marks[check.result]:<5} {check.name}: {check.finding}")
            if check.fixed:
                render.say(f"      fixed: {check.fixed}")
            if check.remedy:
                render.say(f"      -> {check.remedy}")
    failed = {check.name for check in found if check.result == "fail"}
    if failed:
        raise typer.Exit(EXIT_FAILED if failed <= {"programs", "entries"} else EXIT_MISSING)


def _fixed_mtu(its: Interface) -> str:
    place = place_of(its.name, its.netns)
    remedy = "detach, raise it and attach again, or attach with --mtu-any"
    return f"{place}: a larger MTU (for a veth, of its peer) may be refused while this program is attached; {remedy}"


def _state(interface: Interface) -> str:
    return {
        "attached": "attached",
        "detached": "not attached (reboot?): attach it again",
        "replaced": "carries another program",
        "renamed": "attached, but renamed or moved: detach it and attach it under its new name",
        "gone": "the interface no longer exists: detach forgets it",
    }[interface.state]
