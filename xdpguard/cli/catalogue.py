# SPDX-License-Identifier: GPL-2.0
"""The commands, and the help of xdpguard as a whole, which is printed without importing typer or any of them."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

_WIDEST = 120  # columns; longer lines are hard to read
_NARROWEST = 72  # or examples have no room beside them for what they do


class Source(NamedTuple):
    """Where a command comes from: a module with ``register()``; and the first paragraph of its help."""

    module: str
    summary: str


ABOUT = "XDP packet-inspection firewall and SYN-flood guard for Linux hosts."

# Each summary is the first sentence of the command's docstring.
GROUPS: Mapping[str, Mapping[str, Source]] = {
    "Attach": {
        "attach": Source("xdpguard.cli.lifecycle", "Put the program on an interface, or swap the one that is there."),
        "detach": Source("xdpguard.cli.lifecycle", "Take the program off an interface."),
        "status": Source("xdpguard.cli.lifecycle", "Show what is attached, and how many rules are in force."),
        "doctor": Source(
            "xdpguard.cli.lifecycle",
            "Check that this machine has what xdpguard needs, and say what to do where it has not.",
        ),
    },
    "Rules and lists": {
        "block": Source("xdpguard.cli.rules", "Drop packets from sources, or to ports."),
        "unblock": Source("xdpguard.cli.rules", "Take block rules away, and shadow rules."),
        "allow": Source("xdpguard.cli.rules", "Let sources through, whatever blocks them."),
        "disallow": Source("xdpguard.cli.rules", "Take sources off the allow list."),
        "rules": Source("xdpguard.cli.rules", "Show the rules in force and what they hit."),
        "promote": Source("xdpguard.cli.promote", "Let shadow entries drop what they have only counted so far."),
        "lists": Source("xdpguard.cli.lists", "Named block lists of up to millions of entries."),
    },
    "Traffic": {
        "stats": Source(
            "xdpguard.cli.observe", "Show packets and bytes by reason, TCP flags and protocols, for each interface."
        ),
        "syns": Source("xdpguard.cli.observe", "Show who tries to connect: initial SYNs, most first."),
        "top": Source(
            "xdpguard.cli.top",
            "Watch live: packets by verdict and reason, who sends SYNs, rules, lists, the guard; block and allow by"
            " key.",
        ),
        "events": Source("xdpguard.cli.events", "Show which packets were dropped of late, and why each of them was."),
        "capture": Source(
            "xdpguard.cli.capture",
            "Write dropped packets' headers to a pcapng file, with the reason of each in its comment.",
        ),
        "tcp": Source(
            "xdpguard.cli.tcp",
            "TCP on this host: states, transitions, round-trip times, retransmissions, congestion windows.",
        ),
    },
    "Analysis": {
        "explain": Source(
            "xdpguard.cli.explain",
            "Say what becomes of a packet and what decides it, or all that is known of an address.",
        ),
        "replay": Source(
            "xdpguard.cli.replay",
            "Run a capture through the attached program, or through a policy that is not in force, and count nothing.",
        ),
        "bench": Source(
            "xdpguard.cli.bench", "Measure what this machine can do: costs of a packet, drop rates, loading times."
        ),
    },
    "SYN guard and service": {
        "guard": Source("xdpguard.cli.guard", "The SYN guard: look at it, change its policy."),
        "run": Source(
            "xdpguard.cli.guard",
            "Run as a service: attach what is recorded or named, follow it, log floods, ban sources.",
        ),
        "dashboard": Source("xdpguard.cli.dashboard", "Print a Grafana dashboard for the metrics of `run`."),
    },
}

COMMANDS = {name: source for commands in GROUPS.values() for name, source in commands.items()}

OPTIONS = {
    "--instance NAME": "Policy, maps and store to use; without it those of XDPGUARD_INSTANCE, or default.",
    "-v, --verbose": "With an error, show all that is known of it.",
    "--version": "Show the version and exit.",
    "--install-completion": "Install completion for the current shell.",
    "--show-completion": "Show completion for the current shell, to copy it or customize the installation.",
    "-h, --help": "Show this message and exit.",
}

_EXAMPLES = {
    "sudo xdpguard attach eth0": "inspect and filter what eth0 receives",
    "sudo xdpguard block 198.51.100.7 --for 10m": "drop a source for ten minutes",
    "sudo xdpguard allow 192.0.2.0/24": "let a network through, whatever else blocks it",
    "sudo xdpguard stats --watch 1": "see what passes and what is dropped, and why",
    "sudo xdpguard detach eth0": "take it off again; rules are kept",
}

_EXIT_CODES = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 something is missing here (the message names it)."


def overview() -> str:
    """Return the help of xdpguard as a whole, laid out for the terminal."""
    width = min(max(shutil.get_terminal_size().columns, _NARROWEST), _WIDEST)
    lines = ["Usage: xdpguard [OPTIONS] COMMAND [ARGS]...", "", *textwrap.wrap(ABOUT, width), "", "Options:"]
    lines += _columns(OPTIONS, OPTIONS, width)
    for group, commands in GROUPS.items():
        lines += ["", f"{group}:", *_columns({name: its.summary for name, its in commands.items()}, COMMANDS, width)]
    lines += ["", "Examples:", *_columns(_EXAMPLES, _EXAMPLES, width), "", *textwrap.wrap(_EXIT_CODES, width)]
    return "\n".join([*lines, "", "xdpguard COMMAND --help explains a command, with examples."]) + "\n"


def _columns(rows: Mapping[str, str], like: Iterable[str], width: int) -> Iterator[str]:
    """Lay out names and what they mean. ``like``: the names whose column is shared, the longest of which sets it."""
    column = max(map(len, like)) + 4
    for name, meaning in rows.items():
        yield from textwrap.wrap(
            meaning,
            width,
            initial_indent=f"  {name}".ljust(column),
            subsequent_indent=" " * column,
            break_on_hyphens=False,
        )
