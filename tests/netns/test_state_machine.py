# SPDX-License-Identifier: GPL-2.0
"""A short random walk over the command line; tests/long/state_machine.py goes on for longer."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest
from support.command import Command
from support.policy_model import Change, Entry, Probe, drops, later, restored, touched
from support.walk import walk
from support.walked import Found, Walked
from support.wrong_clock import Wrong
from topology import INTERFACE, Lab

from xdpguard.dataplane.sys import kernel


@pytest.mark.parametrize("seed", [1, 2])
def test_a_walk(lab: Lab, command: Command, tmp_path: Path, seed: int) -> None:
    del command  # the interface is free of what tests share
    made = walk(tmp_path / "walk", lab, seed, 60, 25)
    assert made.tally.total() > 5, made.log


def test_what_differs_in_the_kernel_or_in_the_store_is_found(lab: Lab, command: Command, tmp_path: Path) -> None:
    its = Walked(command, lab, INTERFACE, Wrong(tmp_path / "ahead"))
    command.ok("attach", *its.place)
    its.attached = True
    command.ok("block", "198.51.100.7")
    with pytest.raises(Found, match="the store has"):
        its.check()
    its.policy = {("block", "198.51.100.7"): Entry()}
    # Before the first packet: the program remembers what it has looked up.
    descriptor = kernel.open_pin(str(next(command.pins.glob("v*/deny4_nets"))))
    info = kernel.map_info(descriptor)
    with mmap.mmap(descriptor, info.max_entries * info.value_size) as words:
        words[:] = bytes(len(words))
    os.close(descriptor)
    with pytest.raises(Found, match="dropped: False"):
        its.check()


def test_the_model() -> None:
    block, allow = ("block", "198.51.100.0/24"), ("allow", "198.51.100.7")
    policy = {block: Entry()}
    probe = Probe("198.51.100.7", 9)
    assert drops(policy, probe)
    assert not drops({**policy, allow: Entry()}, probe), "allow overrides"
    assert drops({**policy, allow: Entry((0.0, 0.0))}, probe), "it has ended"
    change = Change("allow 198.51.100.7", touched(policy, {**policy, allow: Entry()}))
    assert restored({**policy, allow: Entry()}, change) == policy
    short, long = Entry((1.0, 2.0)), Entry((3.0, 4.0))
    assert [later(None, short), later(short, long), later(long, short)] == [short, long, long]
    assert [later(short, Entry()), later(Entry(), short)] == [Entry(), Entry()], "for good stays"
