# SPDX-License-Identifier: GPL-2.0
"""Filters as people write them: limits, [[filters]] of a configuration, files that are exported and imported."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fake_filters import FakeMaps, made, new

from xdpguard.control import filter_order as order
from xdpguard.control import importing
from xdpguard.control.ruleset import Ruleset
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.policy import exchange, exchange_filters
from xdpguard.policy.filter import Filter
from xdpguard.policy.limit import Limit, parse_limit
from xdpguard.policy.load import load
from xdpguard.policy.rule import NewRule
from xdpguard.policy.target import parse_prefix
from xdpguard.store.database import Store


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("1000/s",), Limit("packets", 1000, 1, 1000)),
        (("1000/second",), Limit("packets", 1000, 1, 1000)),
        (("60/m",), Limit("packets", 60, 60, 5)),
        (("7/hour", "20"), Limit("packets", 7, 3600, 20)),
        (("10mbit/s",), Limit("bits", 10_000_000, 1, 10_000_000)),
        (("10mbit",), Limit("bits", 10_000_000, 1, 10_000_000)),
        (("500kbit/s", "64kbyte", "source"), Limit("bits", 500_000, 1, 512_000, "source")),
        (("1gbit", "2mbit", "source/24"), Limit("bits", 10**9, 1, 2 * 10**6, "source", 24, 64)),
        (("1/s", "", "source/48"), Limit("packets", 1, 1, 5, "source", 32, 48)),
        (("1/s", "", "source/24,56"), Limit("packets", 1, 1, 5, "source", 24, 56)),
        (("1/s", "", "source+port"), Limit("packets", 1, 1, 5, "source+port", 32, 128)),
    ],
)
def test_limits(words: tuple[str, ...], wanted: Limit) -> None:
    found = parse_limit(*words)
    assert found == wanted
    assert parse_limit(found.rate, found.burst_text, found.whose) == found, "as it is written it is read again"


@pytest.mark.parametrize(
    "words",
    [
        ("",), ("1000",), ("0/s",), ("-1/s",), ("1.5/s",), ("10/x",), ("10mbyte/s",), ("0mbit/s",), ("99999999999/s",),
        ("9999gbit/s",), ("10/s", "0"), ("10/s", "10mbit"), ("10mbit/s", "10"), ("10/s", "x"), ("10/s", "", "host"),
        ("10/s", "", "source/0"), ("10/s", "", "source/129"), ("10/s", "", "source/33,64"),
        ("10/s", "", "source/24,129"), ("1000/\N{ARABIC-INDIC DIGIT ONE}",), ("\N{ARABIC-INDIC DIGIT ONE}/s",),
    ],
)  # fmt: skip
def test_what_is_no_limit(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        parse_limit(*words)
    assert caught.value.remedy


ONE, TWO = "198.51.100.7", "203.0.113.0/24"
GOOD = '[[filters]]\nname = "a"\nmatch = "tcp dport 80"\naction = "drop"\n'


def configured(folder: Path, text: str) -> list[str]:
    path = folder / "guard.toml"
    path.write_text(text)
    return [f"{it.filter('config', 0.0).does} {it.match}" for it in load(path).filters]


def test_a_configuration(tmp_path: Path) -> None:
    more = (
        '[[filters]]\nname = "b"\nmatch = "udp sport 53"\nlimit = "10/s"\nburst = "20"\nper = "source"\nshadow = true\n'
    )
    assert configured(tmp_path, f'[rules]\nblock = ["192.0.2.7"]\n{GOOD}{more}') == [
        "drop tcp dport 80",
        "limit 10/s burst 20 per source udp sport 53",
    ]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (GOOD + '[[filters]]\nname = "b"\nmatch = "tcp dport 8o"\naction = "drop"\n', 7, "filters.match: '8o' is not"),
        (
            GOOD + '[[filters]]\nname = "a"\nmatch = "tcp dport 81"\naction = "drop"\n',
            6,
            "filters.name: a is there",
        ),
        (GOOD + '[[filters]]\nname = "b"\naction = "drop"\n', 5, "filters: match is missing"),
        (GOOD + '[[filters]]\nname = "b"\nmatch = "tcp dport 81"\n', 5, "filters.action: no action"),
        (GOOD.replace("drop", "kill"), 4, "filters.action: not an action: 'kill'"),
        (GOOD + 'limit = "1/s"\n', 5, "filters.limit: an action and a limit"),
        (GOOD + 'burst = "1"\n', 4, "filters.action: burst and per go with a limit"),
        (GOOD + "shadow = 1\n", 5, "filters.shadow: 1 is neither true nor false"),
        (GOOD + "why = 1\n", 5, "filters.why: unknown key"),
        (GOOD.replace('"a"', '"a b"'), 2, "filters.name: not a filter name"),
        (GOOD.replace('action = "drop"', 'limit = "fast"'), 4, "filters.limit: not a rate"),
        ('filters = "x"\n', 1, "filters: expected a list of tables"),
    ],
)
def test_faults_in_a_configuration(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        configured(tmp_path, text)
    assert f"guard.toml:{line}: {words}" in str(caught.value)
    assert caught.value.remedy


@pytest.fixture
def its(tmp_path: Path) -> Iterator[Ruleset]:
    with Store(tmp_path / "store.db") as store:
        yield made(store, FakeMaps())


def filters() -> list[Filter]:
    held: list[Filter] = []
    for it in (
        new("a", "tcp dport { 80, 443 }", reason='of "many" \\ ways', life=3600),
        new("b", "udp sport 53", limit="10mbit/s", per="source/24,56", burst="3mbit", shadow=True),
        new("c", "ip6 saddr 2001:db8::/32", "pass", source="config"),
        new("d", "icmp type echo-request", "count"),
    ):
        held = order.with_new(held, it, "", replace=False)
    return held


def test_what_is_exported_is_imported(its: Ruleset) -> None:
    text = exchange.HEAD + "".join(exchange_filters.written(filters()))
    given = exchange.parse("x", text.encode(), time.time())
    assert (given.rules, [it._replace(created=0.0, expires=0.0) for it in given.filters]) == (
        [],
        [it.as_new()._replace(created=0.0, expires=0.0) for it in filters()],
    )
    done = importing.load(its, given, force=False)
    assert (done.filters, done.there) == (["a", "b", "c", "d"], [])
    assert "".join(exchange_filters.written(its.filters.alive())) in text.replace("config", "cli")
    again = importing.load(its, given, force=False)
    assert (again.filters, again.there) == ([], ["a", "b", "c", "d"])


def test_what_a_configuration_had_elsewhere_stays_when_it_is_reloaded_here(its: Ruleset) -> None:
    """It is of no file here; where the file has it, it is the file's again."""
    now = time.time()
    one, two = (NewRule("block", parse_prefix(it)[0], "", "config", now, None) for it in (ONE, TWO))
    given = exchange.Exported(
        [exchange.Entry(one, "enforce"), exchange.Entry(two, "enforce")],
        [new("c", "udp dport 9", source="config"), new("d", "udp dport 10", source="config")],
    )
    importing.load(its, given, force=False)
    assert {rule.source for rule in its.store.rules("block")} == {"cli"}
    its.filters.replace_source("config", [new("d", "udp dport 10", source="config")])
    its.rules.replace_source("config", [two])
    assert {it.name: it.source for it in its.filters.alive()} == {"c": "cli", "d": "config"}
    assert [rule.origins for rule in its.store.rules("block")] == [["cli"], ["cli", "config"]]
    its.rules.replace_source("config", [])
    its.filters.replace_source("config", [])
    assert [str(rule.target) for rule in its.store.rules("block")] == [ONE, TWO]
    assert [it.name for it in its.filters.alive()] == ["c"]
    importing.load(its, given, force=False)
    its.rules.replace_source("config", [two])
    importing.load(its, given, force=False)
    assert [rule.origins for rule in its.store.rules("block")] == [["cli"], ["cli", "config"]]


@pytest.mark.parametrize("key", ["created", "expires"])
@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
def test_times_that_could_not_be_exported_again(key: str, moment: str) -> None:
    for text in (f'[[rules]]\nkind = "block"\ntarget = "{ONE}"\n', GOOD):
        with pytest.raises(UsageError, match=rf"1: {key} is out of range"):
            exchange.parse("x", f"{text}{key} = {moment}\n".encode(), time.time())
        exchange.parse("x", f"{text}{key} = {moment[:19]}Z\n".encode(), time.time())


@pytest.mark.parametrize("moment", [-1e12, -62_135_596_800.5, 0.0, 0.1234567, 2.5e11, 253_402_300_799.9, 1e18])
def test_every_time_is_exported(moment: float) -> None:
    filters = [new("a")._replace(created=moment, expires=moment).stored(0, 0)]
    rules = [NewRule("block", parse_prefix(ONE)[0], "", "cli", moment, moment).stored(0, "enforce")]
    text = "".join((*exchange.written(rules), *exchange_filters.written(filters)))
    given = exchange.parse("x", text.encode(), time.time())
    nearest = min(max(moment, -62_135_596_800), 253_402_300_799)
    times = [
        given.rules[0].rule.created,
        given.rules[0].rule.expires,
        given.filters[0].created,
        given.filters[0].expires,
    ]
    assert times == [pytest.approx(nearest, abs=1e-3)] * 4


def test_importing_what_is_there(its: Ruleset) -> None:
    its.filters.apply(order.with_new([], new("a", "tcp dport 80", life=60, reason="first"), "", replace=False))
    longer = new("a", "tcp dport 80", life=600, reason="second")
    importing.load(its, exchange.Exported([], [longer]), force=False)
    (found,) = its.filters.alive()
    assert (found.expires, found.reason) == (longer.expires, "first")
    importing.load(its, exchange.Exported([], [longer._replace(expires=1.0)]), force=False)
    assert its.filters.alive() == [found], "what has ended is left out"
    with pytest.raises(XdpguardError, match="there is another filter a: drop tcp dport 80"):
        importing.load(its, exchange.Exported([], [new("b"), new("a", "tcp dport 81")]), force=False)
    assert its.filters.alive() == [found], "all or nothing"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[filters]]\nname = "a"\n', "filter 1: match is missing"),
        (GOOD + GOOD, "filter 2: a is there twice"),
        (GOOD + "more = 1\n", "filter 1: unknown key more"),
        (GOOD + 'mode = "x"\n', "filter 1: not a mode"),
        (GOOD + 'origin = "X"\n', "filter 1: not an origin"),
        (GOOD + "created = 1\n", "filter 1: created is not a time"),
        (GOOD + "reason = 1\n", "filter 1: reason is not a text"),
        (GOOD.replace("80", "x"), "filter 1: 'x' is not a port"),
        ("filters = 1\n", "filters is not a list of tables"),
    ],
)
def test_files_that_are_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        exchange.parse("x", text.encode(), time.time())
    assert f"x: {words}" in str(caught.value)
    assert caught.value.remedy
