# SPDX-License-Identifier: GPL-2.0
"""Less than a minute of a soak; tests/long/soak.py goes on for twenty."""

from __future__ import annotations

import pytest
from support.command import Command
from support.soaking import Size, Soak, grown
from topology import Lab


def test_nothing_grows_or_drifts(lab: Lab, command: Command) -> None:
    soak = Soak(command, lab, 1)
    soak.run(20, 3)
    assert soak.findings == []
    assert soak.tally["connections"] > 10
    assert soak.tally["packets"] > 1000
    assert len(soak.sizes) > 1


def test_a_leak_is_seen(lab: Lab, command: Command) -> None:
    soak = Soak(command, lab, 1, leak=True)
    soak.run(1, 3)
    assert any("descriptors grew" in it for it in soak.findings), soak.sizes
    assert any("threads grew" in it for it in soak.findings), soak.sizes


@pytest.mark.parametrize(
    ("field", "by", "found"), [("memory", 50 << 20, 1), ("memory", 1 << 20, 0), ("maps", 4 << 20, 1), ("pins", 1, 1)]
)
def test_what_has_grown(field: str, by: int, found: int) -> None:
    first = Size(60 << 20, 30, 4, 100 << 20, 60)
    assert len(grown(first, first._replace(**{field: getattr(first, field) + by}))) == found
