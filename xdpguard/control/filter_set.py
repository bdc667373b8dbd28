# SPDX-License-Identifier: GPL-2.0
"""From stored filters to the set in the kernel."""

from __future__ import annotations

from collections.abc import Sequence

from xdpguard.control.filter_lists import FilterLists
from xdpguard.dataplane.tables.entries import boot_offset
from xdpguard.dataplane.tables.filterentries import ClassifierFilter, in_boottime
from xdpguard.dataplane.tables.filters import FilterTables
from xdpguard.policy.filter import Filter


class FilterSet(FilterTables):
    """The maps of the filters. Use as a context manager."""

    def put(self, filters: Sequence[ClassifierFilter], generation: int) -> None:
        """Put a set in force, or none. Raise OSError, and change nothing, if the kernel has no room for it."""
        if not filters:
            self.empty()
            return
        from xdpguard.dataplane.tables.classifier import compiled  # loads numpy

        held = self.parts()
        self.replace(*compiled([it._replace(held=held.get(it.slot)) for it in filters], generation))


def check_fits(filters: Sequence[Filter], lists: FilterLists) -> None:
    """Raise XdpguardError if no set can hold these filters."""
    if filters:
        from xdpguard.dataplane.tables.classifier import compiled

        compiled(built(filters, lists))


def built(filters: Sequence[Filter], lists: FilterLists) -> list[ClassifierFilter]:
    """Return filters, in order, with their lists as they are now and their ends as the kernel counts time."""
    offset = boot_offset()
    return [
        ClassifierFilter(
            lists.resolved(it.match), it.action, it.mode, in_boottime(it.expires, offset), it.slot, it.limit
        )
        for it in filters
    ]
