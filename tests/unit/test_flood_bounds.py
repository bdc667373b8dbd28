# SPDX-License-Identifier: GPL-2.0
"""A flood ends in time on a machine that is too slow for its rate."""

from __future__ import annotations

import select
from types import SimpleNamespace

import pytest

from xdpguard.bench import flood as floods
from xdpguard.bench.flood import Flood
from xdpguard.dataplane.sys import kernel


@pytest.mark.parametrize(("each", "packets"), [(1e-6, 200_000), (1e-3, 12_000)])
def test_what_is_late_is_not_caught_up(monkeypatch: pytest.MonkeyPatch, each: float, packets: int) -> None:
    """``each``: seconds that a packet takes; ``packets``: about so many can be sent in time."""
    now = 0.0

    def sends(_program: int, _frame: bytes, count: int, *_: int) -> None:
        nonlocal now
        now += count * each

    def waits(_reads: object, _writes: object, _errors: object, seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(floods, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(kernel, "test_run", sends)
    monkeypatch.setattr(select, "select", waits)
    flood = Flood("syn", "198.18.0.2", "198.18.0.1", 80, 60, 20_000, 10.0, 10_000_000)
    done, seconds = floods._send(flood, 0, b"", 0)
    assert 0.8 * packets < done <= packets + 4000
    assert seconds < 15
