# SPDX-License-Identifier: GPL-2.0
"""The command replay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from xdpguard.cli import output, places, probing, render
from xdpguard.cli.session import options
from xdpguard.errors import UsageError, XdpguardError

if TYPE_CHECKING:
    from xdpguard.capture.reader import Capture
    from xdpguard.explain.replay import Result
    from xdpguard.explain.subject import Subject
    from xdpguard.explain.tallied import Replay
    from xdpguard.explain.tally import Expected

_EXAMPLES = """
\b
Examples:
  xdpguard replay trace.pcap                                  what the attached program does with each packet
  xdpguard replay attack.pcap --config new.toml --expect-drop     as a test: exit 1 unless every packet is dropped
  xdpguard replay clients.pcapng --config new.toml --expect-pass  exit 1 if a packet is dropped
  xdpguard replay trace.pcap --config new.toml --diff         what attaching with new.toml would change
  tcpdump -i eth0 -c 1000 -w - | xdpguard replay -

Reads pcap and pcapng, gzipped or not; Ethernet, Linux cooked, raw IP and loopback captures. Packets that the capturing
host sent are left out and counted: known by pcapng flags, by the packet type of a cooked capture, or by a source
address that is the interface's (as the capture names it, or as it is attached). --direction all treats them as if they
came in. No counter, rule or map is changed, and nothing is sent. --config alone uses the rules, lists, filters, checks
and guard of the file; with --diff, entries that are not from the configuration are added, since attaching would keep
them.

The SYN guard is in its current state for all packets: a replay, however fast, neither begins nor ends a flood, uses up
no rate, and makes no source a scanner. The guard of a file is idle unless its mode is always. Limits of filters go by
the times in the capture, as if nothing had come before.
"""


def register(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command(epilog=_EXAMPLES)(replay)


def replay(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A capture; - for standard input.")],
    config: probing.Config = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="With --config: show what attaching with it would change.")
    ] = False,
    expect_drop: Annotated[bool, typer.Option("--expect-drop", help="Exit 1 unless every packet is dropped.")] = False,
    expect_pass: Annotated[bool, typer.Option("--expect-pass", help="Exit 1 if a packet is dropped.")] = False,
    direction: Annotated[
        Literal["in", "all"], typer.Option("--direction", help="Which packets to run: received ones, or all.")
    ] = "in",
    interface: places.Interface = "",
    netns: places.Netns = None,
    as_json: output.Json = False,
    _output: output.Output = "",
) -> None:
    """Run a capture through the attached program, or a policy that is not in force; no counter changes."""
    if expect_drop and expect_pass:
        raise UsageError("--expect-drop and --expect-pass cannot be combined", "give one of them")
    expected: Expected | None = "drop" if expect_drop else "pass" if expect_pass else None
    chosen = options(context)
    if diff:
        if config is None:
            raise UsageError("--diff needs a file to compare with", "name it with --config")
        with probing.compared(chosen, config, interface, netns) as (now, then):
            _replay(file, then, now, expected, direction, as_json)
        return
    with probing.asked(chosen, config, interface, netns) as subject:
        _replay(file, subject, None, expected, direction, as_json)


def _replay(
    file: str,
    judged: Subject,
    before: Subject | None,
    expected: Expected | None,
    direction: Literal["in", "all"],
    as_json: bool,
) -> None:
    from xdpguard.cli.replayed import show
    from xdpguard.explain.replay import replay as run

    with probing.capture(file, before or judged) as capture:
        result = run(capture, judged, before, expected, direction == "all")
    for text in [*judged.notes, *(before.notes if before else []), *capture.notes(), *_notes(result)]:
        render.note(text)
    if not result.packets and capture.unknown:
        raise UsageError(f"{capture.name} has no packet of a supported link type", "capture on an Ethernet interface")
    if as_json:
        render.print_json(_answer(capture, judged, before, result))
    else:
        show(capture, judged, before, result)
    if result.expectation:
        _judge(file, capture, result, judged, expected)


def _notes(result: Result) -> list[str]:
    from xdpguard.explain.tally import UNKNOWN

    found = []
    cut = int(result.tally.packets[UNKNOWN].sum())
    if result.shortened:
        found.append(
            f"the capture holds only the beginning of {render.counted(result.shortened, 'packet')}; payloads were cut"
        )
    if cut:
        found.append(f"{cut:,} of them {'is' if cut == 1 else 'are'} cut within the headers, too short for a verdict")
    return found


def _judge(file: str, capture: Capture, result: Result, judged: Subject, expected: Expected | None) -> None:
    assert result.expectation
    if not result.packets:
        if result.sent:
            raise XdpguardError(
                f"the capture has no packet to test: the capturing host sent all {result.sent.total():,}",
                "give a capture of received packets, or test these with --direction all",
            )
        raise XdpguardError("the capture has no packet to test", "give a capture with packets")
    if not result.expectation.failed:
        _check_whole(capture)
        return
    number, verdict, reason = result.expectation.first
    name = result.tally.slots.get(result.expectation.slot)
    by = f"{reason} {name}" if name else reason
    done = {"DROP": "dropped", "PASS": "passed", "TX": "answered"}[verdict] if reason != "cut" else "cut too early"
    wanted = "every packet should be dropped" if expected == "drop" else "no packet should be dropped"
    config = "" if judged.link else f" --config {judged.label}"
    saved = "a file of it" if file == "-" else file
    raise XdpguardError(
        f"packet {number:,} is {done} ({by}); {wanted}; {result.expectation.failed:,} of {result.packets:,} fail",
        f"xdpguard explain --pcap {saved} --packet {number}{config} says why",
    )


def _check_whole(capture: Capture) -> None:
    """Raise if packets were not judged, as it is unknown whether they meet the expectation."""
    skipped = capture.left_out()
    missing = [capture.fault] if capture.fault else []
    if skipped:
        missing.append(f"{render.counted(skipped, 'packet')} could not be converted to frames")
    if missing:
        raise XdpguardError(
            f"not every packet of {capture.name} was tested: {', and '.join(missing)}",
            "give a complete capture of an Ethernet interface",
        )


def _answer(capture: Capture, judged: Subject, before: Subject | None, result: Result) -> Replay:

    from msgspec import structs

    from xdpguard.capture.direction import How
    from xdpguard.explain.decision import guard_now
    from xdpguard.explain.tallied import Diff, Expected, Outgoing, Replay

    expected, difference = result.expectation, result.difference
    return Replay(
        file=capture.name,
        format=capture.format,
        fault=capture.fault or None,
        left_out=capture.left_out(),
        shortened=result.shortened,
        sent=result.sent.total(),
        direction="all" if result.every else "in",
        outgoing=Outgoing(
            left_out=0 if result.every else result.sent.total(), **{how: result.sent[how] for how in get_args(How)}
        ),
        program=judged.label,
        observe=judged.observe,
        guard=guard_now(judged),
        seconds=round(result.seconds, 6),
        **structs.asdict(result.tally.named()),
        expected=Expected(
            expected.what,
            expected.failed,
            expected.first[0] or None,
            expected.first[2] or None,
            result.tally.slots.get(expected.slot),
        )
        if expected
        else None,
        diff=Diff(program=before.label, before=result.before.named(), changes=difference.changes())
        if before and difference
        else None,
    )
