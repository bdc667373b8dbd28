# SPDX-License-Identifier: GPL-2.0
"""Metrics of the fleet's common entries, as the service's loop found them last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from xdpguard.metrics.samples import Gathering


class FleetTotals(NamedTuple):
    """All hosts of the fleet together: see `Totals` of fleet/hosts.py."""

    hosts: int
    silent: int
    flooded: int
    floods: int
    drops: Mapping[str, float]
    bans: int
    sources: int


class FleetFigures(NamedTuple):
    """How this host stands in its fleet. ``heard``: when the last message came, Unix time, 0 for never."""

    connected: bool
    wanted: int
    held: int
    refused: int
    broken: int
    outbox: int
    gaps: int
    heard: float
    snapshots_refused: int
    totals: FleetTotals | None = None


def put(out: Gathering, its: FleetFigures) -> None:
    """Add the figures."""
    out.put("xdpguard_fleet_connected", its.connected)
    for of in ("wanted", "held", "refused", "broken"):
        out.put("xdpguard_fleet_entries", getattr(its, of), of)
    out.put("xdpguard_fleet_outbox", its.outbox)
    out.put("xdpguard_fleet_gaps_total", its.gaps)
    out.put("xdpguard_fleet_snapshots_refused_total", its.snapshots_refused)
    if its.heard:
        out.put("xdpguard_fleet_last_message_timestamp_seconds", its.heard)
    if its.totals is not None:
        _put_totals(out, its.totals)


def _put_totals(out: Gathering, its: FleetTotals) -> None:
    out.put("xdpguard_fleet_hosts", its.hosts - its.silent, "heard")
    out.put("xdpguard_fleet_hosts", its.silent, "silent")
    out.put("xdpguard_fleet_hosts", its.flooded, "flooded")
    out.put("xdpguard_fleet_floods", its.floods)
    out.put("xdpguard_fleet_bans", its.bans)
    out.put("xdpguard_fleet_sources", its.sources)
    for reason, rate in its.drops.items():
        out.put("xdpguard_fleet_dropped_packets_per_second", rate, reason)
