# SPDX-License-Identifier: GPL-2.0
"""The commands default show, default drop and default pass."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard import units
from xdpguard.cli import output, render, undoing
from xdpguard.cli.columns import Column, Row, ago, number
from xdpguard.cli.session import Options, controller, options, pins, remembered_policy

if TYPE_CHECKING:
    from xdpguard.cli.answers.default import DefaultShow
    from xdpguard.control.controller import Controller
    from xdpguard.net.links import Link
    from xdpguard.policy.model import Default

_Force = Annotated[bool, typer.Option("--force", help="Even if nobody could log in again from where they are now.")]

_NAMED = 5  # ports of a source that are named

_DROP_EXAMPLES = """
\b
Examples:
  xdpguard default drop                          count what belongs to nothing here, and let it pass: shadow mode
  xdpguard default show                          what would have been cut, by port and by source
  xdpguard default drop --enforce --confirm 60s  cut it, and undo that unless `xdpguard confirm` follows
  xdpguard default drop --strict-udp             of UDP admit only what answers, not all that reaches a socket

What allow rules and filters pass is admitted, and so is what belongs to a socket of this host or answers what was sent.
A listening TCP port admits no new connection by itself. `xdpguard default --help` tells the rest.
"""

_ABOUT = """Choose what becomes of packets that no rule decides about and that belong to nothing on this host.

\b
`default drop` admits, besides what allow rules and filters pass:
  TCP      of connections that this host holds or opens, and ACKs with a valid SYN cookie
  UDP      to a port for which a socket is open; with --strict-udp only what answers
  answers  to what left through the interfaces: pings, tunnels, connections of containers; for 10 seconds, of UDP to \
what was sent to a group, from any address (mDNS, SSDP)
  ICMP     errors about packets of this host; neighbour discovery, router advertisements, IGMP and MLD
  DHCP     answers of servers, IPv4 and IPv6

Later fragments pass: without the first one they reach nobody. Left alone is what is not for this host: forwarded
packets and frames for guests; and the loopback interface. If a device of another network namespace shares an interface
(macvlan, ipvlan, VLAN), so is what arrives for an address that is not this host's, or for a group.

What an enforced default cuts is not seen by the SYN guard: scans are counted by `default show`, and ban nobody.
"""

_SHOW_EXAMPLES = """
\b
Examples:
  xdpguard default show            by port and by source
  xdpguard default show -n 50
"""
_PASS_EXAMPLES = """
\b
Examples:
  xdpguard default pass            let everything pass again
  xdpguard default pass --shadow   and go on counting what would be cut
"""

default_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=_ABOUT)


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    default_app.command(epilog=_SHOW_EXAMPLES)(show)
    default_app.command(epilog=_DROP_EXAMPLES)(drop)
    default_app.command("pass", epilog=_PASS_EXAMPLES)(pass_)
    app.add_typer(default_app, name="default")


def drop(
    context: typer.Context,
    shadow: Annotated[
        bool | None, typer.Option("--shadow/--enforce", help="Only count, or drop. Without either: as it is, or count.")
    ] = None,
    strict: Annotated[
        bool | None,
        typer.Option("--strict-udp/--no-strict-udp", help="Of UDP, admit only what answers; or what reaches a socket."),
    ] = None,
    confirm: undoing.Confirm = "",
    force: _Force = False,
) -> None:
    """Drop packets that belong to nothing on this host, or count them first."""
    from xdpguard.policy.model import Default

    def wanted(now: Default) -> Default:
        enforce = now.enforced if shadow is None else not shadow
        return Default(
            policy="drop",
            mode="enforce" if enforce else "shadow",
            strict_udp=now.policy == "drop" and now.strict_udp if strict is None else strict,
        )

    _set(context, wanted, confirm, force)


def pass_(
    context: typer.Context,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Count what would be cut: the same as default drop --shadow.")
    ] = False,
    confirm: undoing.Confirm = "",
) -> None:
    """Let packets pass that no rule decides about, as without a default."""
    from xdpguard.policy.model import Default

    if shadow:
        drop(context, shadow=True, confirm=confirm)
    else:
        _set(context, lambda now: Default(), confirm, force=True)


def _set(context: typer.Context, wanted: Callable[[Default], Default], confirm: str, force: bool) -> None:
    from xdpguard.control import needed, safety
    from xdpguard.control.default import described, wanted_in_force
    from xdpguard.control.presence import presences_of

    chosen = options(context)
    with controller(chosen, command=undoing.of_command(context, confirm)) as session:
        policy = remembered_policy(session, chosen)
        configured = policy.default
        before = session.default.current(configured)
        after = wanted(before)
        if not force:
            safety.check_default(session.store, wanted_in_force(after))
        links = session.carriers()
        if after.policy == "drop":
            session.guard.surround(session.guard.effective(policy.guard), session.links())
        session.default.set(after, configured, links)
        if force and after.enforced:
            needed.accept(session.store, blocks=(), default=True)
        where = presences_of(session)
        published = _published(session, after, links)
    render.say(f"default: {described(after)}{'' if after != before else ', as before'}")
    for text in [*_told(after), *_exceptions(published, [it.name for it in links if it.loopback]), *where.notes()]:
        render.note(text)


def _told(its: Default) -> Iterator[str]:
    if its.policy == "pass":
        return
    if not its.enforced:
        yield "nothing is cut yet; after a day or so: xdpguard default show, then: xdpguard default drop --enforce"
    yield "a service needs a filter: xdpguard filter add NAME 'tcp dport 443' --pass; pings: 'icmp type echo-request'"


def _published(session: Controller, its: Default, links: Iterable[Link]) -> list[str]:
    """Return ports of containers that need a filter. Of UDP the runtime's socket admits, unless it is strict."""
    from xdpguard.service import published

    if its.policy == "pass":
        return []
    ports = [f"{port}/tcp" for port in session.guard.published()]
    if its.strict_udp:
        ports += [f"{port}/udp" for port in sorted(published.find({it.netns for it in links}, socket.IPPROTO_UDP))]
    return ports


def _exceptions(published: Iterable[str], loopbacks: Iterable[str]) -> Iterator[str]:
    ports = ", ".join(published)
    if ports:
        yield f"NAT passes {ports} on to containers: new connections there need a filter as well"
    for name in loopbacks:
        yield f"{name} is left alone: what this host sends itself is never cut"


def show(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Show so many ports and sources.")] = 10,
    as_json: output.Json = False,
    _output: output.Output = "",
) -> None:
    """Show the default, and what it has cut, or would have: by port and by source."""
    from xdpguard.control.presence import nothing_attached

    chosen = options(context)
    with controller(chosen, read_only=True) as session:
        found = _answer(chosen, session, limit)
        nothing = None if found.interfaces else nothing_attached(session.store)
    if as_json:
        render.print_json(found)
        return
    render.say(_sentence(found))
    if found.policy == "drop":
        ports = [f"{port}/tcp" for port in found.published] + [f"{port}/udp" for port in found.published_udp]
        for text in _exceptions(ports, [it for it in found.interfaces if it.split("@")[0] == "lo"]):
            render.note(text)
    if nothing:
        render.say(f"{nothing}; {nothing.remedy}")
    verb = "cut" if found.mode == "enforce" else "would be cut"
    if found.ports:
        now = time.time()
        colour: output.Colour = "red" if found.mode == "enforce" else "dim"
        packets, last = Column("packets", right=True, colour=colour), Column("last", 1)
        to: list[Row] = [[it.port, number(it.packets), number(it.sources), ago(it.last, now)] for it in found.ports]
        render.print_table([f"{verb}: to", packets, Column("sources", right=True), last], to)
        whence: list[Row] = [
            [it.source, number(it.packets), ", ".join(it.ports[:_NAMED]), ago(it.last, now)] for it in found.sources
        ]
        render.print_table([f"{verb}: from", packets, Column("to", clip="end"), last], whence)
    elif found.policy == "drop" and found.interfaces:
        render.say(f"nothing {'was' if found.mode == 'enforce' else 'would have been'} cut so far")


def _answer(chosen: Options, session: Controller, limit: int) -> DefaultShow:
    from xdpguard.cli.answers.default import CutPort, CutSource, DefaultShow
    from xdpguard.cli.places import key
    from xdpguard.control.default import since
    from xdpguard.dataplane.tables import default
    from xdpguard.telemetry import counters, cuts

    its = session.default.current(remembered_policy(session, chosen).default)
    links = session.links()
    counted = [counters.read(pins(chosen), it.name, it.netns).reasons["default_deny"] for it in links]
    found = default.cuts(pins(chosen)) if links and its.policy == "drop" else []
    return DefaultShow(
        policy=its.policy,
        mode="enforce" if its.enforced else "shadow",
        strict_udp=its.strict_udp,
        set_here=session.default.override() is not None,
        since=since(session.store),
        interfaces=[key(it.name, it.netns) for it in links],
        dropped=sum(it.packets for it in counted),
        observed=sum(it.observed_packets for it in counted),
        ports=[CutPort(*it[:4], int(it.last)) for it in cuts.by_port(found)[:limit]],
        sources=[CutSource(*it[:3], list(it.ports[:limit]), int(it.last)) for it in cuts.by_source(found)[:limit]],
        published=session.guard.published(),
        published_udp=[int(it.removesuffix("/udp")) for it in _published(session, its, links) if it.endswith("/udp")],
    )


def _sentence(its: DefaultShow) -> str:
    by = ", set here" if its.set_here else ""
    if its.policy == "pass":
        return f"default: pass{by}: what no rule decides about passes"
    since = f" since {units.moment(its.since)}" if its.since else ""
    strict = ", strict for UDP" if its.strict_udp else ""
    dropped = render.counted(its.dropped, "packet")
    if its.mode == "enforce":
        return f"default: drop, enforced{strict}{by}{since}: {dropped} dropped since the attach"
    would = f"{render.counted(its.observed, 'packet')} would have been since the attach"
    return f"default: drop, in shadow{strict}{by}{since}: nothing is cut; {would}"
