# SPDX-License-Identifier: GPL-2.0
"""The figures of bridges to other systems, as they have written them into the store."""

from __future__ import annotations

import time
from pathlib import Path

from xdpguard.metrics.samples import Gathering
from xdpguard.store.bridges import bridges
from xdpguard.store.database import Store


def put_bridges(path: Path, out: Gathering) -> None:
    """Add what each bridge says of itself. ``path``: of the store."""
    with Store(path, read_only=True) as store:
        found = bridges(store)
    for its in found:
        up = its.running and its.connected and not its.silent(time.time())
        out.put("xdpguard_bridge_running", its.running, its.name)
        out.put("xdpguard_bridge_connected", up, its.name)
        out.put("xdpguard_bridge_heard_timestamp_seconds", its.heard, its.name)
        out.put("xdpguard_bridge_entries", its.entries, its.name, "rules")
        out.put("xdpguard_bridge_entries", its.filters, its.name, "filters")
        out.put("xdpguard_bridge_refused", its.refused, its.name)
        out.put("xdpguard_bridge_failures_total", its.failures, its.name)
        out.put("xdpguard_bridge_sent_total", its.sent, its.name)
