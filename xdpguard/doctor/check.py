# SPDX-License-Identifier: GPL-2.0
"""A finding of doctor."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Check(Struct, frozen=True):
    """One finding. ``warn`` does not keep xdpguard from working. ``fixed``: what was done about it, empty: nothing."""

    name: str
    result: Literal["ok", "warn", "fail"]
    finding: str
    remedy: str
    fixed: str = ""
