# SPDX-License-Identifier: GPL-2.0
"""The figures of one interface's counters."""

from __future__ import annotations

from xdpguard.dataplane.sys import abi
from xdpguard.metrics.samples import Gathering
from xdpguard.metrics.totals import Reading

_INITIAL = 0x12, 0x02  # of SYN and ACK, SYN alone


def put_counters(out: Gathering, place: tuple[str, str], reading: Reading) -> None:
    """Add what was counted on an interface. ``place``: its name and namespace."""
    its = reading.counters
    for reason in abi.reasons():
        count, labels = its.reasons[reason.name], (*place, reason.name, reason.action.lower())
        out.put("xdpguard_packets_total", count.packets, *labels)
        out.put("xdpguard_bytes_total", count.bytes, *labels)
        out.put("xdpguard_observed_packets_total", count.observed_packets, *labels)
        out.put("xdpguard_observed_bytes_total", count.observed_bytes, *labels)
    for flag, number in its.flags.items():
        out.put("xdpguard_tcp_flags_total", number, *place, flag)
    for protocol, number in its.protocols.items():
        out.put("xdpguard_protocol_packets_total", number, *place, protocol)
    mask, alone = _INITIAL
    out.put("xdpguard_syns_total", sum(n for flags, n in its.flag_sets.items() if flags & mask == alone), *place)
    out.put("xdpguard_tracking_skipped_total", its.sources_skipped, *place, "sources")
    out.put("xdpguard_tracking_skipped_total", its.tuples_skipped, *place, "tuples")
    out.put("xdpguard_events_lost_total", its.events_lost, *place)
    out.put("xdpguard_drop_samples_total", sum(its.samples.values()), *place)
    out.put("xdpguard_drop_samples_lost_total", its.samples_lost, *place)
    out.put("xdpguard_floods_total", reading.floods, *place)
    for name, number in (("sent", _all(reading, "cookie_sent")), ("bad", _all(reading, "cookie_bad"))):
        out.put(f"xdpguard_cookies_{name}_total", number, *place)
    out.put("xdpguard_cookies_valid_total", its.cookies_valid, *place)


def _all(reading: Reading, reason: str) -> int:
    count = reading.counters.reasons[reason]
    return count.packets + count.observed_packets
