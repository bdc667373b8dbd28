# SPDX-License-Identifier: GPL-2.0
"""Commands are loaded one by one, and what the tables say of them without loading is what they say themselves."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.main import get_command

from xdpguard.cli import catalogue
from xdpguard.cli.commands import LazyGroup, every
from xdpguard.cli.root import app

ROOT: Any = get_command(app)
# Every group whose commands are loaded one by one, by its package.
GROUPS = {"xdpguard.cli": ROOT, "xdpguard.cli.tcp": ROOT.load("tcp"), "xdpguard.cli.bridge": ROOT.load("bridge")}


@pytest.mark.parametrize(("package", "group"), GROUPS.items(), ids=GROUPS)
def test_the_table_names_every_command_that_a_module_registers(package: str, group: LazyGroup) -> None:
    found: dict[str, str] = {}
    for it in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        if it.name.endswith("__main__"):
            continue
        module = importlib.import_module(it.name)
        if hasattr(module, "register"):
            part = typer.Typer(add_completion=False)
            part.callback()(lambda: None)
            module.register(part)
            registered: Any = get_command(part)
            found |= dict.fromkeys(registered.commands, it.name)
    assert found == {name: source.module for name, source in group.table.items()}


@pytest.mark.parametrize(("package", "group"), GROUPS.items(), ids=GROUPS)
def test_summaries_are_those_of_the_commands(package: str, group: LazyGroup) -> None:
    for name, command in every(group):
        assert command.name == name, package
        for width in (30, 45, 60, 100, 200):
            assert group.commands[name].get_short_help_str(width) == command.get_short_help_str(width), name


def below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """A command and those below it, with their whole names."""
    if not command.hidden:
        yield name, command
        for its, found in every(command) if hasattr(command, "commands") else ():
            yield from below(f"{name} {its}", found)


EVERY = dict(it for name, command in every(ROOT) for it in below(name, command))


@pytest.mark.parametrize("name", EVERY)
def test_each_has_examples_and_leaves_nothing_of_a_description_out(name: str) -> None:
    command = EVERY[name]
    assert re.search(r"^Examples:\n  .*xdpguard ", command.epilog or "", re.MULTILINE)
    text = command.make_context(f"xdpguard {name}", [], resilient_parsing=True).get_help()
    for its in getattr(command, "commands", {}).values():
        assert its.hidden or its.get_short_help_str(10_000) in " ".join(text.split())


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("name", EVERY)
def test_the_help_of_each_fits_the_terminal(name: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only an example, which is there to be copied, may be wider, and then what it means stands below it."""
    monkeypatch.setenv("COLUMNS", str(columns))
    context = EVERY[name].make_context(f"xdpguard {name}", [], resilient_parsing=True, max_content_width=120)
    text = context.get_help()
    assert "\b" not in text
    for line in text.splitlines():
        assert len(line) <= columns or re.fullmatch(r"    \S+( \S+)*", line), line
        if len(line) > columns:
            assert EXAMPLE.match(line), line


EXAMPLE = re.compile(r"    (\S+ [|>] )?(xdpguard|process|neighbor|gobgp) ")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs xdpguard in a process of its own, which tells on standard error which of its command's modules it loaded."""
    code = (
        "import sys\nfrom xdpguard.cli.app import run\n"
        f"code = run({list(arguments)!r})\n"
        "print('loaded:', *sorted(it for it in sys.modules if it.startswith('xdpguard.cli.')), file=sys.stderr)\n"
        "sys.exit(code)"
    )
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ | environment
    )


LIGHT = {"app", "catalogue", "commands", "output", "render", "root", "session"}


def loaded(done: subprocess.CompletedProcess[str]) -> set[str]:
    line = done.stderr.splitlines()[-1]
    assert line.startswith("loaded:"), done
    return {it.removeprefix("xdpguard.cli.") for it in line.split()[1:]}


def test_help_loads_no_command() -> None:
    done = run("--help")
    assert "block " in done.stdout
    assert loaded(done) == {"app", "catalogue", "topics"}


def test_help_among_other_options_is_the_same() -> None:
    assert run("--verbose", "--help").stdout == run("-h").stdout


def test_help_names_the_options_that_there_are() -> None:
    context = ROOT.make_context("xdpguard", ["status"])
    found = [it.get_help_record(context) for it in ROOT.get_params(context)]
    assert [names for names, _ in found] == list(catalogue.OPTIONS)
    for (_, words), said in zip(found, catalogue.OPTIONS.values(), strict=True):
        assert words.startswith(said)


@pytest.mark.parametrize("columns", [80, 120])
def test_help_fits_the_terminal_and_leaves_nothing_out(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    text = catalogue.overview()
    assert max(map(len, text.splitlines())) <= columns
    words = " ".join(text.split())
    summaries = (its.summary for its in catalogue.COMMANDS.values())
    for said in (*catalogue.GROUPS, *catalogue.OPTIONS, *catalogue.OPTIONS.values(), *catalogue.COMMANDS, *summaries):
        assert said in words
    assert "sudo xdpguard attach eth0" in words


def test_a_command_loads_its_own_module_alone() -> None:
    done = run("dashboard", "--help")
    assert "--alerts" in done.stdout
    assert loaded(done) == LIGHT | {"dashboard", "helped"}


def test_an_unknown_command_loads_none_and_others_are_named() -> None:
    done = run("bloc")
    assert done.returncode == 2
    assert "did you mean 'block', 'unblock'?" in done.stderr
    assert loaded(done) == LIGHT | {"usage", "elsewhere", "topics"}


@pytest.mark.parametrize(
    ("words", "offered"), [("un", ["unblock", "undo"]), ("tcp r", ["rtt", "retrans"]), ("dashboard --a", ["--alerts"])]
)
def test_completion(words: str, offered: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "xdpguard.cli"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ
        | {
            "_XDPGUARD_COMPLETE": "complete_bash",
            "COMP_WORDS": f"xdpguard {words}",
            "COMP_CWORD": str(len(words.split())),
        },
    )
    assert done.stdout.split() == offered


@pytest.mark.parametrize("name", ["fleet", "bridge"])
def test_summaries_are_not_clipped_at_80_columns(name: str) -> None:
    shown = run(name, "--help", COLUMNS="80")
    assert shown.returncode == 0, shown
    lines = shown.stdout.partition("\nCommands:\n")[2].split("\n\n")[0].splitlines()
    assert len(lines) >= 5
    assert [line for line in lines if not line.endswith(".") or line.endswith("...")] == []
