# SPDX-License-Identifier: GPL-2.0
"""How long tests wait for what must come: bounds, not pauses. An emulated machine needs ten times as long."""

from __future__ import annotations

import os

PATIENCE = float(os.environ.get("XDPGUARD_TEST_PATIENCE", "1"))


def patient(seconds: float) -> float:
    """Return a bound in seconds as this machine needs it."""
    return seconds * PATIENCE
