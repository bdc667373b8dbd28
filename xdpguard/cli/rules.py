# SPDX-License-Identifier: GPL-2.0
"""The commands block, unblock, allow, disallow, rules."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xdpguard import units
from xdpguard.cli import entries, health, notes, render
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
_Life = Annotated[
    str | None, typer.Option("--for", metavar="TIME", help="How long: 90s, 10m, 2h, 7d. Default: forever.")
]
_Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept with the rule.")]
_Force = Annotated[bool, typer.Option("--force", help="Override the check that no address this host needs is cut off.")]

_BLOCK_EXAMPLES = """
\b
Examples:
  xdpguard block 198.51.100.7 --for 10m --reason "ssh brute force"
  xdpguard block 203.0.113.0/24 2001:db8::/32
  xdpguard block --port 8080/tcp --port 53/udp
  xdpguard block - < addresses.txt     one per line, # starts a comment
  xdpguard block 198.51.100.0/24 --shadow --for 1d
\b
With --shadow nothing is dropped: the rule counts what it would drop, by class of sender (`rules` shows it), until
`promote` enforces it. It counts only what no block or list already drops, so beside a block of the same source it
counts nothing. A packet counts for one shadow entry, the one that would drop it if all were enforced.
"""
_ALLOW_EXAMPLES = """
\b
Examples:
  xdpguard allow 192.0.2.10                      a monitor that must never be blocked
  xdpguard allow 198.51.100.0/28 --for 2h        inside a blocked 198.51.100.0/24
\b
Allow rules override every block, closed port and check.
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
    life: _Life = None,
    reason: _Reason = "",
    force: _Force = False,
    shadow: Annotated[bool, typer.Option("--shadow", help="Drop nothing; only count what would be dropped.")] = False,
) -> None:
    """Drop packets from sources, or to ports."""
    from xdpguard.control import safety

    if shadow and (ports or force):
        what = "--port" if ports else "--force"
        raise UsageError(f"--shadow and {what} cannot be combined", "a shadow rule is for sources, and cuts nobody off")
    if ports:
        closed = ports_of(ports, targets)

        def check_ports(store: Store) -> None:
            safety.check_ports(store, closed, None if life is None else parse_duration(life))

        _add(context, "port", closed, life, reason, None if force else check_ports, force)
        return
    wanted = prefixes(targets)
    seconds = None if life is None else parse_duration(life)
    if shadow:
        _add_shadow(context, wanted, seconds, reason)
        return

    def check_block(store: Store) -> None:
        safety.check_block(store, wanted, seconds)

    _add(context, "block", wanted, life, reason, None if force else check_block, force)


def unblock(
    context: typer.Context,
    targets: Targets = None,
    ports: _Ports = None,
    shadow: Annotated[bool, typer.Option("--shadow", help="Remove shadow rules only; blocks stay.")] = False,
) -> None:
    """Remove block rules, closed ports and shadow rules."""
    if shadow and ports:
        raise UsageError("--shadow and --port cannot be combined", "shadow rules are for sources")
    if ports:
        _remove(context, "port", ports_of(ports, targets), None)
    else:
        _unblock(context, prefixes(targets), shadow)


def allow(
    context: typer.Context, targets: Targets = None, life: _Life = None, reason: _Reason = "", force: _Force = False
) -> None:
    """Let sources through, overriding every block."""
    from xdpguard.control import safety

    wanted = prefixes(targets)

    def check_allow(store: Store) -> None:
        safety.check_allow(store, wanted, None if life is None else parse_duration(life))

    _add(context, "allow", wanted, life, reason, None if force else check_allow)


def disallow(context: typer.Context, targets: Targets = None, force: _Force = False) -> None:
    """Remove sources from the allow list."""
    from xdpguard.control import needed, safety

    wanted = prefixes(targets)
    _remove(context, "allow", wanted, None if force else lambda store: safety.check_disallow(store, wanted))
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
    """Show the rules in force and their hits."""
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
                typer.echo(f"{words} does not apply to {', '.join(addresses)}; see xdpguard status")
    if shadow:
        rows = [entries.shadow_rule_row(item, now) for item in shadow]
        render.print_table(entries.SHADOW_RULE_COLUMNS, rows, entries.SHADOW_TITLE, entries.SHADOW_RIGHT)
    if not real and not shadow:
        typer.echo("no rules")


def _words(rule: Rule) -> str:
    return f"closed port {rule.target}" if rule.kind == "port" else f"{rule.kind} {rule.target}"


def _add_shadow(context: typer.Context, targets: Sequence[Prefix], seconds: float | None, reason: str) -> None:
    _check_reason(reason)
    with ruleset(options(context)) as found:
        found.shadow_rules.purge()
        change = found.shadow_rules.add("block", targets, reason, "cli", seconds)
        for target in targets if len(targets) <= 100 else ():
            for rule in found.store.covering("block", target, time.time())[:1]:
                inside = "is" if rule.target == target else f"is inside {rule.target}, which is"
                render.note(f"{target} {inside} blocked: the shadow rule counts nothing while that block lasts")
    typer.echo(
        f"counting what a block of {_named(targets)} would drop{_end(seconds)}{_already(change.updated, len(targets))}"
    )
    if not change.in_force:
        render.note("nothing is attached: stored, counts from the next attach on")


def _unblock(context: typer.Context, targets: Sequence[Prefix], shadow: bool) -> None:
    with ruleset(options(context)) as found:
        found.purge()
        shadows = found.shadow_rules.found("block", targets)
        missing = next((target for target in targets if target not in shadows), None)
        if shadow and missing is not None:
            raise XdpguardError(
                f"there is no shadow rule for {missing}",
                "nothing was changed; xdpguard rules --kind shadow shows them all",
            )
        blocked = found.rules.found("block", targets)
        # A target with neither is reported when its removal fails.
        real = [] if shadow else [target for target in targets if target in blocked or target not in shadows]
        found.unblock(real, list(shadows.values()))
    typer.echo(f"{'no longer counting' if not real else 'unblocked'} {_named(targets)}")


def _add(
    context: typer.Context,
    kind: Kind,
    targets: Sequence[Target],
    life: str | None,
    reason: str,
    check: Callable[[Store], None] | None,
    force: bool = False,
) -> None:
    from xdpguard.control import needed

    seconds = None if life is None else parse_duration(life)
    _check_reason(reason)
    with ruleset(options(context)) as found:
        store = found.store
        if check is not None:
            check(store)
        found.rules.purge()
        change = found.rules.add(kind, targets, reason, "cli", seconds)
        if force:
            needed.accept(store, blocks=targets)
        if kind == "block" and len(targets) <= 100:
            tell_overridden(store, targets)
        if kind == "block":
            notes.tell_of_dhcp(store, targets)
        lost = list(not_in_force(store)) if change.in_force else []
    verb = {"allow": "allowed", "block": "blocked", "port": "closed"}[kind]
    if change.kept:
        render.note(f"unchanged, because the configuration file has them: {change.kept:,}")
    typer.echo(f"{verb} {_named(targets)}{_end(seconds)}{_already(change.updated, len(targets))}")
    if not change.in_force:
        render.note("nothing is attached: stored, in force from the next attach on")
    for text in lost:
        render.note(text)


def not_in_force(store: Store) -> Iterator[str]:
    """Yield notes on the interfaces on which a change is not in force, and on those on which it is."""
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
    context: typer.Context, kind: Kind, targets: Sequence[Target], check: Callable[[Store], None] | None
) -> None:
    with ruleset(options(context)) as found:
        if check is not None:
            check(found.store)
        found.rules.purge()
        found.rules.remove(kind, targets)
        if kind == "allow":
            notes.tell_of_everybody(found.store, targets)
    verb = {"allow": "no longer allowed:", "block": "unblocked", "port": "reopened"}[kind]
    typer.echo(f"{verb} {_named(targets)}")


def tell_overridden(store: Store, targets: Sequence[Target]) -> None:
    """Print which targets an allow rule overrides."""
    for target in targets:
        if isinstance(target, Prefix):
            for rule in store.covering("allow", target)[:1]:
                render.note(f"{target} is inside {rule.target}, which is allowed: the allow rule overrides it")


def _check_reason(reason: str) -> None:
    if not reason.isprintable():
        raise UsageError("the reason contains control characters", "give plain text in one line")


def _end(seconds: float | None) -> str:
    return f" for {units.span(seconds)}, until {units.moment(time.time() + seconds)}" if seconds else ""


def _named(targets: Sequence[Target]) -> str:
    return ", ".join(str(target) for target in targets) if len(targets) <= 5 else f"{len(targets):,} targets"


def _already(updated: int, total: int) -> str:
    if not updated:
        return ""
    return " (rule existed, renewed)" if total == 1 else f" ({updated:,} existed, renewed)"
