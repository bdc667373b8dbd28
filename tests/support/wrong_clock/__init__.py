# SPDX-License-Identifier: GPL-2.0
"""Commands whose clock is wrong."""

from __future__ import annotations

import os
from pathlib import Path

_HERE = str(Path(__file__).parent)


class Wrong:
    """A clock that can be set."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def ahead(self, seconds: int) -> dict[str, str]:
        """Sets it so much ahead of the machine's; returns the environment of a command that has it."""
        draft = self._file.with_suffix(".draft")
        draft.write_text(str(seconds))
        draft.rename(self._file)
        path = os.pathsep.join([_HERE, *filter(None, [os.environ.get("PYTHONPATH")])])
        return {"PYTHONPATH": path, "AHEAD": str(self._file)}
