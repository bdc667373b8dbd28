# SPDX-License-Identifier: GPL-2.0
"""The tables, in the order of their numbers on the screen."""

from __future__ import annotations

from xdpguard.tui.hits import ListsHit, RulesHit
from xdpguard.tui.table import Pane
from xdpguard.tui.talkers import Syns
from xdpguard.tui.traffic import Interfaces, Reasons

PANES: tuple[Pane, ...] = (
    Reasons(),
    Syns("sources", "source"),
    Syns("destinations", "destination"),
    Syns("ports", "port"),
    RulesHit(),
    ListsHit(),
    Interfaces(),
)
