# SPDX-License-Identifier: GPL-2.0
"""The names of pinned maps, against those that the data plane declares."""

from __future__ import annotations

import re
from pathlib import Path

from xdpguard.dataplane.sys.names import PROGRAMS_MAP
from xdpguard.dataplane.sys.repin import LINK_MAPS, SHARED_MAPS

BPF = Path(__file__).parents[2] / "bpf"


def test_the_names_are_those_of_the_data_plane() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in BPF.rglob("*.h"))
    assert set(re.findall(r'XG_PINS "/(\w+)"', text)) - {"fake_clock"} == SHARED_MAPS  # the clock of tests
    assert set(re.findall(r'XG_LINK_PINS "/(\w+)"', text)) == LINK_MAPS
    assert f'XG_LINK_PINS "/" XG_{PROGRAMS_MAP.upper()}' in text
