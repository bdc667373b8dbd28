# SPDX-License-Identifier: GPL-2.0
"""All ready-made filters, by name and by group."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from xdpguard.errors import UsageError
from xdpguard.policy.presets.floods import FRAGMENTS, ICMP, STRAY, TCP
from xdpguard.policy.presets.preset import Preset
from xdpguard.policy.presets.reflectors import REFLECTORS
from xdpguard.units import visible

GROUPS: dict[str, tuple[Preset, ...]] = {
    "amplification": REFLECTORS,
    "icmp": ICMP,
    "tcp": TCP,
    "fragments": FRAGMENTS,
    "stray": STRAY,  # lengths, ports and protocols that hosts do not expect
}
PRESETS: tuple[Preset, ...] = tuple(it for its in GROUPS.values() for it in its)
_BY_NAME = {it.name: it for it in PRESETS}


def presets(names: Iterable[str]) -> list[Preset]:
    """Return the presets of names and of groups, each once; raise UsageError for a name that is neither."""
    return list(dict.fromkeys(it for name in names for it in _named(name)))


def group_of(its: Preset) -> str:
    """Return the name of its group."""
    return next(name for name, some in GROUPS.items() if its in some)


def _named(name: str) -> tuple[Preset, ...]:
    if name in _BY_NAME:
        return (_BY_NAME[name],)
    if name in GROUPS:
        return GROUPS[name]
    close = difflib.get_close_matches(name, [*GROUPS, *_BY_NAME], 1)
    remedy = f"did you mean {close[0]}?" if close else "xdpguard filter presets lists all of them"
    raise UsageError(f"no preset or group {visible(name)!r}", remedy)
