# SPDX-License-Identifier: GPL-2.0
"""Puts the manual pages into the wheel: they are written from the commands' own help when it is built."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManualPages(BuildHookInterface[Any]):
    """For a wheel that is installed; an editable installation reads the help where it is."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the pages where they stay until the wheel is complete."""
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        from xdpguard.cli.manual import pages

        self._folder = tempfile.TemporaryDirectory()  # removed when the builder's process ends
        for name, text in pages():
            path = Path(self._folder.name) / name
            path.write_text(text, encoding="utf-8")
            build_data["shared_data"][str(path)] = f"share/man/man{name[-1]}/{name}"
