# SPDX-License-Identifier: GPL-2.0
"""What an audit says of its repair: it looks again, and a repair that did nothing is not said to be done."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from xdpguard.control.audit import Audit, audit
from xdpguard.control.results import Share


class Kernel:
    """Two rules and three entries of a list, of which one each is held, and what a repair adds."""

    def __init__(self, adds: int, error: Exception | None = None) -> None:
        self.rules, self.entries = 1, 1
        self._adds, self._error = adds, error
        rules = SimpleNamespace(audit=lambda: (2, self.rules), seeded=lambda: True)
        lists = SimpleNamespace(shares=lambda: {"x": Share(3, self.entries)}, stale=lambda: False, fill=self.fill)
        nothing = SimpleNamespace(audit=lambda: (0, 0), shares=dict, stale=lambda: False)
        changes = SimpleNamespace(attached=lambda: True, pending=lambda: False, resync=self.resync)
        filters = SimpleNamespace(audit=lambda: Share(0, 0))
        self.ruleset: Any = SimpleNamespace(
            changes=changes,
            rules=rules,
            shadow_rules=nothing,
            lists=lists,
            shadow_lists=nothing,
            filters=filters,
            default=SimpleNamespace(stale=lambda: False, lacking=lambda carriers: []),
        )

    def resync(self, *images: object) -> bool:
        del images
        self.rules += self._adds
        return True

    def fill(self) -> None:
        if self._error:
            raise self._error
        self.entries += 2 * self._adds


def repaired(kernel: Kernel) -> Audit:
    found = audit(kernel.ruleset, repair=True)
    assert found is not None
    assert (found.rules, found.lists) == (Share(2, 1), {"x": Share(3, 1)}), "what was found before"
    return found


def test_a_repair() -> None:
    kernel = Kernel(adds=1)
    assert repaired(kernel).failed == ""
    assert (kernel.rules, kernel.entries) == (2, 3)


def test_a_repair_that_does_nothing() -> None:
    assert repaired(Kernel(adds=0)).failed == "1 of 2 rules, 1 of 3 entries of list x"


@pytest.mark.parametrize(
    ("error", "why"), [(OSError(12, "Cannot allocate memory"), " (Cannot allocate memory)"), (MemoryError(), "")]
)
def test_a_repair_that_the_kernel_refuses(error: Exception, why: str) -> None:
    assert repaired(Kernel(adds=1, error=error)).failed == f"1 of 3 entries of list x{why}"


def test_without_repair_nothing_is_changed() -> None:
    kernel = Kernel(adds=1)
    found = audit(kernel.ruleset)
    assert found is not None
    assert not found.whole
    assert (kernel.rules, kernel.entries, found.failed) == (1, 1, "")
