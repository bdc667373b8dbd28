# SPDX-License-Identifier: GPL-2.0
"""The guard's state, which the program and the controller write at the same time."""

from __future__ import annotations

import os

import pytest
from support.bench import Bench
from support.guard import AROUND

from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.tables import guard


def test_the_controller_writes_its_own_fields_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood that begins while the controller is at work is not undone by it."""
    real = guard.state_of

    def and_then_a_flood_begins(descriptor: int) -> guard.State:
        state = real(descriptor)
        begun = state._replace(until=77, floods=state.floods + 1, syns=9, began=5)
        kernel.update(descriptor, bytes(4), abi.GUARD.pack(*begun))
        return state

    with monkeypatch.context() as patched:
        patched.setattr(guard, "state_of", and_then_a_flood_begins)
        guard.settle(bench.pins, "bench", "", "auto", AROUND._replace(mute=True))
    state = guard.read(bench.pins, "bench", "")
    assert (state.until, state.floods, state.syns, state.began) == (77, 1, 9, 5)
    assert state.mac == int.from_bytes(AROUND.mac, "little")
    assert state.mute == guard.MUTE_TOLD


def test_every_field_is_where_the_struct_has_it(bench: Bench) -> None:
    values = [number + 1 for number in range(len(guard.State._fields))]
    descriptor = bench.pins.open_link("guard", "bench", "", abi.GUARD.size)
    try:
        before = guard.state_of(descriptor)
        guard.write(descriptor, before, guard.State(*values))
        assert list(guard.state_of(descriptor)) == values
    finally:
        os.close(descriptor)
