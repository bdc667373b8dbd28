# SPDX-License-Identifier: GPL-2.0
"""The commands guard show and guard set."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xdpguard.cli import output, render, undoing
from xdpguard.cli.columns import Column
from xdpguard.cli.session import Options, controller, options, pins, remembered_policy
from xdpguard.net.netns import place_of

if TYPE_CHECKING:
    from xdpguard.cli.answers.state import Guarded
    from xdpguard.control.controller import Controller
    from xdpguard.net.links import Link
    from xdpguard.policy.model import Guard


_SET_EXAMPLES = """
\b
Examples:
  xdpguard guard set mode auto               with or without the sign =
  xdpguard guard set mode=always             answer every SYN with a cookie (needs net.ipv4.tcp_syncookies=2)
  xdpguard guard set mode=observe            count what it would do, and do nothing
  xdpguard guard set flood_rate=50000 hold=3s
  xdpguard guard set exempt_ports=8080,8443  leave these TCP ports alone
  xdpguard guard set mode=default            remove the override
  xdpguard guard set syn_rate=10 --confirm 60s

A change takes effect at once on every interface of the instance, and is kept; no program is attached again.
"""

_SHOW_EXAMPLES = """
\b
Examples:
  xdpguard guard show
  xdpguard guard show --json | jq .interfaces
"""

guard_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Show the SYN guard, and change its policy.")


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    guard_app.command(epilog=_SHOW_EXAMPLES)(show)
    guard_app.command("set", epilog=_SET_EXAMPLES)(change)
    app.add_typer(guard_app, name="guard")


def show(context: typer.Context, as_json: output.Json = False, _output: output.Output = "") -> None:
    """Show the SYN guard's policy, and its current state on each interface."""
    import msgspec

    from xdpguard.cli.answers.state import GuardShow
    from xdpguard.control.presence import nothing_attached
    from xdpguard.policy import forgeable

    chosen = options(context)
    with controller(chosen, read_only=True) as session:
        policy = session.guard.effective(remembered_policy(session, chosen).guard)
        overrides = session.guard.overrides()
        raised = session.sysctls.held()
        interfaces = _interfaces(chosen, session, policy)
        published = session.guard.published()
        nothing = None if interfaces else nothing_attached(session.store)
    if as_json:
        render.print_json(GuardShow(policy, overrides, interfaces, raised, published))
        return
    values = msgspec.structs.asdict(policy)
    rows = [[key, _text(value), "set here" if key in overrides else ""] for key, value in values.items()]
    render.print_table(["policy", Column("value", clip="end"), "set"], rows)
    if published:
        render.say(f"exempted automatically, because NAT redirects their connections: {', '.join(map(str, published))}")
    if nothing:
        render.say(f"{nothing}; {nothing.remedy}")
    for name, it in interfaces.items():
        render.say(f"{name}: {_sentence(it)}", "red" if it.active and it.mode != "always" else "")
        if it.passed:
            render.say(f"  segments without a socket pass: {', '.join(it.passed)}")
        for note in it.notes:
            render.say(f"  {note}")
        if not it.answers.arrive:
            render.say(f"  {it.answers.remedy}")
        sent = render.counted(it.counters.cookie_sent, "cookie")
        unknown, over = render.counted(it.counters.ack_unknown, "segment"), render.counted(it.counters.syn_rate, "SYN")
        render.say(
            f"  {sent} sent, {it.counters.cookies_valid:,} came back valid, {it.counters.cookie_bad:,} not;"
            f" {unknown} of no connection; {over} over a rate"
        )
    for text in forgeable.warnings(policy):
        render.note(text)
    for netns, its in raised.items():
        for key, (before, now) in its.items():
            render.say(f"{key} is {now}{f' in {netns}' if netns else ''}, raised by run (was {before})")


def change(
    context: typer.Context,
    values: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help="What to change; see guard show.")],
    force: Annotated[bool, typer.Option("--force", help="Even if hardly any new login could get in.")] = False,
    confirm: undoing.Confirm = "",
) -> None:
    """Change the SYN guard's policy, with immediate effect."""
    from xdpguard.control import guard, needs, starving
    from xdpguard.control.answering import Reach, in_words
    from xdpguard.policy import forgeable

    chosen = options(context)
    changes = guard.parse(values)
    with controller(chosen, command=undoing.of_command(context, confirm)) as session:
        configured = remembered_policy(session, chosen).guard
        links = session.links()
        if not force and not confirm:
            before, after = session.guard.effective(configured), session.guard.with_overrides(changes, configured)
            starving.check(after, before, needs.ssh_ports(session.store))
        policy, changed = session.guard.set(changes, configured, links)
        failing = list(Reach(pins(chosen), links).failing(session.interfaces()))
    for key in changes:
        render.say(f"{key} = {_text(getattr(policy, key))}")
    silent = [f"{place_of(it.name, it.netns)}: the guard {in_words(*its[:2])}; {its.remedy}" for it, its in failing]
    doubts = _doubts(policy, {link.netns for link in links})
    for text in [*changed, *doubts, *forgeable.warnings(policy), *silent]:
        render.note(text)


def _doubts(policy: Guard, namespaces: set[str]) -> list[str]:
    """Return what keeps the policy from working as written."""
    from xdpguard.control.guard import answers
    from xdpguard.net import sysctl

    if not answers(policy.mode):
        return []
    found = []
    for netns in sorted(namespaces):
        value = sysctl.read("net.ipv4.tcp_syncookies", netns)
        if value == "0" or (value == "1" and policy.mode == "always"):
            remedy = "xdpguard run raises it while it is needed; or sysctl -w net.ipv4.tcp_syncookies=2"
            what = "no cookie can be sent" if value == "0" else "cookies are sent only while a listener's queue is full"
            found.append(f"net.ipv4.tcp_syncookies is {value}{f' in {netns}' if netns else ''}: {what}; {remedy}")
    return found


def _interfaces(chosen: Options, session: Controller, policy: Guard) -> dict[str, Guarded]:
    from xdpguard.cli.answers.state import Answers, GuardCounters, Guarded
    from xdpguard.cli.places import key
    from xdpguard.control.answering import Reach
    from xdpguard.dataplane.tables import guard
    from xdpguard.telemetry import counters

    found = {}
    links = {(link.name, link.netns): link for link in session.links()}
    reach = Reach(pins(chosen), links.values())
    for it in session.interfaces():
        link, answers = links.get((it.name, it.netns)), Answers.of(reach, it.name, it.netns)
        if link is None or answers is None or it.state != "attached":
            continue
        state = guard.read(pins(chosen), it.name, it.netns)
        counted = counters.read(pins(chosen), it.name, it.netns)
        active = policy.mode != "off" and state.active()
        passed, notes = _around(link, policy)
        done = {
            name: counted.reasons[name].packets + counted.reasons[name].observed_packets
            for name in ("cookie_sent", "cookie_bad", "ack_unknown", "syn_rate")
        }
        found[key(it.name, it.netns)] = Guarded(
            netns=it.netns,
            mode=policy.mode,
            active=active,
            floods=state.floods,
            cause=guard.CAUSES[state.cause],
            port=state.port,
            seconds=(time.monotonic_ns() - state.began) / 1e9 if active and state.began else 0.0,
            translated=bool(state.pass_unknown),
            passed=passed,
            notes=notes,
            observe=it.observe,
            answers=answers,
            counters=GuardCounters(cookies_valid=counted.cookies_valid, **done),
        )
    return found


def _around(link: Link, policy: Guard) -> tuple[list[str], list[str]]:
    """Return why segments without a socket pass on an interface, and what the guard does not know there."""
    from xdpguard.control.surroundings import others
    from xdpguard.net import around

    seen = around.read(link.ifindex, link.netns)
    return others(policy, link, seen), list(seen.notes)


def _sentence(it: Guarded) -> str:
    from xdpguard.control.answering import in_words

    answers = it.answers
    if it.mode == "off":
        return "the guard is off" + ("" if answers.arrive else f", and could not answer: {answers.why}")
    if it.mode == "always":
        words = "every SYN is answered with a cookie"
        if it.observe:
            words = "every SYN would be answered with a cookie, but is only observed"
        elif not answers.arrive:
            return in_words(answers.muted, answers.why)
    elif it.active:
        acts = "would act" if it.mode == "observe" or it.observe else "active"
        words = f"{acts} for {it.seconds:.0f} s: {it.cause}, port {it.port}"
    else:
        before = f"; floods so far: {it.floods}" if it.floods else ""
        words = f"idle, watching{before}"
    return words if answers.arrive else f"{words}; the guard {in_words(answers.muted, answers.why)}"


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
