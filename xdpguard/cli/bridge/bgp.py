# SPDX-License-Identifier: GPL-2.0
"""The command bridge bgp."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard.cli.session import Options, controller, options, remembered_policy, ruleset
from xdpguard.errors import UsageError

if TYPE_CHECKING:
    from xdpguard.bridges.bgp.announcing import Terms
    from xdpguard.policy.foreign import ForeignLimits

_EXAMPLES = """
\b
Examples:
  xdpguard bridge bgp --mode shadow          what GoBGP on this host receives, counting only
  xdpguard bridge bgp --print-unit > /etc/systemd/system/xdpguard-bgp.service
  xdpguard bridge bgp --announce bans --own 192.0.2.0/24

\b
ExaBGP starts it (exabgp.daemon.user=root, since xdpguard needs root):
  process xdpguard { run /usr/bin/xdpguard bridge bgp --exabgp; encoder json; }
  neighbor ... { api { processes [ xdpguard ]; neighbor-changes; receive { parsed; update; } } }

FlowSpec rules become filters behind all others, in the order of RFC 8955; traffic to a prefix with the community
BLACKHOLE (65535:666) is dropped. What is withdrawn goes at once; what a session announced that ended goes after --hold.
If the bridge is killed, what is in force ends within twice --hold. Rules that would cut off what this host needs are
refused: xdpguard bridge show. [bridges.bgp] in the configuration has the limits; write filters = true there, and
allow = true for rules that accept packets.
"""
_GOBGP = "127.0.0.1:50051"
_SHORTEST_HOLD = 10  # seconds


def register(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command(epilog=_EXAMPLES)(bgp)


def bgp(
    context: typer.Context,
    gobgp: Annotated[
        str, typer.Option("--gobgp", metavar="HOST:PORT", help="The API of GoBGP, or unix:PATH.", show_default=True)
    ] = _GOBGP,
    exabgp: Annotated[bool, typer.Option("--exabgp", help="ExaBGP starts this as one of its processes.")] = False,
    hold: Annotated[
        str, typer.Option("--hold", metavar="TIME", help="How long routes stay after their session has ended.")
    ] = "5m",
    mode: Annotated[
        str,
        typer.Option("--mode", metavar="MODE", help="enforce, or shadow: only count. Default: the configuration's."),
    ] = "",
    rtbh_source: Annotated[
        bool, typer.Option("--rtbh-source", help="Drop what comes from blackholed prefixes, too (RFC 5635).")
    ] = False,
    max_filters: Annotated[
        int, typer.Option("--max-filters", min=1, max=1024, help="Filters that this bridge may have.")
    ] = 512,
    announce: Annotated[
        str,
        typer.Option(
            "--announce", metavar="bans|filters", help="Announce the guard's bans, or filters.", show_default=False
        ),
    ] = "",
    own: Annotated[
        list[str] | None,
        typer.Option("--own", metavar="PREFIX", help="Announce only for traffic to this prefix; may be repeated."),
    ] = None,
    announce_most: Annotated[
        int, typer.Option("--announce-most", min=1, max=10_000, help="Rules announced at a time.")
    ] = 100,
    announce_least: Annotated[
        str, typer.Option("--announce-least", metavar="TIME", help="How long each is announced at least.")
    ] = "10m",
    print_unit: Annotated[bool, typer.Option("--print-unit", help="Print a systemd unit for this, and exit.")] = False,
) -> None:
    """Put in force the FlowSpec rules and blackhole routes of BGP.

    They last while the sessions of the neighbors that announced them live.
    """
    from xdpguard.bridges.bgp.gobgp import check_place
    from xdpguard.policy.duration import parse_duration

    chosen = options(context)
    seconds = parse_duration(hold)
    if seconds < _SHORTEST_HOLD:
        raise UsageError(f"--hold {hold} is too short", f"write at least {_SHORTEST_HOLD}s")
    if exabgp and (gobgp != _GOBGP or print_unit):
        raise UsageError("--exabgp goes with no --gobgp and no unit: ExaBGP starts the bridge", "leave one of them out")
    if mode not in ("", "enforce", "shadow"):
        raise UsageError(f"no such mode: {mode!r}", "give --mode enforce or --mode shadow")
    check_place(gobgp)
    terms = _terms(announce, own or [], announce_most, announce_least)
    if print_unit:
        from xdpguard.cli.unit import bridge_text

        typer.echo(bridge_text(chosen.instance.name, "bgp", _words(context)), nl=False)
        return
    from xdpguard.bridges.bgp.exabgp import ExaBGP
    from xdpguard.bridges.bgp.gobgp import GoBGP
    from xdpguard.bridges.bgp.plan import ORIGIN, Bounds, Planner
    from xdpguard.bridges.bgp.service import Service
    from xdpguard.bridges.bgp.upstream import Upstream
    from xdpguard.bridges.state import alone
    from xdpguard.service import log

    logger = log.begin(chosen.verbose)
    with alone(chosen.instance, ORIGIN):
        limits = _limits(chosen, mode)
        bounds = Bounds(max_filters, limits.shortest4, limits.shortest6, limits.allow, rtbh_source)
        Service(
            ExaBGP() if exabgp else GoBGP(gobgp),
            Planner(bounds),
            limits,
            seconds,
            lambda: ruleset(chosen, on_wait=logger.debug, on_undone=lambda text: None),
            Upstream(terms) if terms else None,
        ).run()


def _limits(chosen: Options, mode: str) -> ForeignLimits:
    """Return what the configuration lets the bridge do; without it, filters, also such that accept packets."""
    import msgspec

    from xdpguard.bridges.bgp.plan import ORIGIN
    from xdpguard.policy.foreign import ForeignLimits

    with controller(chosen) as session:
        limits = remembered_policy(session, chosen).bridges.get(ORIGIN, ForeignLimits(filters=True, allow=True))
    return msgspec.structs.replace(limits, mode=mode) if mode else limits


def _terms(announce: str, own: list[str], most: int, least: str) -> Terms | None:
    from xdpguard.bridges.bgp.announcing import WHATS, Terms, own_prefixes
    from xdpguard.policy.duration import parse_duration

    if not announce:
        if own:
            raise UsageError("--own without --announce", "add --announce bans or --announce filters")
        return None
    what = next((it for it in WHATS if it == announce), None)
    if what is None:
        raise UsageError(f"not what can be announced: {announce!r}", f"write {' or '.join(WHATS)}")
    return Terms(what, own_prefixes(own), most, parse_duration(least))


def _words(context: typer.Context) -> list[str]:
    """Return the options of this command as they were given, without --print-unit."""
    import shlex

    words = shlex.split(options(context).words)
    behind = next(at for at in range(2, len(words)) if words[at - 2 : at] == ["bridge", "bgp"])
    return [it for it in words[behind:] if it != "--print-unit"]
