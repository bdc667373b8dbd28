# SPDX-License-Identifier: GPL-2.0
"""The interface of the kernel's rule tables for their writers; implemented in dataplane/tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from xdpguard.policy.hits import Hits, Split
from xdpguard.policy.rule import Rule
from xdpguard.policy.target import Prefix


class RuleTables(Protocol):
    """The maps that hold the rules of one mode."""

    capacity: int

    def add(self, rules: Iterable[Rule]) -> None: ...
    def remove(
        self, rules: Iterable[Rule], still_touched: Callable[[Prefix], bool], remaining: Callable[[], Iterable[Rule]]
    ) -> None: ...
    def sync(self, rules: Iterable[Rule]) -> int: ...
    def held(self, rules: Iterable[Rule]) -> int: ...
    def clear_hits(self, slots: Iterable[int]) -> None: ...
    def hits(self) -> Callable[[int], Hits | Split]: ...
    def generation(self) -> str: ...
