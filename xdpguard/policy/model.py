# SPDX-License-Identifier: GPL-2.0
"""The policy of an instance: frozen, typed, with every default. Filled by load.py."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

# Bounds keep a typing error from asking the kernel for all memory.
_Entries = Annotated[int, Meta(ge=1024, le=16_777_216)]
_Rate = Annotated[int, Meta(ge=0, le=100_000_000)]


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """``[limits]``: sizes of the kernel's tables, in entries, and how fast they may fill."""

    rules: _Entries = 131_072
    sources: _Entries = 65_536
    tuples: _Entries = 65_536
    new_sources_per_second: _Rate = 10_000
    new_tuples_per_second: _Rate = 10_000


class Sanity(Struct, frozen=True, forbid_unknown_fields=True):
    """``[sanity]``: which impossible packets are dropped."""

    bad_flags: bool = True
    bad_source: bool = True


class Rules(Struct, frozen=True, forbid_unknown_fields=True):
    """``[rules]``: rules that stand in the file, in force from each attach on."""

    allow: tuple[str, ...] = ()
    block: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()


class Policy(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    limits: Limits = field(default_factory=Limits)
    sanity: Sanity = field(default_factory=Sanity)
    rules: Rules = field(default_factory=Rules)
