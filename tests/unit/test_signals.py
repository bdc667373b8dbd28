# SPDX-License-Identifier: GPL-2.0
"""Signals are handled, blocked and waited for, and afterwards everything is as it was."""

from __future__ import annotations

import select
import signal
from collections.abc import Iterator

import pytest

from xdpguard import signals

ONE, OTHER = signal.SIGUSR1, signal.SIGUSR2


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (ONE, OTHER)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_handlers_are_restored_even_after_an_error() -> None:
    came: list[int] = []
    with pytest.raises(KeyError), signals.handled(lambda number, frame: came.append(number), ONE, OTHER):
        signal.raise_signal(ONE)
        signal.raise_signal(OTHER)
        raise KeyError
    assert came == [ONE, OTHER]
    assert signal.getsignal(ONE) == signal.getsignal(OTHER) == signal.SIG_IGN


def test_what_comes_while_blocked_takes_effect_at_the_end() -> None:
    came: list[int] = []
    with signals.handled(lambda number, frame: came.append(number), ONE, OTHER):
        with signals.blocked(OTHER), signals.blocked(ONE):
            signal.raise_signal(ONE)
            assert not came
        assert came == [ONE]
        with signals.blocked(ONE):
            with signals.blocked(ONE):
                signal.raise_signal(ONE)
            assert came == [ONE], "the outer one goes on"
        assert came == [ONE, ONE]


def test_waking_names_what_came() -> None:
    came: list[int] = []
    with signals.waking(lambda number, frame: came.append(number), ONE, OTHER) as told:
        assert not select.select([told], [], [], 0)[0]
        signal.raise_signal(OTHER)
        signal.raise_signal(ONE)
        assert select.select([told], [], [], 5)[0]
        assert sorted(told.recv(64)) == sorted(came) == sorted([ONE, OTHER])
        for _ in range(100_000):
            signal.raise_signal(ONE)  # nobody reads: it neither waits nor complains
    assert signal.set_wakeup_fd(-1) == -1
    assert signal.getsignal(ONE) == signal.SIG_IGN
