# SPDX-License-Identifier: GPL-2.0
"""The tables, in the order of their numbers on the screen."""

from __future__ import annotations

from xdpguard.tui.filterhits import FiltersHit
from xdpguard.tui.hits import ListsHit, RulesHit
from xdpguard.tui.table import Pane
from xdpguard.tui.talkers import Talkers
from xdpguard.tui.traffic import Interfaces, Reasons

PANES: tuple[Pane, ...] = (
    Reasons(),
    Talkers("sources", "source"),
    Talkers("destinations", "destination"),
    Talkers("ports", "port"),
    RulesHit(),
    ListsHit(),
    Interfaces(),
    FiltersHit(),
)
