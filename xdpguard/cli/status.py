# SPDX-License-Identifier: GPL-2.0
"""The commands status and doctor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard import units
from xdpguard.cli import health, places, render
from xdpguard.cli.session import controller, options, pins
from xdpguard.errors import EXIT_FAILED, EXIT_MISSING
from xdpguard.net.netns import place_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from xdpguard.control.audit import Audit
    from xdpguard.control.interfaces import Interface

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

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
    context: typer.Context, interface: places.Interface = "", netns: places.Netns = None, as_json: _Json = False
) -> None:
    """Show what is attached, and how many rules are in force. Exit with 1 if something is wrong."""
    import time

    from xdpguard.control import needed, openness
    from xdpguard.control.answering import Reach
    from xdpguard.control.default import in_force, words_of
    from xdpguard.dataplane.sys.abi import ABI

    chosen = options(context)
    with controller(chosen, read_only=True) as session:
        interfaces = session.matching(interface, netns)
        lists = {it.name: it.entries for it in session.lists.stored.all()}
        shadow_lists = {it.name: it.entries for it in session.shadow_lists.stored.all()}
        shadow_rules = len(session.shadow_rules.in_force())
        filters = session.filters.stored.count(time.time())
        audit = session.audit()
        answers = Reach(pins(chosen), session.links(interfaces))
        conflicts = needed.kept(session.store)
        everybody = openness.notes(session.store)
        awaited, unread = health.awaited(session, chosen)
        counts = session.store.counts(time.time())
        waiting = health.waiting(session.store)
        ending = words_of(in_force(session.store))
        late = health.clock_notes(session.store) if audit else []
        bridged, away = health.bridged(session.store)
    failing = [health.silent_text(it, its) for it, its in answers.failing(interfaces)]
    degraded = [*health.faults(interfaces, audit, conflicts, awaited, unread), *failing, *away]
    if as_json:
        from xdpguard.cli.answers import changes, state
        from xdpguard.cli.answers.bridges import Shown as Bridged

        render.print_json(
            state.Status(
                instance=chosen.instance.name,
                abi=ABI,
                interfaces=[state.Interface.of(it, answers) for it in interfaces],
                rules=counts,
                lists=lists,
                shadow=state.ShadowCounts(shadow_rules, shadow_lists, filters["shadow"]),
                filters=filters["enforce"],
                audit=state.Audit.of(audit) if audit else None,
                awaited=[state.Awaited(*place) for place in awaited],
                conflicts=[state.Conflict.of(it) for it in conflicts],
                allows_everybody=everybody,
                default=ending,
                confirm=changes.Confirmation.of(*waiting),
                bridges=[Bridged.of(it, time.time()) for it in bridged],
                degraded=degraded,
            )
        )
        _exit(degraded)
        return
    total = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    render.say(f"instance {chosen.instance.name}: rules: {total}")
    _say_entries(lists, filters, shadow_rules, shadow_lists)
    for its in bridged:
        render.say(f"bridge {its.summary(time.time())}")
    if ending != "pass":
        render.say(f"default: {ending}")
    for text in [*_lacking(audit), *waiting.texts(), *everybody, *map(health.conflict_text, conflicts), *late, *away]:
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


def _say_entries(
    lists: Mapping[str, int], filters: Mapping[str, int], shadow_rules: int, shadow_lists: Mapping[str, int]
) -> None:
    if lists:
        named = ", ".join(f"{name} ({units.number(count)})" for name, count in lists.items())
        render.say(f"lists: {named}")
    if filters["enforce"]:
        render.say(f"filters: {units.number(filters['enforce'])}")
    if shadow_rules or shadow_lists or filters["shadow"]:
        named = "".join(f", {name} ({units.number(count)})" for name, count in shadow_lists.items())
        more = f", {render.counted(filters['shadow'], 'filter')}" if filters["shadow"] else ""
        render.say(f"shadow, only counting: {render.counted(shadow_rules, 'rule')}{named}{more}")


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
    remedy = "detach, then attach again with --mtu-any, or once it is raised"
    return f"{place}: a larger MTU (for a veth, of its peer) may be refused while this program is attached; {remedy}"


def _state(interface: Interface) -> str:
    return {
        "attached": "attached",
        "detached": "not attached: attach it again",
        "replaced": "carries another program",
        "renamed": "attached, but renamed or moved: detach it and attach it under its new name",
        "gone": "the interface no longer exists: detach forgets it",
    }[interface.state]
