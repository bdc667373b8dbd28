# SPDX-License-Identifier: GPL-2.0
"""Programs of Debian packages that `netns-lab/setup tests` has unpacked and not installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


def unpacked(package: str) -> Path:
    """The folder with a package's files; the test is skipped where there is none."""
    found = Path(sys.prefix) / "debian" / package
    if not found.is_dir():
        pytest.skip(f"{package} is not unpacked in {found}: netns-lab/setup tests does it")
    return found
