# SPDX-License-Identifier: GPL-2.0
"""What is said of one thing is said in the singular: its noun, its verb, and the pronouns that stand for it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import xdpguard
from xdpguard.cli.drops import Missed
from xdpguard.cli.tcp.loop import lost_words
from xdpguard.control.audit import Audit
from xdpguard.control.results import Share
from xdpguard.net import firewall, listening, ruleset

ROOT = Path(xdpguard.__file__).parent
_MANY = re.compile(r" (?:more |shorter )?([A-Za-z]{2,}s|are|were|have|do)\b(?!/)")
_ONE_OR_MANY = {"is", "was", "has", "does", "as", "its", "this", "ms", "bytes", "less"}
# Numbers that are never 1 where they are said, by the expression.
NEVER_ONE = {
    "bridges/bgp/gobgp.py": {"count"},
    "cli/answers/fleet.py": {"count"},
    "cli/changing.py": {"len(targets)", "len(there)"},
    "cli/entries.py": {"its_ends.ended"},
    "cli/explain_what.py": {"len(found)"},
    "cli/explained.py": {"ban.number"},
    "cli/filters.py": {"len(names)"},
    "cli/fleet_entries.py": {"len(hosts)", "self.published"},
    "control/lasting.py": {"parsed.ending"},
    "dataplane/tables/classifier.py": {"len(filters)"},
    "dataplane/tables/filterentries.py": {"count"},
    "dataplane/tables/gathered.py": {"sum(counts.values())"},
    "lists/addresses.py": {"given", "prefixes"},
    "lists/formats/collector.py": {"self._skipped"},
    "lists/formats/notes.py": {"len(names)"},
    "policy/filters.py": {"len(found)"},
    "policy/flowspec/conversion.py": {"len(found)"},
    "policy/target.py": {"last - first + 1"},
    "service/suspects.py": {"len(suspects)"},
    "tcp/hints.py": {
        "it.syn.length", "it.sockets", "number", "waiting.size", "limits.tcp_max_tw_buckets", "int(numbers[place])",
        "again.size",
    },
    "tui/head.py": {"len(seen)"},
}  # fmt: skip


def _constant(value: ast.expr) -> bool:
    names = {it.id for it in ast.walk(value) if isinstance(it, ast.Name)}
    names |= {it.attr for it in ast.walk(value) if isinstance(it, ast.Attribute)}
    return any(name.strip("_").isupper() for name in names)


def _plurals(text: str) -> Iterator[tuple[str, str]]:
    """Yield each number in a message that a plural follows, and that plural."""
    for node in ast.walk(ast.parse(text)):
        parts = node.values if isinstance(node, ast.JoinedStr) else []
        for value, after in pairwise(parts):
            if not isinstance(value, ast.FormattedValue) or not isinstance(after, ast.Constant):
                continue
            its = ast.unparse(value.value)
            found = _MANY.match(str(after.value))
            form = ast.unparse(value.format_spec) if value.format_spec else ""
            is_number = "," in form or re.search(r"\bnumber\(|len\(|sum\(|\bcount\b|total", its)
            if found and is_number and found[1] not in _ONE_OR_MANY and not _constant(value.value):
                yield its, found[1]


def test_no_number_that_may_be_one_is_followed_by_a_plural() -> None:
    """`units.counted` says both; what it is never one of is listed above."""
    found = [
        f"{path.relative_to(ROOT)}: {its} {word}"
        for path in sorted(ROOT.rglob("*.py"))
        if path.parent.name != "bench"
        for its, word in _plurals(path.read_text("utf-8"))
        if its not in NEVER_ONE.get(str(path.relative_to(ROOT)), ())
    ]
    assert found == []


def test_the_search_finds_such_a_message() -> None:
    assert list(_plurals("f'{count:,} rules; {units.number(its)} were, {len(a)} more prefixes'")) == [
        ("count", "rules"), ("units.number(its)", "were"), ("len(a)", "prefixes"),
    ]  # fmt: skip
    assert not list(_plurals("f'{counted(count, \"rule\")} is, {MOST:,} rules, {name} has, {rate:,.0f} packets/s'"))


@pytest.mark.parametrize(
    ("ports", "words"),
    [
        ({80}, "port 80 (a rule drops or rejects it), which looks open while"),
        ({80, 443}, "ports 80, 443 (a rule drops or rejects them), which look open while"),
    ],
)
def test_ports_that_look_open(monkeypatch: pytest.MonkeyPatch, ports: set[int], words: str) -> None:
    monkeypatch.setattr(listening, "read", lambda _: [listening.Listener(it, False, 0) for it in ports])
    place = (1, "filter", "input")
    rules = {place: [ruleset.Rule(drops=(range(1, 1000),))]}
    found = list(firewall.conflicts_of(place, ruleset.ACCEPT, rules, sorted(ports)))
    monkeypatch.setattr(firewall, "conflicts", lambda *_: found)
    (text,) = firewall.warnings("", ())
    assert words in text


def test_one_of_each() -> None:
    assert lost_words(1, "sample", "read") == "1 sample was lost: it came faster than it could be read"
    assert lost_words(2, "sample", "read") == "2 samples were lost: they came faster than they could be read"
    missed = Missed({("eth0", ""): (1, 1)}, 0).describe("shown")
    assert missed == "0 of 1 drop shown; 1 came faster than it could be read"
    audit = Audit(Share(1, 0), {"x": Share(1, 0), "y": Share(2, 0)}, filters=Share(1, 0))
    assert audit.missing() == ["0 of 1 rule", "0 of 1 filter", "0 of 1 entry of list x", "0 of 2 entries of list y"]
