# SPDX-License-Identifier: GPL-2.0
"""The second screen of the dashboard: rules, lists and filters, and what they match."""

from __future__ import annotations

from xdpguard.metrics.panel import HOST, LINK, Panel, one, rate

_FILTER = "{{filter}} ({{action}}, {{mode}})"


def _filter_rate(name: str) -> str:
    return rate(name, "filter, action, mode", "", HOST)


POLICY: tuple[Panel, ...] = (
    one(
        "Rules in force",
        "By kind: xdpguard rules lists them.",
        f"sum by (kind) (xdpguard_rules{{{HOST}}})",
        "{{kind}}",
    ),
    one(
        "Rule hits",
        "Packets that rules of a kind matched.",
        rate("xdpguard_rule_hits_total", "kind", "", HOST),
        "{{kind}}",
        "pps",
    ),
    one(
        "List entries",
        "Prefixes of each list: xdpguard lists shows them.",
        f"sum by (list) (xdpguard_list_entries{{{HOST}}})",
        "{{list}}",
    ),
    one(
        "List hits",
        "Packets that each list dropped.",
        rate("xdpguard_list_hits_total", "list", "", HOST),
        "{{list}}",
        "pps",
    ),
    one(
        "Matched by filters",
        "Packets that each filter matched, dropped or not: xdpguard filter list.",
        _filter_rate("xdpguard_filter_hits_total"),
        _FILTER,
        "pps",
        8,
    ),
    one(
        "Bits matched by filters",
        "The same in bits a second.",
        f"8 * {_filter_rate('xdpguard_filter_hit_bytes_total')}",
        _FILTER,
        "bps",
        8,
    ),
    one(
        "Above their limits",
        "Packets above a filter's limit: dropped, or in shadow only counted.",
        _filter_rate("xdpguard_filter_limited_packets_total"),
        _FILTER,
        "pps",
        8,
    ),
    one(
        "Dropped by filters",
        "By filters that drop, and by filters that limit.",
        rate("xdpguard_packets_total", "reason", ',reason=~"filter|filter_limit"', LINK),
        "{{reason}}",
        "pps",
    ),
    one(
        "Filters in force",
        "Those in shadow only count.",
        f"sum by (mode) (xdpguard_filters{{{HOST}}})",
        "{{mode}}",
    ),
    one(
        "Would-be hits of shadow entries",
        "What shadow rules and lists would drop; established: of open connections, so look before xdpguard promote.",
        rate("xdpguard_shadow_packets_total", "class", "", HOST),
        "{{class}}",
        "pps",
    ),
    one(
        "Shadow entries",
        "Shadow rules, and entries of shadow lists.",
        f"sum by (of) (xdpguard_shadow_entries{{{HOST}}})",
        "{{of}}",
    ),
    Panel(
        "Stored and held by the kernel",
        "Both lines agree unless somebody else changed the kernel's tables; each audit restores them.",
        (
            (f"sum by (of) (xdpguard_enforcement_stored{{{HOST}}})", "{{of}} stored"),
            (f"sum by (of) (xdpguard_enforcement_held{{{HOST}}})", "{{of}} held"),
        ),
        width=12,
    ),
    one(
        "Age of lists",
        "Since each list was loaded; the line is at a week: xdpguard lists load reads it again.",
        f"time() - xdpguard_list_loaded_timestamp_seconds{{{HOST}}}",
        "{{list}}",
        "s",
        12,
        limits=((604_800, "yellow"),),
    ),
)
