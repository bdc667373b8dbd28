# SPDX-License-Identifier: GPL-2.0
"""The tables of rules in the kernel, as whoever writes them sees them; dataplane/tables has the real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from xdpguard.policy.hits import Hits, Split
from xdpguard.policy.rule import Rule
from xdpguard.policy.target import Prefix


class RuleTables(Protocol):
    """The maps of a mode, as rules see them."""

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
