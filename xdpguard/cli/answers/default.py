# SPDX-License-Identifier: GPL-2.0
"""The answer of ``default show``."""

from __future__ import annotations

from msgspec import Struct


class CutPort(Struct, frozen=True):
    """Where packets go that belong to nothing; ``last``: Unix time."""

    port: str
    packets: int
    bytes: int
    sources: int
    last: int


class CutSource(Struct, frozen=True):
    """Where they come from; ``ports``: those that most go to; ``last``: Unix time."""

    source: str
    packets: int
    bytes: int
    ports: list[str]
    last: int


class DefaultShow(Struct, frozen=True, kw_only=True):
    """The default, and what it has cut since it is as it is (Unix time), or would have in shadow mode.

    ``set_here``: by a command, which overrides the configuration. ``dropped`` and ``observed``: packets since the
    interfaces were attached. ``published``: TCP ports that NAT passes on to containers;
    ``published_udp``: UDP ports, where only answers are admitted.
    """

    policy: str
    mode: str
    strict_udp: bool
    set_here: bool
    since: int | None
    interfaces: list[str]
    dropped: int
    observed: int
    ports: list[CutPort]
    sources: list[CutSource]
    published: list[int]
    published_udp: list[int]
