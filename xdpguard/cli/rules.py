# SPDX-License-Identifier: GPL-2.0
"""block, unblock, allow, disallow, rules."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xdpguard.cli import render
from xdpguard.cli.session import options, rulebook
from xdpguard.errors import UsageError
from xdpguard.lists.parse import LONGEST_LINE, parse_lines
from xdpguard.policy.target import Kind, Port, Prefix, Target, parse_duration, parse_ports, parse_prefix

if TYPE_CHECKING:
    from xdpguard.lists.store import Store
    from xdpguard.rulebook import RuleHits

_Targets = Annotated[
    list[str] | None,
    typer.Argument(metavar="TARGET", help="Addresses, CIDR prefixes, or - for standard input.", show_default=False),
]
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
    """Adds these commands to the application."""
    app.command(epilog=_BLOCK_EXAMPLES)(block)
    app.command(epilog=_UNBLOCK_EXAMPLES)(unblock)
    app.command(epilog=_ALLOW_EXAMPLES)(allow)
    app.command()(disallow)
    app.command(epilog=_RULES_EXAMPLES)(rules)


def block(
    context: typer.Context,
    targets: _Targets = None,
    ports: _Ports = None,
    life: _Life = "",
    reason: _Reason = "",
    force: _Force = False,
) -> None:
    """Drop packets from sources, or to ports."""
    from xdpguard import safety

    if ports:
        wanted = _ports(ports, targets)

        def check_ports(store: Store) -> None:
            safety.check_ports(store, wanted)

        _add(context, "port", wanted, life, reason, None if force else check_ports)
        return
    prefixes = _prefixes(targets)
    seconds = parse_duration(life) if life else None

    def check_block(store: Store) -> None:
        safety.check_block(store, prefixes, seconds)

    _add(context, "block", prefixes, life, reason, None if force else check_block)


def unblock(context: typer.Context, targets: _Targets = None, ports: _Ports = None) -> None:
    """Take block rules away."""
    if ports:
        _remove(context, "port", _ports(ports, targets), None)
    else:
        _remove(context, "block", _prefixes(targets), None)


def allow(
    context: typer.Context, targets: _Targets = None, life: _Life = "", reason: _Reason = "", force: _Force = False
) -> None:
    """Let sources through, whatever blocks them."""
    from xdpguard import safety

    prefixes = _prefixes(targets)

    def check_end(store: Store) -> None:
        # With an end, an allowance for good comes to one, too.
        safety.check_disallow(store, prefixes)

    _add(context, "allow", prefixes, life, reason, check_end if life and not force else None)


def disallow(context: typer.Context, targets: _Targets = None, force: _Force = False) -> None:
    """Take sources off the allow list."""
    from xdpguard import safety

    prefixes = _prefixes(targets)
    _remove(context, "allow", prefixes, None if force else lambda store: safety.check_disallow(store, prefixes))


def rules(
    context: typer.Context,
    kind: Annotated[Literal["allow", "block", "port"] | None, typer.Option("--kind", help="Only this kind.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the rules in force and what they hit."""
    with rulebook(options(context), read_only=True) as (book, _):
        found = book.in_force(kind)
    if as_json:
        render.print_json([_as_json(item) for item in found])
        return
    if not found:
        typer.echo("no rules")
        return
    now = time.time()
    rows = [_row(item, now) for item in found]
    columns = ["kind", "target", "packets", "bytes", "expires in", "source", "created", "reason"]
    render.print_table(columns, rows, right="packets bytes")


def _add(
    context: typer.Context,
    kind: Kind,
    targets: Sequence[Target],
    life: str,
    reason: str,
    check: Callable[[Store], None] | None,
) -> None:
    seconds = parse_duration(life) if life else None
    if not reason.isprintable():
        raise UsageError("the reason has control characters in it", "give plain text in one line")
    with rulebook(options(context)) as (book, store):
        if check is not None:
            check(store)
        book.purge()
        change = book.add(kind, targets, reason, "cli", seconds)
        if kind == "block" and len(targets) <= 100:
            _tell_overridden(store, targets)
    verb = {"allow": "allowed", "block": "blocked", "port": "closed"}[kind]
    end = f" for {render.span(seconds)}, until {render.moment(time.time() + seconds)}" if seconds else ""
    if change.kept:
        render.note(f"{change.kept:,} of them stand in the configuration file and stay as they are there")
    typer.echo(f"{verb} {_named(targets)}{end}{_already(change.updated, len(targets))}")
    if not change.in_force:
        render.note("nothing is attached: stored, in force from the next attach on")


def _remove(
    context: typer.Context, kind: Kind, targets: Sequence[Target], check: Callable[[Store], None] | None
) -> None:
    with rulebook(options(context)) as (book, store):
        if check is not None:
            check(store)
        book.purge()
        book.remove(kind, targets)
    verb = {"allow": "no longer allowed:", "block": "unblocked", "port": "reopened"}[kind]
    typer.echo(f"{verb} {_named(targets)}")


def _prefixes(words: Sequence[str] | None) -> list[Prefix]:
    if not words:
        raise UsageError("no target given", "name addresses or prefixes, or - to read them from standard input")
    found: dict[Prefix, None] = {}
    for word in words:
        if word == "-":
            lines = parse_lines("stdin", _standard_input())
            for text in lines.notes[:10]:
                render.note(text)
            if len(lines.notes) > 10:
                render.note(f"... and {len(lines.notes) - 10} more lines with host bits set")
            found.update(dict.fromkeys(lines.prefixes))
            continue
        prefix, cleared = parse_prefix(word)
        if cleared:
            render.note(f"{word} has host bits set; taken as {prefix}")
        found[prefix] = None
    return list(found)


def _standard_input() -> Iterator[bytes]:
    if sys.stdin is None:
        raise UsageError("standard input is closed", "give it a file: xdpguard block - < FILE")
    # A bounded read: a line without an end must not fill the memory.
    return iter(lambda: sys.stdin.buffer.readline(LONGEST_LINE + 2), b"")


def _ports(words: Sequence[str], more: Sequence[str] | None) -> list[Port]:
    found: dict[Port, None] = {}
    for word in [*words, *(more or [])]:
        for part in word.split(","):
            found.update(dict.fromkeys(parse_ports(part)))
    return list(found)


def _tell_overridden(store: Store, targets: Sequence[Target]) -> None:
    for target in targets:
        if isinstance(target, Prefix):
            for rule in store.covering("allow", target)[:1]:
                render.note(f"{target} is inside {rule.target}, which is allowed: the allow list wins")


def _named(targets: Sequence[Target]) -> str:
    return ", ".join(str(target) for target in targets) if len(targets) <= 5 else f"{len(targets):,} targets"


def _already(updated: int, total: int) -> str:
    if not updated:
        return ""
    return " (rule was there, renewed)" if total == 1 else f" ({updated:,} were there, renewed)"


def _as_json(item: RuleHits) -> dict[str, object]:
    rule = item.rule
    return {
        "kind": rule.kind,
        "target": str(rule.target),
        "reason": rule.reason,
        "source": rule.source,
        "created": int(rule.created),
        "expires": None if rule.expires is None else math.ceil(rule.expires),
        "packets": item.packets,
        "bytes": item.bytes,
    }


def _row(item: RuleHits, now: float) -> list[str]:
    rule = item.rule
    left = "never" if rule.expires is None else render.span(rule.expires - now)
    return [
        rule.kind,
        str(rule.target),
        render.number(item.packets),
        render.octets(item.bytes),
        left,
        rule.source,
        render.moment(rule.created),
        rule.reason,
    ]
