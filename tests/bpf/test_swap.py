# SPDX-License-Identifier: GPL-2.0
"""An index is not freed while a program may still read it: its descriptor outlives the system call that replaces it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.bench import Bench

from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.tables.lists import ListMaps
from xdpguard.dataplane.tables.shadowlists import ShadowListMaps

LINES = np.zeros((8, abi.LINE.size // 8), np.uint64)


def in_force(maps: ListMaps) -> int | None:
    """The kernel's id of the index in force."""
    raw = kernel.lookup(maps._maps[maps.INDEX], bytes(4), 4)
    return int.from_bytes(raw, "little") if raw else None


def held() -> set[int]:
    """The ids of the maps that this process has descriptors of."""
    found = set()
    for path in Path("/proc/self/fdinfo").iterdir():
        try:
            lines = path.read_text(encoding="ascii").splitlines()
        except FileNotFoundError:
            continue  # that of the folder's own listing
        found |= {int(line.split()[1]) for line in lines if line.startswith("map_id:")}
    return found


def gone(number: int) -> bool:
    """Whether there is no such map any more."""
    try:
        os.close(kernel.map_by_id(number))
    except FileNotFoundError:
        return True
    return False


@pytest.mark.parametrize("kind", [ListMaps, ShadowListMaps])
@pytest.mark.parametrize("end", ["swap", "empty"])
def test_the_old_index_outlives_its_replacement(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, kind: type[ListMaps], end: str
) -> None:
    with kind(bench.pins) as maps:
        maps.swap(LINES, None, None, False)
        old = in_force(maps)
        assert old is not None
        assert old not in held(), "positive control: only the kernel holds the index in force"
        seen = []

        def watched(real: Callable[..., object]) -> Callable[..., object]:
            def call(descriptor: int, *rest: object) -> object:
                try:
                    return real(descriptor, *rest)
                finally:
                    if descriptor == maps._maps[maps.INDEX]:
                        seen.append((in_force(maps) != old, old in held()))

            return call

        monkeypatch.setattr(kernel, "update", watched(kernel.update))
        monkeypatch.setattr(kernel, "delete", watched(kernel.delete))
        if end == "swap":
            maps.swap(LINES, None, None, False)
        else:
            maps.empty()
        monkeypatch.undo()
        assert seen == [(True, True)], "replaced, and held all the same"
        assert old not in held()
        assert gone(old)
        maps.empty()
