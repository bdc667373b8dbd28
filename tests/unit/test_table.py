# SPDX-License-Identifier: GPL-2.0
"""What is laid out without rich looks as rich would lay it out, and all else is left to rich."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from xdpguard.cli import table

TEXT = some.text(some.characters(min_codepoint=32, max_codepoint=126), max_size=12).map(str.strip)
NAMES = some.lists(
    some.sampled_from(["kind", "target", "packets", "bytes", "expires in", ""]), min_size=1, max_size=5
).filter(lambda names: names != [""])


@some.composite
def tables(draw: some.DrawFn) -> tuple[list[str], list[list[str]], str, list[str]]:
    columns = draw(NAMES)
    rows = some.lists(some.lists(TEXT, min_size=len(columns), max_size=len(columns)), max_size=4)
    title = draw(some.sampled_from(["", "drops", "shadow entries: they drop nothing, and count what they would hit"]))
    return columns, draw(rows), title, draw(some.sampled_from([[], ["packets"], ["bytes", ""]]))


@settings(deadline=None)
@given(tables())
def test_as_rich_lays_it_out(given: tuple[list[str], list[list[str]], str, list[str]]) -> None:
    lines = table.laid_out(*given)
    if not lines:
        assert len(given[2]) > 0, "only a title is too long here"
        return
    with pytest.MonkeyPatch.context() as patch:
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        patch.setattr(sys, "stdout", out)
        table.show_rich(*given, 160)
        out.seek(0)
        assert lines == out.read().splitlines()


@pytest.mark.parametrize("cell", ["Zürich", "東京", "a\nb", "a\tb", " a", "\x1b[1m"])
def test_what_rich_has_to_do(cell: str) -> None:
    assert table.laid_out(["a"], [["b"]], "", [])
    assert not table.laid_out(["a"], [[cell]], "", [])
    assert not table.laid_out([cell], [], "", [])


@pytest.mark.parametrize(
    ("cell", "encoding", "rich"), [("b", "utf-8", False), ("b" * 200, "utf-8", True), ("b", "ascii", True)]
)
def test_who_lays_it_out(cell: str, encoding: str, rich: bool) -> None:
    code = (
        "import sys\nfrom xdpguard.cli import table\n"
        f"table.show(['a'], [['{cell}']], '', [])\n"
        "sys.exit('rich' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=False,
        env={"PYTHONIOENCODING": encoding, "PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == rich, done
    assert b"b" in done.stdout


ROW = ["block", "2001:db8:1234:5678:9abc:def0:1234:5678/128", "1,234,567", "12.5 MB", "59m 25s", "cli, config",
       "2026-11-28 04:47:19", "ssh brute force from 2001:db8::7"]  # fmt: skip
RULES = ["kind", "target", "packets", "bytes", "expires in", "source", "created", "reason"]


def shown(columns: list[str], rows: list[list[str]], width: int, encoding: str = "utf-8") -> str:
    """What a pipe of that width gets."""
    code = f"from xdpguard.cli import table\ntable._NARROWEST_PIPE = 0\ntable.show({columns!r}, {rows!r}, '', [])"
    environment = os.environ | {"COLUMNS": str(width), "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment)
    return done.stdout.decode(encoding)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("target", ["203.0.113.10", ROW[1]])
def test_no_address_is_cut(target: str, width: int) -> None:
    """In none of the columns; and the lines fit the terminal, so that it wraps nothing."""
    row = [*ROW[:1], target, *ROW[2:]]
    out = shown(RULES, [row] * 3, max(width, len(target) + 7))
    assert out.split().count(target) == 3
    assert out.split().count("2001:db8::7") == 3
    assert max(map(len, out.splitlines())) <= max(width, len(target) + 7)


def test_what_a_terminal_must_not_get() -> None:
    out = shown(["a"], [["x\x1b[31m\u202e\ny ✓"]], 200, "iso-8859-1")
    assert "x\\x1b[31m\\u202e\\ny \\u2713" in out
    assert "ü ✓" in shown(["a"], [["ü ✓"]], 200)
