# SPDX-License-Identifier: GPL-2.0
"""The keys of every answer in JSON, and the types of their values: programs that read them are not to break.

tests/support/json_keys.txt is the table. A key more is a line more in it; a key or a type less is a break.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from scenarios.day import Day
from support import shapes
from support.command import Command
from topology import Lab

from xdpguard.bench.results import Cost, FilterCost, Load, Rate, Results

_TABLE = Path(shapes.__file__).with_name("json_keys.txt")
# Objects whose keys are data, in any answer.
_DATA_KEYS = {
    "interfaces", "lists", "audit.lists", "audit.shadow.lists", "shadow.lists", "overrides", "sysctls", "sysctls.*",
    "machine", "versions", "skipped", "dropped", "reasons", "interfaces.*.reasons", "interfaces.*.samples",
    "diff.before.reasons", "namespaces[].remotes[].states",
}  # fmt: skip


def table() -> dict[str, dict[str, set[str]]]:
    """The shape of each command's answers; a line that names a command has no blanks before it."""
    found: dict[str, dict[str, set[str]]] = {}
    for line in _TABLE.read_text(encoding="utf-8").splitlines():
        if line.startswith("    "):
            path, kinds = shapes.read(line)
            found[next(reversed(found))][path] = kinds
        elif line and not line.startswith("#"):
            found[line] = {}
    return found


def differences(words: str, found: dict[str, set[str]], wanted: dict[str, set[str]]) -> Iterator[str]:
    """Keys that one of them lacks, and types that are none of those wanted, as lines of the table.

    A type more may be wanted than is found: whether it is known who owns a socket is a matter of luck.
    """
    yield from (f"{words}: - {line}" for line in shapes.lines({path: wanted[path] for path in wanted.keys() - found}))
    yield from (f"{words}: + {line}" for line in shapes.lines({path: found[path] for path in found.keys() - wanted}))
    other = {path: found[path] for path in found.keys() & wanted if not found[path] <= wanted[path]}
    yield from (f"{words}: ! {line}" for line in shapes.lines(other))


@pytest.mark.timeout(1200)
def test_the_keys_of_every_command(lab: Lab, command: Command, tmp_path: Path) -> None:
    found: dict[str, list[Any]] = defaultdict(list)
    for said in Day(command, lab, tmp_path, text=False):
        assert said.code == 0 or said.words in ("status", "replay"), said
        for document in said.documents():
            found[said.words].append(document)
    wanted = table()
    assert found.keys() == wanted.keys() - {"bench"}
    wrong = [
        text
        for words, documents in found.items()
        for text in differences(words, shapes.shape(documents, _DATA_KEYS), wanted[words])
    ]
    assert not wrong, "\n".join(wrong)


def test_the_keys_of_bench() -> None:
    """It takes minutes: what it would print is made here."""
    results = Results({"cpu": "any"}, {"xdpguard": "1", "nft": None}, True, skipped={"ipset": "it is not installed"})
    results.costs += [Cost("xdpguard", "pass_ack", 4, 1, entries, 9.5, "ns") for entries in (0, 1000)]
    results.filters.append(FilterCost("none matches", 4, 1, 1000, 25.0))
    results.rates.append(Rate("xdpguard, list", 1000, 1.5, "packets/s"))
    results.loading.append(Load("xdpguard", "load", 1000, 0.5, "s"))
    wrong = list(
        differences("bench", shapes.shape([msgspec.to_builtins(results.report())], _DATA_KEYS), table()["bench"])
    )
    assert not wrong, "\n".join(wrong)
