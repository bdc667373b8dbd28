# SPDX-License-Identifier: GPL-2.0
"""The interface of the kernel's rule tables for their writers, implemented in dataplane/tables; and writing to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

from xdpguard.control.change import Changes, Image
from xdpguard.errors import XdpguardError
from xdpguard.policy.hits import Hits, Split
from xdpguard.policy.rule import Rule
from xdpguard.policy.target import Prefix

if TYPE_CHECKING:
    from xdpguard.dataplane.tables.filterentries import ClassifierFilter


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
    def seeded(self) -> bool: ...


class FilterTables(Protocol):
    """The maps that hold the filters."""

    def put(self, filters: Sequence[ClassifierFilter], generation: int) -> None: ...
    def in_force(self) -> int: ...
    def digest(self) -> int: ...
    def generation(self) -> str: ...
    def clear_hits(self, slots: Iterable[int]) -> None: ...
    def hits(self) -> Callable[[int], tuple[int, int, int, int]]: ...


@contextmanager
def opened(changes: Changes, tables: Callable[[], AbstractContextManager[RuleTables]]) -> Iterator[RuleTables | None]:
    """Yield the maps, or None while nothing is attached."""
    if not changes.attached():
        yield None
        return
    with tables() as found:
        yield found


@contextmanager
def touching(changes: Changes, image: Image, words: str) -> Iterator[None]:
    """Run the kernel part of a change. Raise XdpguardError if the kernel refuses. ``words``: what the image holds."""
    changes.touch(image, words.replace(" ", "-"))
    try:
        yield
    except OSError as error:
        raise XdpguardError(
            f"the kernel did not accept the {words}: {error.strerror}", "nothing was changed; see xdpguard doctor"
        ) from error
