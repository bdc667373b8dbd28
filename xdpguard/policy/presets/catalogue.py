# SPDX-License-Identifier: GPL-2.0
"""All ready-made filters, by name."""

from __future__ import annotations

import difflib

from xdpguard.errors import UsageError
from xdpguard.policy.presets.floods import FLOODS
from xdpguard.policy.presets.preset import Preset
from xdpguard.policy.presets.reflectors import REFLECTORS
from xdpguard.units import visible

PRESETS: tuple[Preset, ...] = (*REFLECTORS, *FLOODS)
_BY_NAME = {it.name: it for it in PRESETS}


def preset(name: str) -> Preset:
    """Return the ready-made filter of a name; raise UsageError if there is none."""
    found = _BY_NAME.get(name)
    if found is None:
        close = difflib.get_close_matches(name, _BY_NAME, 1)
        remedy = f"did you mean {close[0]}?" if close else f"the names are {', '.join(_BY_NAME)}"
        raise UsageError(f"no preset {visible(name)!r}", remedy)
    return found
