# SPDX-License-Identifier: GPL-2.0
"""The result of one of doctor's checks."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Check(Struct, frozen=True):
    """One finding. ``warn`` does not prevent xdpguard from working. ``fixed``: what was fixed, empty for nothing."""

    name: str
    result: Literal["ok", "warn", "fail"]
    finding: str
    remedy: str
    fixed: str = ""
