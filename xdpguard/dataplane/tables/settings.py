# SPDX-License-Identifier: GPL-2.0
"""``struct xg_settings``: which tables the program looks into, closed ports, the secrets of its hash."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.sys.layouts.base import places
from xdpguard.dataplane.sys.layouts.rules import Settings

# Positions of fields among those that abi.SETTINGS unpacks.
_PLACES = places(Settings)
ALLOW4, ALLOW6, DENY4, DENY4_PREFIX = (_PLACES[it] for it in ("allow4", "allow6", "deny4", "deny4_prefix"))
DENY6, DENY6_PREFIX, DENY6_WIDE = (_PLACES[it] for it in ("deny6", "deny6_prefix", "deny6_wide"))
LISTS4, LISTS6, LISTS6_WIDE = (_PLACES[it] for it in ("lists4", "lists6", "lists6_wide"))
DENY, SHADOW, GENERATION = (_PLACES[it] for it in ("deny", "shadow", "generation"))
SHADOW_RULES4, SHADOW_RULES6 = (_PLACES[it] for it in ("shadow_rules4", "shadow_rules6"))
SHADOW_LISTS4, SHADOW_LISTS6, SHADOW_LISTS6_WIDE = (
    _PLACES[it] for it in ("shadow_lists4", "shadow_lists6", "shadow_lists6_wide")
)
FILTERS = _PLACES["filters"]
_KEY = bytes(4)


@contextmanager
def changing(descriptor: int) -> Iterator[list[int]]:
    """Read the settings' fields, and write them at the end of the block if they were changed in place."""
    raw = kernel.lookup(descriptor, _KEY, abi.SETTINGS.size)
    assert raw is not None  # an array always has its entry
    fields = list(abi.SETTINGS.unpack(raw))
    yield fields
    new = abi.SETTINGS.pack(*fields)
    if new != raw:
        kernel.update(descriptor, _KEY, new)


def renew(descriptor: int) -> None:
    """Invalidate the results cached per source. Call it after deny entries have changed, not before."""
    with changing(descriptor) as fields:
        fields[DENY] = int(any(fields[flag] for flag in (DENY4, DENY6, LISTS4, LISTS6)))
        fields[GENERATION] = (fields[GENERATION] + 1) % (1 << 64)


def renew_shadow(descriptor: int) -> None:
    """Tell the program whether there are shadow entries, after these have changed; it caches no results of them."""
    with changing(descriptor) as fields:
        fields[SHADOW] = int(any(fields[SHADOW_RULES4:SHADOW_LISTS6_WIDE]))
