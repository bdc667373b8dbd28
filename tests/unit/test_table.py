# SPDX-License-Identifier: GPL-2.0
"""Tables fit their terminal: which columns stay, what is clipped, what never is; whole lines elsewhere; colours."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from support.terminal import Terminal

from xdpguard import units
from xdpguard.cli import columns, fitting, render, table
from xdpguard.cli.columns import Cell, Column

LONG = "2001:db8:1234:5678:9abc:def0:1234:5678/128"
NOW = 1_800_000_000.0
RULES = [
    Column("kind"),
    Column("target"),
    Column("packets", right=True),
    Column("bytes", leaves=4, right=True),
    Column("expires", leaves=1),
    Column("source", leaves=3),
    Column("created", leaves=2),
    Column("reason", clip="end"),
]


def rule(target: str, packets: int = 1_234_567) -> list[str | Cell]:
    """A row of RULES."""
    return [
        "block",
        target,
        columns.number(packets, "red"),
        columns.size(12_500_000),
        columns.due(NOW + 180, NOW),
        "cli, config",
        columns.ago(NOW - 26 * 60, NOW),
        "ssh brute force from 2001:db8::7 and 203.0.113.255",
    ]


ROWS = [rule("203.0.113.10"), rule(LONG), rule("2001:db8::/32", 0)]


def lines(
    width: int | None, rows: Sequence[Sequence[str | Cell]] = ROWS, title: str = "", wide: bool = False
) -> list[str]:
    """The lines of a table for people, without colours."""
    cells = [[it if isinstance(it, Cell) else Cell(it) for it in row] for row in rows]
    return [re.sub(r"\x1b\[\d+m", "", it) for it in table.laid_out(RULES, cells, title, width, wide)]


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_it_fits(width: int) -> None:
    """No line is wider than the terminal, no address is broken, and what is left out is named."""
    out = lines(width, title="rules: " + "long " * 50)
    assert max(map(len, out)) <= width
    text = "\n".join(out)
    assert text.split().count("203.0.113.10") == text.split().count(LONG) == text.split().count("2001:db8::/32") == 1
    for word in re.findall(r"[0-9a-f]*[.:][0-9a-f.:/]+", text):
        assert word in ("203.0.113.10", "203.0.113.255", LONG, "2001:db8::/32", "2001:db8::7", "rules:", "12.5"), word
    left_out = [it.name for it in RULES if it.name not in out[1].split()]
    note = "not shown: " + ", ".join(left_out) + "; -o wide shows all"
    assert (note in text) == bool(left_out)


@pytest.mark.parametrize(
    ("width", "gone"),
    [
        (126, []),
        (125, ["bytes"]),
        (116, ["bytes", "source"]),
        (103, ["bytes", "source", "created"]),
        (94, ["bytes", "expires", "source", "created"]),
    ],
)
def test_the_less_important_leave_first(width: int, gone: list[str]) -> None:
    assert [it.name for it in RULES if it.name not in lines(width)[0].split()] == gone


def test_narrower_than_what_always_stays() -> None:
    """Then a row is written as lines of names and cells, and loses nothing."""
    out = lines(50)
    assert max(map(len, out)) <= 50
    assert "\n".join(out).split().count(LONG) == 1
    assert "\n".join(out).count("203.0.113.255") == 3


def test_pipes_get_whole_lines() -> None:
    for wide, created in ((False, "26m ago"), (True, units.moment(NOW - 26 * 60))):
        out = lines(None, wide=wide)
        assert len(out) == 2 + len(ROWS)
        assert all("203.0.113.255" in it and created in it for it in out[2:])


def test_numbers_are_aligned_right() -> None:
    head, _, *rows = lines(200)
    end = head.index("packets") + len("packets")
    assert [row[:end].split()[-1] for row in rows] == ["1,234,567", "1,234,567", "0"]
    assert all(row[end] == " " for row in rows)


def test_tab_separated_values() -> None:
    others: list[list[str | Cell]] = [["-"] * 8, ["a\tb"] * 8]
    cells = [[it if isinstance(it, Cell) else Cell(it) for it in row] for row in [*ROWS, *others]]
    head, first, *_, none, control = table.tsv(RULES, cells)
    assert head.split("\t") == [it.name for it in RULES]
    assert first.split("\t")[1:7] == [
        "203.0.113.10",
        "1234567",
        "12500000",
        "2027-01-15T08:03:00Z",
        "cli, config",
        "2027-01-15T07:34:00Z",
    ]
    assert none == "\t" * 7
    assert control.split("\t") == ["a\\tb"] * 8


WORDS = some.lists(some.sampled_from(["ssh", "from", "192.0.2.1", "2001:db8::1", "a:b", "brute-force"]), max_size=9)


@settings(deadline=None)
@given(WORDS, some.integers(min_value=8, max_value=60))
def test_clipping_never_breaks_an_address(words: list[str], cells: int) -> None:
    text = " ".join(words)
    cut = fitting.clipped(text, cells, "end", "…")
    assert len(cut) <= cells
    assert cut == text or (cut.endswith("…") and text.startswith(cut[:-1]))
    for word in cut.removesuffix("…").split():
        assert word in words or not re.search(r"\d\.|::", word), word


def test_where_text_is_clipped() -> None:
    assert fitting.clipped("/var/lib/lists/firehol_level1.netset", 24, "start", "…") == "…s/firehol_level1.netset"
    assert fitting.clipped("東京東京東京", 6, "end", "…") == "東京…"
    assert fitting.clipped("short", 5, "end", "…") == "short"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (95, "95s"), (180, "3m"), (1560, "26m"), (3599, "1h"), (3900, "1h 5m"), (34_190, "9h 30m"),
     (40_000, "11h"), (171_500, "2d"), (442_800, "5d 3h"), (412 * 86_400, "412d")],
)  # fmt: skip
def test_durations_in_few_letters(seconds: float, text: str) -> None:
    assert units.about(seconds) == text


SHOW = """
import sys
from xdpguard.cli import table
from xdpguard.cli.columns import Cell, Column
table.show([Column("a", colour="red"), Column("b", leaves=1, clip="end")], [["1", sys.argv[1]]], "title")
sys.exit("rich" in sys.modules)
"""


def piped(text: str, encoding: str) -> tuple[str, int]:
    """What a pipe gets, and whether rich was loaded."""
    environment = os.environ | {"COLUMNS": "20", "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", SHOW, text], capture_output=True, check=False, env=environment)
    return done.stdout.decode(encoding), done.returncode


def test_a_pipe_has_no_colours_and_rich_is_not_loaded() -> None:
    assert piped("b" * 200, "utf-8") == (f"title\na  b\n{'─' * 203}\n1  {'b' * 200}\n", 0)
    assert piped("b", "ascii") == ("title\na  b\n----\n1  b\n", 0)
    assert "\\u6771" in piped("東", "ascii")[0]
    assert piped("東", "utf-8")[1], "control: its width is asked of rich"


def test_what_a_terminal_must_not_get() -> None:
    assert "x\\x1b[31m\\u202e\\ny \\u2713" in piped("x\x1b[31m\u202e\ny ✓", "iso-8859-1")[0]
    assert "ü ✓" in piped("ü ✓", "utf-8")[0]


def test_a_terminal_has_colours_and_its_width() -> None:
    with Terminal([sys.executable, "-c", SHOW, "word " * 40], os.environ | {"TERM": "xterm"}, 30) as terminal:
        terminal.sees("w…")
        assert "\x1b[31m1\x1b[0m" in terminal.output
        assert max(len(it.rstrip()) for it in terminal.text().splitlines()) <= 30


class Screen(io.StringIO):
    """Standard output that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("blocked for 10m", ["blocked for 10m"]),
        ("unblocked 2001:db8:1234:5678:9abc:def0:1234:5678", ["unblocked", "2001:db8:1234:5678:9abc:def0:1234:5678"]),
        (
            "  rule    block 198.51.100.0/24, from cli",
            ["  rule    block", "          198.51.100.0/24,", "          from cli"],
        ),
        ("one two\n  three four-five 198.51.100.7 six", ["one two", "  three four-five", "  198.51.100.7 six"]),
    ],
)
def test_sentences_are_broken_between_words(text: str, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal only, and not where it is to be copied."""
    monkeypatch.setenv("COLUMNS", "26")
    for stream, whole, shown in ((Screen(), False, lines), (Screen(), True, None), (io.StringIO(), False, None)):
        monkeypatch.setattr(sys, "stdout", stream)
        render.say(text, whole=whole)
        assert stream.getvalue().splitlines() == (text.splitlines() if shown is None else shown)
