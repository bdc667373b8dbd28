# SPDX-License-Identifier: GPL-2.0
"""The commands, and the help of xdpguard as a whole, which is printed without importing typer or any of them."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

WIDEST = 120  # columns; longer lines are hard to read
_NARROWEST = 72  # or examples have no room beside them for what they do
COMPLETES = "_XDPGUARD_COMPLETE"  # set by the scripts that typer writes: what a shell asks for


class Source(NamedTuple):
    """Where a command comes from: a module with ``register()``; and the first paragraph of its help."""

    module: str
    summary: str


ABOUT = "XDP packet-inspection firewall and SYN-flood guard for Linux hosts."

# Each summary is the first sentence of the command's docstring.
GROUPS: Mapping[str, Mapping[str, Source]] = {
    "Attach": {
        "attach": Source("xdpguard.cli.lifecycle", "Attach the program to an interface, or swap the one attached."),
        "detach": Source("xdpguard.cli.lifecycle", "Detach the program from an interface."),
        "status": Source("xdpguard.cli.status", "Show what is attached, and how many rules are in force."),
    },
    "Rules": {
        "block": Source("xdpguard.cli.rules", "Drop packets from sources, or to ports."),
        "unblock": Source("xdpguard.cli.rules", "Remove block rules, closed ports and shadow rules."),
        "allow": Source("xdpguard.cli.rules", "Let sources through, overriding every block."),
        "disallow": Source("xdpguard.cli.rules", "Remove sources from the allow list."),
        "rules": Source("xdpguard.cli.listing", "Show the stored rules, whether they are in force, and what they hit."),
        "import": Source(
            "xdpguard.cli.listing", "Add the rules of an exported file, with their reasons, origins and ends."
        ),
        "lists": Source("xdpguard.cli.lists", "Load, show and remove named block lists of up to millions of entries."),
        "filter": Source(
            "xdpguard.cli.filters",
            "Match packets by address, port, flags, length and more: drop, limit, pass or count them.",
        ),
        "default": Source(
            "xdpguard.cli.default",
            "Choose what becomes of packets that no rule decides about and that belong to nothing on this host.",
        ),
        "promote": Source("xdpguard.cli.promote", "Enforce shadow entries: drop what they have only counted so far."),
        "confirm": Source("xdpguard.cli.confirm", "Keep the change made with --confirm, which is undone otherwise."),
        "undo": Source("xdpguard.cli.confirm", "Undo the last change; again, the one before it."),
    },
    "Look": {
        "stats": Source(
            "xdpguard.cli.observe", "Show packets and bytes by reason, TCP flags and protocols, for each interface."
        ),
        "top": Source(
            "xdpguard.cli.top",
            "Watch live: packets by verdict and reason, who sends SYNs, rules, lists, the guard; block and allow by"
            " key.",
        ),
        "syns": Source("xdpguard.cli.observe", "Show who tries to connect: initial SYNs, the most frequent first."),
        "events": Source("xdpguard.cli.events", "Show recently dropped packets, and why each was dropped."),
        "capture": Source(
            "xdpguard.cli.capture",
            "Write headers of dropped packets to a pcapng file, the reason in each packet's comment.",
        ),
        "explain": Source(
            "xdpguard.cli.explain",
            "Show what happens to a packet and what decides it, or all that is known about an address, a prefix, a"
            " port.",
        ),
        "replay": Source(
            "xdpguard.cli.replay",
            "Run a capture through the attached program, or a policy that is not in force; no counter changes.",
        ),
    },
    "TCP": {
        "tcp": Source(
            "xdpguard.cli.tcp",
            "TCP on this host: states, transitions, round-trip times, retransmissions, congestion windows.",
        ),
    },
    "Guard and service": {
        "guard": Source("xdpguard.cli.guard", "Show the SYN guard, and change its policy."),
        "run": Source(
            "xdpguard.cli.run",
            "Run as a service: attach recorded and named interfaces, follow them, log floods, ban sources.",
        ),
        "config": Source("xdpguard.cli.config", "Check a configuration file."),
        "bridge": Source(
            "xdpguard.cli.bridge",
            "Put in force what other systems decide: services, one for each system, each with an origin of its own.",
        ),
        "fleet": Source("xdpguard.cli.fleet", "Share entries with other hosts through a NATS server."),
        "dashboard": Source("xdpguard.cli.dashboard", "Print a Grafana dashboard for the metrics of `run`."),
    },
    "This machine": {
        "doctor": Source(
            "xdpguard.cli.status",
            "Check that this machine has what xdpguard needs, and say how to get what it lacks.",
        ),
        "recover": Source(
            "xdpguard.cli.recover",
            "Rebuild a lost or damaged rule store from what the kernel holds and the last good copy.",
        ),
        "bench": Source("xdpguard.cli.bench", "Measure this machine: cost per packet, drop rates, loading times."),
        "help": Source("xdpguard.cli.help", "Explain a topic or a command; without either, list them."),
    },
}

COMMANDS = {name: source for commands in GROUPS.values() for name, source in commands.items()}

OPTIONS = {
    "--instance NAME": "Policy, maps and store to use; without it those of XDPGUARD_INSTANCE, or default.",
    "-v, --verbose": "Show all details of an error.",
    "--color WHEN": "auto (default: colours on a terminal, unless NO_COLOR is set), always or never.",
    "--version": "Show the version and exit.",
    "--install-completion": "Install completion for the current shell.",
    "--show-completion": "Show completion for the current shell, to copy it or customize the installation.",
    "-h, --help": "Show this message and exit.",
}

_EXAMPLES = {
    "sudo xdpguard attach eth0": "inspect and filter what eth0 receives",
    "sudo xdpguard block 198.51.100.7 --for 10m": "block a source for ten minutes",
    "sudo xdpguard allow 192.0.2.0/24": "let a network through, overriding every block",
    "sudo xdpguard stats --watch 1": "show what passes, what is dropped, and why",
    "sudo xdpguard detach eth0": "detach the program; rules are kept",
}

EXIT_CODES = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the environment lacks something (the message names it)."


def help_width() -> int:
    """Return how many columns a help takes."""
    return min(max(shutil.get_terminal_size().columns, _NARROWEST), WIDEST)


def overview() -> str:
    """Return the help of xdpguard as a whole, laid out for the terminal."""
    from xdpguard.cli.topics import names

    width = help_width()
    lines = ["Usage: xdpguard [OPTIONS] COMMAND [ARGS]...", "", *textwrap.wrap(ABOUT, width), "", "Options:"]
    lines += _columns(OPTIONS, OPTIONS, width)
    for group, commands in GROUPS.items():
        lines += ["", f"{group}:", *_columns({name: its.summary for name, its in commands.items()}, COMMANDS, width)]
    lines += ["", "Examples:", *_columns(_EXAMPLES, _EXAMPLES, width), "", *textwrap.wrap(EXIT_CODES, width)]
    more = f"xdpguard COMMAND --help explains a command, with examples; xdpguard help TOPIC: {', '.join(names())}."
    return "\n".join([*lines, "", *textwrap.wrap(more, width)]) + "\n"


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
