# SPDX-License-Identifier: GPL-2.0
"""The commands block, unblock, allow and disallow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard.cli import changing, fleet_entries, foreign, places, unblocking, undoing
from xdpguard.cli.changing import Wanted
from xdpguard.cli.session import options, ruleset
from xdpguard.cli.targets import Targets, ports_of, prefixes
from xdpguard.errors import UsageError
from xdpguard.policy.duration import parse_life
from xdpguard.policy.origins import is_foreign

if TYPE_CHECKING:
    from xdpguard.store.database import Store

_Ports = Annotated[
    list[str] | None,
    typer.Option(
        "--port",
        metavar="PORT",
        help="A destination port instead of a source: 8080/tcp, 53, 80-90, ssh; may be repeated.",
    ),
]
_Life = Annotated[
    str | None, typer.Option("--for", metavar="TIME", help="How long: 90s, 10m, 1h30m, 7d, permanent (the default).")
]
_Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept with the rule.")]
_Replace = Annotated[bool, typer.Option("--replace", help="If the rule exists, shorten it or change its reason.")]
_Force = Annotated[bool, typer.Option("--force", help="Override the check that no address this host needs is cut off.")]

_BLOCK_EXAMPLES = """
\b
Examples:
  xdpguard block 198.51.100.7 --for 10m --reason "ssh brute force"
  xdpguard block 203.0.113.0/24 2001:db8::/32
  xdpguard block 198.51.100.1-198.51.100.9       a range becomes the prefixes that make it up
  xdpguard block --port 8080/tcp --port 53/udp   or 80,443 or 8000-8010 or tcp/80 or ssh
  xdpguard block - < addresses.txt     one per line, # starts a comment
  xdpguard block 198.51.100.7 --for 5m --replace    end it sooner than was said before
  xdpguard block 198.51.100.0/24 --shadow --for 1d
  xdpguard block 203.0.113.0/24 --confirm 60s   undone in a minute, unless xdpguard confirm follows
  xdpguard block 198.51.100.7 --for 600s --origin fail2ban     what a program decides; it may be repeated

If a source is blocked already, the later end and the first reason stay. What the configuration file blocks stays
blocked as long as it is in there.

With --shadow nothing is dropped: the rule counts what it would drop, by class of sender (`rules` shows it), until
`promote` enforces it. It counts only what no block or list already drops, so beside a block of the same source it
counts nothing. A packet counts for one shadow entry, the one that would drop it if all were enforced.
"""
_ALLOW_EXAMPLES = """
\b
Examples:
  xdpguard allow 192.0.2.10                      a monitor that must never be blocked
  xdpguard allow 198.51.100.0/28 --for 2h        inside a blocked 198.51.100.0/24

Allow rules override every block, closed port and check.
"""
_UNBLOCK_EXAMPLES = """
\b
Examples:
  xdpguard unblock 198.51.100.7
  xdpguard unblock --port 8080/tcp
  xdpguard unblock --match 203.0.113.0/24        the blocks inside it; asks first
  xdpguard unblock --match scan --yes            those with "scan" in the reason, without asking
  xdpguard unblock --origin guard --yes          the guard's bans
  xdpguard rules --kind block --json | jq -r '.[].target' | xdpguard unblock -
"""

_DISALLOW_EXAMPLES = """
\b
Examples:
  xdpguard disallow 192.0.2.10
  xdpguard disallow 192.0.2.0/24 --confirm 60s    undone in a minute, unless xdpguard confirm follows
"""


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command(epilog=_BLOCK_EXAMPLES)(block)
    app.command(epilog=_UNBLOCK_EXAMPLES)(unblock)
    app.command(epilog=_ALLOW_EXAMPLES)(allow)
    app.command(epilog=_DISALLOW_EXAMPLES)(disallow)


def block(
    context: typer.Context,
    targets: Targets = None,
    ports: _Ports = None,
    life: _Life = None,
    reason: _Reason = "",
    replace: _Replace = False,
    force: _Force = False,
    shadow: Annotated[bool, typer.Option("--shadow", help="Drop nothing; only count what would be dropped.")] = False,
    confirm: undoing.Confirm = "",
    origin: foreign.Origin = "",
    fleet: fleet_entries.OnFleet = False,
) -> None:
    """Drop packets from sources, or to ports."""
    from xdpguard.control import safety

    if fleet:
        own = {"--port": ports, "--replace": replace, "--force": force, "--shadow": shadow}
        fleet_entries.check_alone(own | {"--confirm": confirm, "--origin": origin})
        fleet_entries.add(context, "block", prefixes(targets), life, reason)
        return
    if origin:
        foreign.check_alone(origin, {"--port": ports, "--replace": replace, "--force": force, "--confirm": confirm})
        foreign.block(context, origin, prefixes(targets, names=False), life, reason, shadow)
        return
    if shadow and (ports or force):
        what = "--port" if ports else "--force"
        raise UsageError(f"--shadow and {what} cannot be combined", "a shadow rule is for sources, and cuts nobody off")
    if ports:
        closed = ports_of(ports, targets)

        def check_ports(store: Store) -> None:
            safety.check_ports(store, closed, parse_life(life))

        rules = Wanted("port", closed, life, reason, replace, confirm)
        changing.add(context, rules, None if force else check_ports, force)
        return
    wanted = prefixes(targets)
    seconds = parse_life(life)
    if shadow:
        changing.add_shadow(context, Wanted("block", wanted, life, reason, replace, confirm))
        return

    def check_block(store: Store) -> None:
        safety.check_block(store, wanted, seconds)

    rules = Wanted("block", wanted, life, reason, replace, confirm)
    changing.add(context, rules, None if force else check_block, force)


def unblock(
    context: typer.Context,
    targets: Targets = None,
    ports: _Ports = None,
    shadow: Annotated[bool, typer.Option("--shadow", help="Remove shadow rules only; blocks stay.")] = False,
    confirm: undoing.Confirm = "",
    origin: foreign.Origin = "",
    everything: Annotated[
        bool, typer.Option("--all", help="All blocks, closed ports and shadow rules; with --origin, of that one.")
    ] = False,
    match: Annotated[
        str,
        typer.Option("--match", metavar="TEXT|PREFIX", help="As `rules --match` shows.", callback=places.given),
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --all, --match or --origin: do not ask.")] = False,
    fleet: fleet_entries.OnFleet = False,
) -> None:
    """Remove block rules, closed ports and shadow rules."""
    many = everything or bool(match) or (bool(origin) and not targets)
    if many and (targets or ports or fleet):
        given = "--port" if ports else "--fleet" if fleet else "targets"
        raise UsageError(f"--all, --match and {given} cannot be combined", "give one of them")
    # What a program decides it may also take back, without being asked.
    if many and not (everything and origin and is_foreign(origin) and not match):
        unblocking.unblock(context, unblocking.Which(match, origin, shadow), yes, confirm)
        return
    if fleet:
        fleet_entries.check_alone({"--port": ports, "--shadow": shadow, "--confirm": confirm, "--origin": origin})
        fleet_entries.take_back(context, "block", prefixes(targets, "unblock"))
        return
    if origin:
        foreign.check_alone(origin, {"--port": ports, "--shadow": shadow, "--confirm": confirm})
        if everything:
            foreign.unblock_all(context, origin)
            return
        foreign.unblock(context, origin, prefixes(targets, "unblock", names=False))
        return
    if shadow and ports:
        raise UsageError("--shadow and --port cannot be combined", "shadow rules are for sources")
    if ports:
        changing.remove(context, "port", ports_of(ports, targets), None, confirm)
    else:
        changing.unblock(context, prefixes(targets, "unblock"), shadow, confirm)


def allow(
    context: typer.Context,
    targets: Targets = None,
    life: _Life = None,
    reason: _Reason = "",
    replace: _Replace = False,
    force: _Force = False,
    confirm: undoing.Confirm = "",
    fleet: fleet_entries.OnFleet = False,
) -> None:
    """Let sources through, overriding every block."""
    from xdpguard.control import safety

    if fleet:
        fleet_entries.check_alone({"--replace": replace, "--force": force, "--confirm": confirm})
        fleet_entries.add(context, "allow", prefixes(targets, "allow"), life, reason)
        return
    wanted = prefixes(targets, "allow")

    def check_allow(store: Store) -> None:
        # Without --replace, an end that is given shortens nothing.
        safety.check_allow(store, wanted, parse_life(life) if replace else None)

    rules = Wanted("allow", wanted, life, reason, replace, confirm)
    changing.add(context, rules, None if force else check_allow)


def disallow(
    context: typer.Context,
    targets: Targets = None,
    force: _Force = False,
    confirm: undoing.Confirm = "",
    fleet: fleet_entries.OnFleet = False,
) -> None:
    """Remove sources from the allow list."""
    from xdpguard.control import needed, safety

    if fleet:
        fleet_entries.check_alone({"--force": force, "--confirm": confirm})
        fleet_entries.take_back(context, "allow", prefixes(targets, "disallow"))
        return
    wanted = prefixes(targets, "disallow")
    check = None if force else lambda store: safety.check_disallow(store, wanted)
    changing.remove(context, "allow", wanted, check, confirm)
    if force:
        with ruleset(options(context)) as found:
            needed.accept(found.store, addresses=wanted)
