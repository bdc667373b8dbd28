# SPDX-License-Identifier: GPL-2.0
"""The building blocks of the live screen: numbers, plots, filters, sums over tuples, rates of rules."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.screen import rank

from xdpguard.telemetry.dropped import Share
from xdpguard.telemetry.ranking import Table, gained
from xdpguard.tui.crowd import crowd
from xdpguard.tui.draw import ASCII, UNICODE, Span, bars, cell, fit, plain, scaled, share
from xdpguard.tui.filters import Filter
from xdpguard.tui.table import FILL, Column, fitted

ENDS = ["198.18.0.1", "198.1.0.1", "198.100.0.1", "19.8.0.1", "2001:db8::1", "2001:db8:1::1", "2001:db80::1", "::1"]


@pytest.mark.parametrize(
    ("value", "text", "short"),
    [
        (0, "0", "0"),
        (999.4, "999", "999"),
        (999.6, "1.00k", "1.0k"),
        (9994, "9.99k", "10k"),
        (9996, "10.0k", "10k"),
        (123_456, "123k", "123k"),
        (999_499, "999k", "999k"),
        (999_501, "1.00M", "1.0M"),
        (45_600_000, "45.6M", "46M"),
        (1 << 64, "18.4E", "18E"),
        (math.nan, "-", "-"),
    ],
)
def test_numbers_with_units(value: float, text: str, short: str) -> None:
    assert scaled(value) == text
    assert scaled(value, 2) == short


@given(st.floats(0, 2**64))
def test_numbers_keep_their_width(value: float) -> None:
    assert len(scaled(value)) <= 5
    assert len(scaled(value, 2)) <= 4


def test_plots() -> None:
    assert bars([math.nan, 0, 1, 50, 100], 6, 1, UNICODE) == ["   ▁▄▇"]
    assert bars([0, 1, 50, 100], 4, 2, UNICODE) == ["   ▆", " ▁▇█"]
    assert bars([5, 100], 2, 1, ASCII) == ["_#"]
    assert bars([0.0, 0.0], 2, 1, UNICODE) == ["  "]
    assert bars([1.0, 2.0, 3.0], 2, 1, UNICODE) == ["▅▇"], "the last ones are seen"


def test_lines_are_cut_and_filled() -> None:
    assert plain(fit([Span("abc"), Span("def")], 5)) == "abcde"
    assert plain(fit([Span("abc")], 5)) == "abc  "
    assert plain(fit([Span("a\x1b[31mb\n")], 8)) == "a?[31mb?", "nothing reaches the terminal that moves it"
    assert plain(fit([Span("\u3042\u3042\u3042")], 5)) == "\u3042\u3042 "
    assert cell("abcdef", 4) == "abc~"
    assert cell("7", 3, right=True) == "  7"


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("", ENDS),
        ("198.1", ENDS[:3]),
        ("198.1.", ENDS[1:2]),
        ("19", ENDS[:4]),
        ("198.18.0.1", ENDS[:1]),
        ("198.0.0.0/8", ENDS[:3]),
        ("2001:db8", ENDS[4:6]),
        ("2001:db8:", ENDS[4:6]),
        ("2001:db8::1", ENDS[4:5]),
        ("2001:db8::/31", ENDS[4:6]),
        ("::1", ENDS[7:]),
        ("198.1.2.3.4", []),
        ("198.18.0.1/99", []),
        ("words", []),
        ("zz:", []),
        (":", ENDS[4:]),
        (":80", ["port"]),
        ("80", ["port"]),
    ],
)
def test_filters_of_addresses(text: str, chosen: list[str]) -> None:
    syns = rank([(source, "10.0.0.1", 80, 1) for source in ENDS])
    ranking = syns.by["source"]
    found = {ranking.text(int(place)) for place in np.flatnonzero(Filter(text).ends(ranking.ends))}
    ports = Filter(text).ends(syns.by["port"].ends)
    if chosen == ["port"]:
        assert (found, ports.tolist()) == (set(), [True])
    else:
        assert found == set(chosen)


_ROW = st.tuples(st.sampled_from(ENDS), st.sampled_from(ENDS), st.integers(1, 3), st.integers(0, 9))


@given(st.lists(_ROW, max_size=50))
def test_sums_over_tuples(rows: list[tuple[str, str, int, int]]) -> None:
    syns = rank(rows)
    wanted: dict[tuple[str, int], int] = {}
    for _, destination, port, count in rows:
        wanted[destination, port] = wanted.get((destination, port), 0) + count
    ranking = syns.by["port"]
    places = range(len(ranking.syns))
    assert {(ranking.text(at), int(ranking.ends.port[at])): int(ranking.syns[at]) for at in places} == wanted


def test_what_tuples_have_gained() -> None:
    def table(**held: int) -> Table:
        keys = sorted(held)
        return Table(np.array([ord(key) for key in keys], np.uint64), np.array([held[key] for key in keys], np.uint64))

    before = table(a=5, b=7, c=9, d=2)
    assert gained(table(a=6, c=4, d=2, e=3), before).tolist() == [1, 4, 0, 3], "one that has shrunk began anew"
    assert gained(table(), before).tolist() == []
    assert gained(table(a=6), table()).tolist() == [6]


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 10, "0%"), (10, 10, "100%"), (1, 3, "33.3%"), (1, 1e6, "<0.1%"), (99_999, 100_000, "99.9%"), (0, 0, "-")],
)
def test_shares(part: float, whole: float, text: str) -> None:
    assert share(part, whole) == text
    assert share(math.nan, whole) == "-"


def test_plots_of_one_scale() -> None:
    assert bars([50.0], 1, 1, UNICODE, 100.0) == ["▄"]
    assert bars([100.0], 1, 1, UNICODE, 50.0) == ["▇"], "what is higher than the scale sets it"


def test_columns_that_are_worth_less_give_way_first() -> None:
    columns = (
        Column("name", 5, whole=True),
        Column("a", 6, spare=1),
        Column("b", 6, spare=2),
        Column(FILL, 0),
    )
    assert fitted(columns, 60, [10, 1, 1, 0]) == [10, 6, 6, 33]
    assert fitted(columns, 38, [10, 1, 1, 0]) == [10, 6, 0, 18]
    assert fitted(columns, 26, [10, 1, 1, 0]) == [10, 0, 0, 13]
    assert fitted(columns[:3], 14, [39, 1, 1]) == [12, 0, 0], "only what has no other way is cut"


def test_a_crowd_are_many_sources_of_which_none_stands_out() -> None:
    rows = [(f"10.{n // 256}.{n % 256}.1", "10.0.0.1", 80, 40) for n in range(2000)]
    ranking = rank([("192.0.2.1", "10.0.0.1", 80, 9000), *rows]).by["source"]
    none = Share(0.0, 0.0, 0)
    assert crowd(ranking, none, spoofed=False) is None, "they send too much to be hidden"
    found = crowd(ranking, none, spoofed=True)
    assert found is not None
    assert (found.sources, found.most, found.syns) == (2000, 160, 80_000)
    assert [ranking.text(int(place)) for place in found.standing_out] == ["192.0.2.1"]
    assert crowd(rank(rows[:900]).by["source"], none, spoofed=True) is None
