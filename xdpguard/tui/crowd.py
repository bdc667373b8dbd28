# SPDX-License-Identifier: GPL-2.0
"""Sources that are too many, and send too little, to be told apart: in a spoofed flood, random addresses."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xdpguard.telemetry.dropped import Share
from xdpguard.telemetry.ranking import Ranking

PLACE = -1  # of the crowd's row, beside those of a ranking
_MANY = 1000  # sources from which they are a crowd
_FEW = 16  # SYNs of a source, up to which it is one of a crowd outside a spoofed flood
_TYPICAL = 4  # times the median of the SYNs of a source: who has more stands out


class Crowd(NamedTuple):
    """Sources of which each has sent at most ``most`` SYNs: how many they are, and the sums of their figures."""

    sources: int
    most: int
    syns: int
    rate: float
    drops: float
    drop_rate: float
    standing_out: NDArray[np.intp]  # the other sources, as places in the ranking


def crowd(ranking: Ranking, chance: Share, spoofed: bool) -> Crowd | None:
    """Return the crowd among sources; None without one. Sources with drops that are known to be theirs stand out.

    ``chance``: the drops of sources that were sampled too rarely to be named; ``spoofed``: in a spoofed flood.
    """
    if len(ranking.syns) < _MANY:
        return None
    most = max(1, int(_TYPICAL * np.median(ranking.syns)))
    if not spoofed:
        most = min(most, _FEW)
    among = (ranking.syns <= most) & (ranking.drops == 0)
    count = int(among.sum())
    if count < _MANY:
        return None
    return Crowd(
        count,
        most,
        int(ranking.syns[among].sum()),
        float(ranking.rates[among].sum()),
        chance.drops,
        chance.rate,
        np.flatnonzero(~among),
    )
