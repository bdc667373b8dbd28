# SPDX-License-Identifier: GPL-2.0
"""What the threads tell the screen."""

from __future__ import annotations

from textual.message import Message

from xdpguard.tui.history import Snapshot


class Arrived(Message):
    """A snapshot, or why there is none."""

    def __init__(self, snapshot: Snapshot | None, fault: str) -> None:
        super().__init__()
        self.snapshot = snapshot
        self.fault = fault


class Changed(Message):
    """Progress of a change: True when it is done, False when it failed, None while it waits."""

    def __init__(self, text: str, well: bool | None) -> None:
        super().__init__()
        self.text = text
        self.well = well
