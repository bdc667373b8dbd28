# SPDX-License-Identifier: GPL-2.0
"""block, unblock, allow, disallow, rules."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xdpguard import units
from xdpguard.cli import entries, health, render, undoing
from xdpguard.cli.session import options, ruleset
from xdpguard.cli.targets import Targets, ports_of, prefixes
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.net.netns import place_of
from xdpguard.policy.target import Kind, Prefix, Target, parse_duration

if TYPE_CHECKING:
    from xdpguard.policy.rule import Rule
    from xdpguard.store.database import Store

_Ports = Annotated[
    list[str] | None,
    typer.Option("--port", metavar="PORT[/tcp|/udp]", help="A destination port instead of a source; may be repeated."),
]
_Life = Annotated[str, typer.Option("--for", metavar="TIME", help="How long: 90s, 10m, 2h, 7d. Default: for good.")]
_Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept with the rule.")]
_Force = Annotated[bool, typer.Option("--force", help="Even if it cuts off an address this host needs.")]

_BLOCK_EXAMPLES = """
\b
Examples:
  xdpguard block 198.51.100.7 --for 10m --reason "ssh brute force"
  xdpguard block 203.0.113.0/24 2001:db8::/32
  xdpguard block --port 8080/tcp --port 53/udp
  xdpguard block - < addresses.txt     one a line, # starts a comment
  xdpguard block 198.51.100.0/24 --shadow --for 1d
  xdpguard block 203.0.113.0/24 --confirm 60s   undone in a minute, unless xdpguard confirm follows
\b
With --shadow nothing is dropped: the rule counts what it would drop, by whose packets they are (`rules` shows it),
until `promote` makes it real. It counts what no block or list drops already, so beside a block of the same source it
waits. A packet counts on one shadow entry, the one that would drop it if all were real.
"""
_ALLOW_EXAMPLES = """
\b
Examples:
  xdpguard allow 192.0.2.10                      a monitor that must always get through
  xdpguard allow 198.51.100.0/28 --for 2h        inside a blocked 198.51.100.0/24
\b
The allow list wins over every block, port and check.
"""
_RULES_EXAMPLES = """
\b
Examples:
  xdpguard rules --kind block
  xdpguard rules --json | jq '.[] | select(.packets > 0)'
"""
_UNBLOCK_EXAMPLES = """
\b
Examples:
  xdpguard unblock 198.51.100.7
  xdpguard unblock --port 8080/tcp
  xdpguard rules --kind block --json | jq -r '.[].target' | xdpguard unblock -
"""


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command(epilog=_BLOCK_EXAMPLES)(block)
    app.command(epilog=_UNBLOCK_EXAMPLES)(unblock)
    app.command(epilog=_ALLOW_EXAMPLES)(allow)
    app.command()(disallow)
    app.command(epilog=_RULES_EXAMPLES)(rules)


def block(
    context: typer.Context,
    targets: Targets = None,
    ports: _Ports = None,
    life: _Life = "",
    reason: _Reason = "",
    force: _Force = False,
    shadow: Annotated[bool, typer.Option("--shadow", help="Drop nothing: only count what would be dropped.")] = False,
    confirm: undoing.Confirm = "",
) -> None:
    """Drop packets from sources, or to ports."""
    from xdpguard.control import safety

    command = undoing.of_command(context, confirm)
    if shadow and (ports or force):
        what = "a port" if ports else "--force"
        raise UsageError(f"--shadow does not go with {what}", "it is for sources, and cuts nobody off")
    if ports:
        closed = ports_of(ports, targets)

        def check_ports(store: Store) -> None:
            safety.check_ports(store, closed)

        _add(context, command, "port", closed, life, reason, None if force else check_ports, force)
        return
    wanted = prefixes(targets)
    seconds = parse_duration(life) if life else None
    if shadow:
        _add_shadow(context, command, wanted, seconds, reason)
        return

    def check_block(store: Store) -> None:
        safety.check_block(store, wanted, seconds)

    _add(context, command, "block", wanted, life, reason, None if force else check_block, force)


def unblock(
    context: typer.Context,
    targets: Targets = None,
    ports: _Ports = None,
    shadow: Annotated[bool, typer.Option("--shadow", help="Shadow rules only; a block stays.")] = False,
    confirm: undoing.Confirm = "",
) -> None:
    """Take block rules away, and shadow rules."""
    command = undoing.of_command(context, confirm)
    if shadow and ports:
        raise UsageError("--shadow does not go with a port", "shadow rules are for sources")
    if ports:
        _remove(context, command, "port", ports_of(ports, targets), None)
    else:
        _unblock(context, command, prefixes(targets), shadow)


def allow(
    context: typer.Context,
    targets: Targets = None,
    life: _Life = "",
    reason: _Reason = "",
    force: _Force = False,
    confirm: undoing.Confirm = "",
) -> None:
    """Let sources through, whatever blocks them."""
    from xdpguard.control import safety

    command, wanted = undoing.of_command(context, confirm), prefixes(targets)

    def check_end(store: Store) -> None:
        # An end given here also ends an allow rule that had none.
        safety.check_disallow(store, wanted)

    _add(context, command, "allow", wanted, life, reason, check_end if life and not force else None)


def disallow(
    context: typer.Context, targets: Targets = None, force: _Force = False, confirm: undoing.Confirm = ""
) -> None:
    """Take sources off the allow list."""
    from xdpguard.control import needed, safety

    command, wanted = undoing.of_command(context, confirm), prefixes(targets)
    _remove(context, command, "allow", wanted, None if force else lambda store: safety.check_disallow(store, wanted))
    if force:
        with ruleset(options(context)) as found:
            needed.accept(found.store, addresses=wanted)


def rules(
    context: typer.Context,
    kind: Annotated[
        Literal["allow", "block", "port", "shadow"] | None, typer.Option("--kind", help="Only this kind.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the rules in force and what they hit."""
    with ruleset(options(context), read_only=True) as found:
        real = found.rules.in_force(kind) if kind != "shadow" else []
        shadow = found.shadow_rules.in_force() if kind in (None, "shadow") else []
        left_out = health.left_out(found.store)
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
                typer.echo(f"{words} does not hold for {', '.join(addresses)}; see xdpguard status")
    if shadow:
        rows = [entries.shadow_rule_row(item, now) for item in shadow]
        render.print_table(entries.SHADOW_RULE_COLUMNS, rows, entries.SHADOW_TITLE, entries.SHADOW_RIGHT)
    if not real and not shadow:
        typer.echo("no rules")


def _words(rule: Rule) -> str:
    return f"closed port {rule.target}" if rule.kind == "port" else f"{rule.kind} {rule.target}"


def _add_shadow(
    context: typer.Context, command: undoing.Recorded, targets: Sequence[Prefix], seconds: float | None, reason: str
) -> None:
    _check_reason(reason)
    with ruleset(options(context), command=command) as found:
        found.shadow_rules.purge()
        change = found.shadow_rules.add("block", targets, reason, "cli", seconds)
        for target in targets if len(targets) <= 100 else ():
            for rule in found.store.covering("block", target, time.time())[:1]:
                inside = "is" if rule.target == target else f"is inside {rule.target}, which is"
                render.note(f"{target} {inside} blocked: the shadow rule counts nothing as long as that lasts")
    typer.echo(
        f"counting what a block of {_named(targets)} would drop{_end(seconds)}{_already(change.updated, len(targets))}"
    )
    if not change.in_force:
        render.note("nothing is attached: stored, counting from the next attach on")


def _unblock(context: typer.Context, command: undoing.Recorded, targets: Sequence[Prefix], shadow: bool) -> None:
    with ruleset(options(context), command=command) as found:
        found.purge()
        shadows = found.shadow_rules.found("block", targets)
        missing = next((target for target in targets if target not in shadows), None)
        if shadow and missing is not None:
            raise XdpguardError(
                f"there is no shadow rule for {missing}",
                "xdpguard rules --kind shadow shows which there are; nothing was changed",
            )
        blocked = found.rules.found("block", targets)
        # A target with neither is named when it is removed.
        real = [] if shadow else [target for target in targets if target in blocked or target not in shadows]
        found.unblock(real, list(shadows.values()))
    typer.echo(f"{'no longer counting' if not real else 'unblocked'} {_named(targets)}")


def _add(
    context: typer.Context,
    command: undoing.Recorded,
    kind: Kind,
    targets: Sequence[Target],
    life: str,
    reason: str,
    check: Callable[[Store], None] | None,
    force: bool = False,
) -> None:
    from xdpguard.control import needed

    seconds = parse_duration(life) if life else None
    _check_reason(reason)
    with ruleset(options(context), command=command) as found:
        store = found.store
        if check is not None:
            check(store)
        found.rules.purge()
        change = found.rules.add(kind, targets, reason, "cli", seconds)
        if force:
            needed.accept(store, blocks=targets)
        if kind == "block" and len(targets) <= 100:
            tell_overridden(store, targets)
        lost = list(not_in_force(store)) if change.in_force else []
    verb = {"allow": "allowed", "block": "blocked", "port": "closed"}[kind]
    if change.kept:
        render.note(f"{change.kept:,} of them stand in the configuration file and stay as they are there")
    typer.echo(f"{verb} {_named(targets)}{_end(seconds)}{_already(change.updated, len(targets))}")
    if not change.in_force:
        render.note("nothing is attached: stored, in force from the next attach on")
    for text in lost:
        render.note(text)


def not_in_force(store: Store) -> Iterator[str]:
    """Yield notes on which interfaces a change is not in force, and on which it is."""
    from xdpguard.net.carried import program_on

    held, faults = [], {}
    for it in store.attachments():
        found, place = program_on(it.name, it.netns), place_of(it.name, it.netns)
        if found == it.prog_id:
            held.append(place)
        elif found is None:
            faults[place] = "is not there under that name"
        else:
            faults[place] = "carries another program" if found else "lost its program"
    if faults and held:
        yield f"in force on {', '.join(held)}"
    elif "is not there under that name" not in faults.values() and faults:
        yield "stored; in force on no interface at this moment"
    yield from (f"{place} {fault}; see xdpguard status" for place, fault in faults.items())


def _remove(
    context: typer.Context,
    command: undoing.Recorded,
    kind: Kind,
    targets: Sequence[Target],
    check: Callable[[Store], None] | None,
) -> None:
    with ruleset(options(context), command=command) as found:
        if check is not None:
            check(found.store)
        found.rules.purge()
        found.rules.remove(kind, targets)
    verb = {"allow": "no longer allowed:", "block": "unblocked", "port": "reopened"}[kind]
    typer.echo(f"{verb} {_named(targets)}")


def tell_overridden(store: Store, targets: Sequence[Target]) -> None:
    """Print which targets an allow rule overrides."""
    for target in targets:
        if isinstance(target, Prefix):
            for rule in store.covering("allow", target)[:1]:
                render.note(f"{target} is inside {rule.target}, which is allowed: the allow list wins")


def _check_reason(reason: str) -> None:
    if not reason.isprintable():
        raise UsageError("the reason has control characters in it", "give plain text in one line")


def _end(seconds: float | None) -> str:
    return f" for {units.span(seconds)}, until {units.moment(time.time() + seconds)}" if seconds else ""


def _named(targets: Sequence[Target]) -> str:
    return ", ".join(str(target) for target in targets) if len(targets) <= 5 else f"{len(targets):,} targets"


def _already(updated: int, total: int) -> str:
    if not updated:
        return ""
    return " (rule was there, renewed)" if total == 1 else f" ({updated:,} were there, renewed)"
