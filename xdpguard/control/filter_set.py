# SPDX-License-Identifier: GPL-2.0
"""From stored filters to what the kernel's classifier is made of."""

from __future__ import annotations

from collections.abc import Sequence

from xdpguard.control.filter_lists import FilterLists
from xdpguard.dataplane.tables.classifier import ClassifierFilter
from xdpguard.dataplane.tables.entries import boot_offset
from xdpguard.policy.filter import Filter


def built(filters: Sequence[Filter], lists: FilterLists) -> list[ClassifierFilter]:
    """Return filters, in order, with their lists as they are now and their ends as the kernel counts time."""
    offset = boot_offset()
    return [
        ClassifierFilter(
            match=lists.resolved(it.match),
            action=it.action,
            mode=it.mode,
            expires_ns=0 if it.expires is None else max(1, int((it.expires + offset) * 1e9)),
            slot=it.slot,
            limit=it.limit,
        )
        for it in filters
    ]
