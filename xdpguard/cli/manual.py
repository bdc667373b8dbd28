# SPDX-License-Identifier: GPL-2.0
"""Manual pages, written from what the command line and the topics say of themselves, when a package is built.

``python -m xdpguard.cli.manual DIRECTORY`` writes man1/xdpguard.1, man1/xdpguard-COMMAND.1 and man7/xdpguard-TOPIC.7.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from xdpguard import __version__
from xdpguard.cli import catalogue, topics
from xdpguard.cli.commands import every
from xdpguard.cli.helped import columns
from xdpguard.cli.roff import END, EXAMPLE, escaped, from_markdown, text_of
from xdpguard.cli.root import app

_ROOM = 72  # columns of rows; man indents them by 11
_FILES = {
    "/etc/xdpguard/default.toml": "The configuration; NAME.toml of instance NAME. See xdpguard-configuration(7).",
    "/var/lib/xdpguard": "Rules, lists, filters, and what is attached.",
    "/var/cache/xdpguard": "Compiled programs; may be removed at any time.",
    "/sys/fs/bpf/xdpguard": "Maps and programs in force.",
}


def main() -> None:
    """Write the pages into the directory that is given."""
    for name, text in pages():
        path = Path(sys.argv[1]) / f"man{name[-1]}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def pages() -> Iterator[tuple[str, str]]:
    """Yield the file name of each page, and the page."""
    root: Any = typer.main.get_command(app)
    yield "xdpguard.1", _page("xdpguard", 1, catalogue.ABOUT, _overview())
    for name, command in every(root):
        if not command.hidden:
            yield f"xdpguard-{name}.1", _page(f"xdpguard-{name}", 1, command.short_help, _command(name, command))
    for name, about in topics.topics().items():
        body = from_markdown(topics.text(name))
        yield f"xdpguard-{name}.7", _page(f"xdpguard-{name}", 7, about, body)


def _page(name: str, section: int, about: str, body: list[str]) -> str:
    lines = [
        f'.TH {name.upper()} {section} "" "xdpguard {__version__}" "xdpguard"',
        ".nh\n.ad l",  # words of a command line are neither cut nor spread
        ".SH NAME",
        f"{escaped(name)} \\- {escaped(about.rstrip('.'))}",
        *body,
        *_see_also(name, section),
    ]
    return "\n".join(lines) + "\n"


def _see_also(name: str, section: int) -> Iterator[str]:
    """Name the first page, and the topics that tell of a command; of the first page and of topics, the other topics."""
    yield ".SH SEE ALSO"
    word = name.removeprefix("xdpguard-")
    of_command = section == 1 and word != "xdpguard"
    told = [it for it in topics.names() if not of_command or f"xdpguard {word}" in topics.text(it)]
    others = [] if word == "xdpguard" else [("xdpguard", 1)]
    others += [(name, 1)] if section == 7 and word in catalogue.COMMANDS else []
    others += [(f"xdpguard-{it}", 7) for it in told if (section, it) != (7, word)]
    yield ",\n".join(f"\\fB{escaped(page)}\\fR({number})" for page, number in others)


def _overview() -> list[str]:
    lines = [".SH SYNOPSIS", "\\fBxdpguard\\fR [\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]", ".SH OPTIONS"]
    lines += [line for name, its in catalogue.OPTIONS.items() for line in _entry(name, its)]
    for group, commands in catalogue.GROUPS.items():
        lines.append(f".SH {escaped(group.upper())}")
        for name, its in commands.items():
            lines += [".TP", f"\\fBxdpguard\\-{escaped(name)}\\fR(1)", text_of(its.summary)]
    lines.append(".SH FILES")
    lines += [line for name, its in _FILES.items() for line in _entry(name, its)]
    return [*lines, ".SH EXIT STATUS", text_of(catalogue.EXIT_CODES)]


def _command(name: str, command: Any) -> list[str]:
    """The sections of a command; of a group, one with a part for each of its commands."""
    made = _synopses(name, command)
    lines = [".SH SYNOPSIS", "\n.br\n".join(made), ".SH DESCRIPTION", *_description(command)]
    below = [(f"{name} {its}", found) for its, found in every(command)] if hasattr(command, "commands") else []
    if not below:
        return [*lines, *_parts(name, command, ".SH")]
    lines += _parts(name, command, ".SH")
    for its, found in below:
        if not found.hidden:
            lines += [f".SH {escaped(its.upper())}", *_description(found), *_parts(its, found, ".SS")]
    return lines


def _context(name: str, command: Any) -> Any:
    return command.make_context(f"xdpguard {name}", [], resilient_parsing=True, help_option_names=["-h", "--help"])


def _synopses(name: str, command: Any) -> list[str]:
    if hasattr(command, "commands"):
        found = [(f"{name} {its}", below) for its, below in every(command) if not below.hidden]
        return [line for its, below in found for line in _synopses(its, below)]
    pieces = " ".join(command.collect_usage_pieces(_context(name, command)))
    return [f"\\fBxdpguard {escaped(name)}\\fR {escaped(pieces)}"]


def _description(command: Any) -> list[str]:
    lines = []
    for paragraph in _paragraphs(command.help):
        first, _, rest = paragraph.partition("\n")
        rows = rest.startswith("  ")
        lines += [".PP", text_of(first if rows else paragraph), *(_rows(rest) if rows else ())]
    return lines


def _rows(text: str) -> list[str]:
    """Examples or definitions, in columns as in the help."""
    laid_out = "\n".join(columns([it.strip() for it in text.split("\n")], _ROOM))
    return [EXAMPLE, escaped(textwrap.dedent(laid_out)), END]


def _parts(name: str, command: Any, heading: str) -> list[str]:
    """Arguments, options, and what follows them in the help: examples, and the rest."""
    records: dict[str, list[tuple[str, str]]] = {"argument": [], "option": []}
    for parameter in command.get_params(_context(name, command)):
        record = parameter.get_help_record(_context(name, command))
        if record and parameter.name != "help":
            records[parameter.param_type_name].append(record)
    lines = []
    for kind, found in records.items():
        if found:
            lines.append(f"{heading} {kind.upper()}S")
            lines += [line for words, its in found for line in _entry(words, its)]
    notes = []
    for paragraph in _paragraphs(command.epilog):
        first, _, rest = paragraph.partition("\n")
        if rest.startswith("  ") and first.endswith(":"):
            lines += [f"{heading} {escaped(first.rstrip(':').upper())}", *_rows(rest)]
        else:
            notes += [".PP", text_of(paragraph)]
    return [*lines, *([f"{heading} NOTES", *notes] if notes else [])]


def _paragraphs(text: str | None) -> list[str]:
    """The paragraphs of a help, without the signs that keep click from filling them."""
    cleaned = inspect.cleandoc((text or "").replace("\b\n", "\n"))
    return [it.strip("\n") for it in re.split(r"\n\s*\n", cleaned) if it.strip()]


def _entry(name: str, meaning: str) -> list[str]:
    return [".TP", f"\\fB{escaped(name)}\\fR", text_of(meaning)]


if __name__ == "__main__":
    main()
