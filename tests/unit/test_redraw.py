# SPDX-License-Identifier: GPL-2.0
"""What is repeated replaces itself on a terminal, and follows itself in a pipe."""

from __future__ import annotations

import os
import subprocess
import sys

from support.terminal import Terminal

SCRIPT = """
import sys, typer
from xdpguard.cli.redraw import Redraw
screen = Redraw()
for number, rows in enumerate(map(int, sys.argv[1:])):
    with screen.frame():
        typer.echo(f"round {number}, a line that is longer" if not number else f"round {number}")
        typer.echo("a note", err=True)
        for row in range(rows):
            typer.echo(f"row {row} of round {number}")
print("end")
"""


def command(*rows: int) -> list[str]:
    return [sys.executable, "-c", SCRIPT, *map(str, rows)]


def test_frames_replace_each_other_whatever_their_length() -> None:
    with Terminal(command(5, 2, 3), os.environ | {"TERM": "xterm"}) as terminal:
        terminal.sees("end")
        lines = [line.rstrip() for line in terminal.text().splitlines()]
        wanted = ["round 2", "a note", "row 0 of round 2", "row 1 of round 2", "row 2 of round 2", "end"]
        assert [line for line in lines if line] == wanted
        assert "row 4 of round 0" in terminal.output, "positive control: the first one was drawn"
        assert "?1049" not in terminal.output, "the terminal stays as it is"


def test_lines_that_take_two_rows_of_the_terminal_are_counted_as_two() -> None:
    with Terminal(command(2, 1), os.environ | {"TERM": "xterm"}, columns=12) as terminal:
        terminal.sees("end")
        lines = [line.rstrip() for line in terminal.text().splitlines() if line.strip()]
        assert lines == ["round 1", "a note", "row 0 of rou", "nd 1", "end"]


def test_a_frame_higher_than_the_terminal_says_what_is_left_out() -> None:
    with Terminal(command(40, 40), os.environ | {"TERM": "xterm"}, lines=10) as terminal:
        terminal.sees("end")
        lines = [line.rstrip() for line in terminal.text().splitlines() if line.strip()]
        assert lines[-2:] == ["... 34 more lines: a taller terminal shows them", "end"]
        assert lines[-3] == "row 5 of round 1"


def test_a_pipe_gets_every_round_whole() -> None:
    found = subprocess.run(command(2, 40), capture_output=True, text=True, check=True)
    assert "row 1 of round 0" in found.stdout and "row 39 of round 1" in found.stdout
    assert "\x1b" not in found.stdout
    assert found.stderr == "a note\n" * 2
