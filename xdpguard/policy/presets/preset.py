# SPDX-License-Identifier: GPL-2.0
"""What a ready-made filter consists of."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Preset(NamedTuple):
    """A ready-made filter, to be added in shadow mode first.

    ``text``: its match; ``rate`` and ``per``: of a limit, as written after --limit and --per; ``summary``: what
    it matches, and what honest traffic it would cut; ``source``: who says so: the number of an
    RFC and its section, of a CVE or an alert, or an address where there is no number.
    """

    name: str
    text: str
    action: Literal["drop", "limit"]
    summary: str
    source: str
    rate: str = ""
    per: str = "filter"
