# SPDX-License-Identifier: GPL-2.0
"""What the tests themselves are made of."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import TCP
from scenarios.fleet_parts import Rested
from support.guard import ETHER, PORT, ip, segment, syn


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("flags", ["S", "A", "RA", "FPA", "SEC", "FSRPAUEC", ""])
@pytest.mark.parametrize("fields", [{}, {"sport": 65535, "seq": 2**32 - 1, "ack": 2**31}, {"ack": 7}], ids=str)
def test_plain_segments_are_as_scapy_makes_them(family: int, flags: str, fields: dict[str, Any]) -> None:
    for number in range(50):
        source = f"16.{number}.255.{255 - number}" if family == 4 else f"2001:db8:{number:x}::{number * 997:x}"
        packet = ETHER / ip(family, source) / TCP(**{"sport": 4000, "dport": PORT + number, "flags": flags, **fields})
        assert segment(flags, family, source, PORT + number, **fields) == bytes(packet)


@pytest.mark.parametrize("family", [4, 6])
def test_syns_are_as_scapy_makes_them(family: int) -> None:
    assert syn(family) == bytes(ETHER / ip(family) / TCP(sport=4000, dport=PORT, flags="S", seq=1000))


def test_no_two_test_files_have_the_same_name() -> None:
    """Pytest imports them by name: of two, the second one is not run."""
    names = Counter(it.name for it in Path(__file__).parents[1].glob("*/test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_a_process_has_rested_once_it_sleeps_and_uses_next_to_nothing() -> None:
    """Not while it waits for a processor, nor while it works between the looks."""
    looks = [("S", 1.0), ("S", 1.5), ("R", 1.5), ("S", 1.5), ("S", 1.51), ("S", 1.9)]
    found: list[bool] = []
    rested = Rested(lambda: looks[len(found)], lambda: float(len(found)))
    for _ in looks:
        found.append(rested())
    assert found == [False, False, False, False, True, False]
