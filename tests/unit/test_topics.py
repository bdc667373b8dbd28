# SPDX-License-Identifier: GPL-2.0
"""README, topics and manual pages: every command in them is one, references lead somewhere, all of it is shown."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.terminal import Terminal
from typer.main import get_command

from xdpguard.cli import catalogue, manual, roff, topics
from xdpguard.cli.app import run
from xdpguard.cli.commands import every
from xdpguard.cli.root import app
from xdpguard.policy.model import Policy

ROOT: Any = get_command(app)
README = Path(__file__).parents[2] / "README.md"
TEXTS = {"README": README.read_text("utf-8"), **{name: topics.text(name) for name in topics.names()}}
_COMMAND = re.compile(r"(?:^|^\$ |sudo |[|&;(] ?|sh -c ')xdpguard (?!\w+:)")
ENDS = ("|", "<", ">", "&&", ";", "||", "#")  # of a command, in a shell


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of each xdpguard in a block of code, and in code within a sentence that begins with it."""
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines += [it.replace("\n", " ") for it in re.findall(r"`([^`]+)`", prose) if it.startswith("xdpguard ")]
    for line in lines:
        for found in _COMMAND.finditer(line):
            words = shlex.shlex(line[found.end() :], posix=True, punctuation_chars="|<>&;")
            words.whitespace_split = True
            arguments: list[str] = []
            try:
                for word in words:
                    if word in ENDS:
                        break
                    arguments.append(word)
            except ValueError:  # a quotation that began before the command
                arguments = line[found.end() :].rstrip("'\"").split()
            yield [it for it in arguments if it != "..."]


def parsed(arguments: list[str]) -> None:
    """Parses arguments as the command line does, and runs nothing."""
    if {"--help", "--version", "--install-completion"} & set(arguments):  # these are done while parsing
        return
    context = ROOT.make_context("xdpguard", list(arguments), resilient_parsing=False, obj="")
    command, rest = ROOT, [*context._protected_args, *context.args]
    while hasattr(command, "commands"):
        assert rest, arguments
        name, command, rest = command.resolve_command(context, rest)
        if {"-h", "--help"} & set(rest) or (hasattr(command, "commands") and not rest):
            return
        context = command.make_context(name, rest, parent=context)
        rest = [*context._protected_args, *context.args]


@pytest.mark.parametrize("name", TEXTS)
def test_every_command_is_one(name: str) -> None:
    said = [it for it in commands(TEXTS[name]) if it and not it[0].isupper()]
    for arguments in said:
        if arguments[0] == "help":
            assert arguments[1:] == ["TOPIC"] or set(arguments[1:]) <= {*topics.names(), *catalogue.COMMANDS}, arguments
        elif len(arguments) == 1 and not arguments[0].startswith("-"):  # a command as such
            assert arguments[0] in catalogue.COMMANDS
        else:
            parsed(arguments)


def test_commands_are_found() -> None:
    """Show that a wrong option would be seen."""
    assert ["block", "198.51.100.7", "--for", "10m", "--reason", "ssh brute force"] in list(commands(TEXTS["README"]))
    with pytest.raises(Exception, match="--fro"):
        parsed(["block", "198.51.100.7", "--fro", "10m"])


def test_the_readme_is_short_and_names_files_that_exist() -> None:
    lines = TEXTS["README"].splitlines()
    assert len(lines) <= 200
    for link in re.findall(r"\]\(([^)#]+)", TEXTS["README"]):
        assert (README.parent / link).exists(), link


@pytest.mark.parametrize("name", topics.names())
def test_a_topic_has_a_title_that_fits_a_line(name: str) -> None:
    first, second, *_ = topics.text(name).splitlines()
    assert first.startswith(f"# {name}: ")
    assert len(first) <= 76
    assert second == ""


def test_the_configuration_topic_names_every_key_with_its_default() -> None:
    text = re.findall(r"^```toml\n(.*?)^```", topics.text("configuration"), re.MULTILINE | re.DOTALL)[0]
    for name in msgspec.structs.fields(Policy):
        if name.name not in ("filters", "lists", "bridges", "attach"):
            for key in msgspec.structs.fields(type(name.default_factory())):
                assert re.search(rf"^(# )?{key.name} = |^\[{name.name}\.{key.name}\]", text, re.MULTILINE), key.name


def test_a_pipe_gets_the_whole_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["help", "guard"]) == 0
    assert capsys.readouterr().out == topics.text("guard")


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_terminal_gets_it_laid_out(columns: int) -> None:
    with Terminal([sys.executable, "-m", "xdpguard.cli", "help", "safety"], os.environ, columns, 200) as terminal:
        terminal.end()
        text = terminal.text()
    lines = [line.rstrip() for line in text.splitlines()]
    assert "never locked out" in text
    assert "What counts as needed" in lines
    assert "```" not in text and "**" not in text and "##" not in text
    words = " ".join(text.split())
    assert "What was blocked with --force stays blocked, also for run." in words


PAGES = dict(manual.pages())


def test_there_is_a_page_for_every_command_and_topic() -> None:
    names = {f"xdpguard-{name}.1" for name, command in every(ROOT) if not command.hidden}
    assert set(PAGES) == {"xdpguard.1"} | names | {f"xdpguard-{name}.7" for name in topics.names()}


@pytest.mark.skipif(shutil.which("groff") is None, reason="no groff")
def test_pages_render_without_a_warning() -> None:
    """All at once, as a process for each would take long."""
    text = "".join(PAGES.values()).encode()
    done = subprocess.run(["groff", "-ww", "-man", "-Tutf8", "-Kutf8"], input=text, capture_output=True, check=True)
    assert done.stderr == b""
    assert re.sub(b".\b", b"", done.stdout).count(b"SEE ALSO") == len(PAGES)


def test_pages_say_what_help_says() -> None:
    page = PAGES["xdpguard-lists.1"]
    assert ".SH LISTS LOAD" in page
    assert "\\fB\\-\\-prefix\\-column COLUMN|none\\fR" in page
    assert "xdpguard lists load firehol firehol_level1.netset" in page
    assert "\\fBxdpguard\\-lists\\fR(7)" in page


def test_roff_takes_nothing_for_a_request_of_its_own() -> None:
    lines = roff.from_markdown(
        "# x: y\n\n`a`\n.b 'c'\n\n- d\n- e-f\n\n1. g\n2. h\n\n| i | j |\n|---|---|\n| k | l\\m |\n"
    )
    assert lines == [
        ".SH DESCRIPTION",
        ".PP\n\\fBa\\fR\n\\&.b \\(aqc\\(aq",
        ".IP \\(bu 2\nd",
        ".IP \\(bu 2\ne\\-f",
        ".IP 1. 4\ng",
        ".IP 2. 4\nh",
        ".TP\n\\fBk\\fR",
        "l\\em",
    ]
