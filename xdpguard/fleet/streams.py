# SPDX-License-Identifier: GPL-2.0
"""The streams that a fleet's server stores: its buckets, and its object store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from xdpguard.fleet.keys import BUCKET, HOSTS, LARGEST_PART, LISTS, SNAPSHOT


class Stream(NamedTuple):
    """A stream. ``each``: messages that stay for a subject, ``largest``: bytes of one, -1 for any; ``direct``: whether
    every server of a cluster may answer for it; ``live``: whether each change is published again.
    """

    name: str
    subjects: Sequence[str]
    each: int = 1
    largest: int = -1
    direct: bool = False
    live: bool = False


STREAMS = (
    Stream(f"KV_{BUCKET}", (f"$KV.{BUCKET}.>",), largest=8192, live=True),
    Stream(f"KV_{HOSTS}", (f"$KV.{HOSTS}.>",), largest=65_536),
    Stream(f"KV_{SNAPSHOT}", (f"$KV.{SNAPSHOT}.>",), largest=LARGEST_PART, direct=True),
    Stream(f"OBJ_{LISTS}", (f"$O.{LISTS}.C.>", f"$O.{LISTS}.M.>"), each=-1, direct=True),
)
