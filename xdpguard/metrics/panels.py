# SPDX-License-Identifier: GPL-2.0
"""The panels of the dashboard: what each shows, as queries in PromQL."""

from __future__ import annotations

from typing import Literal, NamedTuple

HOST = 'job=~"$job",instance=~"$instance"'
_LINK = f'{HOST},interface=~"$interface"'
_RATE = "[$__rate_interval]"
_NAME = "{{interface}} {{netns}}"
_FILTER = "{{filter}} ({{action}}, {{mode}})"

Kind = Literal["timeseries", "stat", "table"]


class Panel(NamedTuple):
    """A panel: its queries with their legends, the unit in Grafana's notation, its width out of 24."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    width: int = 8
    kind: Kind = "timeseries"
    stacked: bool = False


def _rate(name: str, by: str, more: str = "", link: bool = True) -> str:
    return f"sum by ({by}) (rate({name}{{{_LINK if link else HOST}{more}}}{_RATE}))"


def _filled(queue: str) -> tuple[str, str]:
    """Return the query for the usage of listeners' queues, as a fraction."""
    name = f"xdpguard_tcp_{queue}"
    return f"{name}{{{HOST}}} / {name}_limit{{{HOST}}}", "{{address}} {{port}} {{netns}}"


def _quantile(name: str, share: float) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate({name}_bucket{{{HOST}}}{_RATE})))"


def _one(
    title: str, query: str, legend: str, unit: str, width: int = 8, kind: Kind = "timeseries", stacked: bool = False
) -> Panel:
    """Return a panel of one query."""
    return Panel(title, ((query, legend),), unit, width, kind, stacked)


def _stat(title: str, query: str, unit: str) -> Panel:
    """Return a panel of one large number."""
    return Panel(title, ((query, ""),), unit, 4, "stat")


PANELS: dict[str, tuple[Panel, ...]] = {
    "Now": (
        _stat("Packets", _rate("xdpguard_packets_total", "instance"), "pps"),
        _stat("Dropped", _rate("xdpguard_packets_total", "instance", ',action="drop"'), "pps"),
        _stat("Guard active", f"max by (instance) (xdpguard_guard_active{{{_LINK}}})", "bool_yes_no"),
        _stat("Bans", f"sum by (instance) (xdpguard_bans{{{HOST}}})", "short"),
        _stat("Enforced", f"min by (instance) (xdpguard_enforcement_ratio{{{HOST}}})", "percentunit"),
        _stat("Interfaces attached", f"sum by (instance) (xdpguard_interface_attached{{{_LINK}}})", "short"),
    ),
    "Traffic": (
        _one("Packets by reason", _rate("xdpguard_packets_total", "reason"), "{{reason}}", "pps", 12, stacked=True),
        _one("Bytes by action", _rate("xdpguard_bytes_total", "action"), "{{action}}", "Bps", 12, stacked=True),
        _one("Dropped by reason", _rate("xdpguard_packets_total", "reason", ',action="drop"'), "{{reason}}", "pps"),
        Panel(
            "Observed only",
            (
                (_rate("xdpguard_observed_packets_total", "reason", ',action!="pass"'), "{{reason}}"),
                (_rate("xdpguard_observed_bytes_total", "instance", ',action!="pass"'), "bytes"),
            ),
            "short",
        ),
        _one("Interfaces", _rate("xdpguard_packets_total", "interface, netns"), _NAME, "pps"),
        _one("Protocols", _rate("xdpguard_protocol_packets_total", "protocol"), "{{protocol}}", "pps", 12),
        _one("TCP flags", _rate("xdpguard_tcp_flags_total", "flag"), "{{flag}}", "pps", 12),
    ),
    "SYN guard": (
        Panel(
            "SYNs and cookies",
            (
                (_rate("xdpguard_syns_total", "instance"), "SYNs"),
                (_rate("xdpguard_cookies_sent_total", "instance"), "cookies sent"),
                (_rate("xdpguard_cookies_valid_total", "instance"), "returned valid"),
                (_rate("xdpguard_cookies_bad_total", "instance"), "invalid"),
            ),
            "pps",
            12,
        ),
        Panel(
            "Floods and their causes",
            (
                (f"sum by (cause) (xdpguard_guard_cause{{{_LINK}}})", "{{cause}}"),
                (f"sum by (interface, netns) (increase(xdpguard_floods_total{{{_LINK}}}{_RATE}))", f"begun on {_NAME}"),
            ),
            "short",
            12,
        ),
        _one("Top sources by SYNs", f"xdpguard_top_source_syns{{{HOST}}}", "{{source}}", "short", 8, "table"),
        _one("Top ports by SYNs", f"xdpguard_top_port_syns{{{HOST}}}", "{{port}}", "short", 8, "table"),
        Panel(
            "Mode and tcp_syncookies",
            (
                (f"xdpguard_guard_mode{{{HOST}}} == 1", "mode {{mode}}"),
                (f"xdpguard_guard_tcp_syncookies{{{HOST}}}", "tcp_syncookies {{netns}}"),
            ),
        ),
    ),
    "Rules and lists": (
        _one("Rules in force", f"sum by (kind) (xdpguard_rules{{{HOST}}})", "{{kind}}", "short", 6),
        _one("Rule hits", _rate("xdpguard_rule_hits_total", "kind", "", False), "{{kind}}", "pps", 6),
        _one("List entries", f"sum by (list) (xdpguard_list_entries{{{HOST}}})", "{{list}}", "short", 6),
        _one("List hits", _rate("xdpguard_list_hits_total", "list", "", False), "{{list}}", "pps", 6),
        _one(
            "Would-be hits of shadow entries",
            _rate("xdpguard_shadow_packets_total", "class", "", False),
            "{{class}}",
            "pps",
            12,
        ),
        _one("Shadow entries", f"sum by (of) (xdpguard_shadow_entries{{{HOST}}})", "{{of}}", "short", 12),
        Panel(
            "Stored and held by the kernel",
            (
                (f"sum by (of) (xdpguard_enforcement_stored{{{HOST}}})", "{{of}} stored"),
                (f"sum by (of) (xdpguard_enforcement_held{{{HOST}}})", "{{of}} held"),
            ),
            "short",
            12,
        ),
        _one("Age of lists", f"time() - xdpguard_list_loaded_timestamp_seconds{{{HOST}}}", "{{list}}", "s", 12),
    ),
    "Filters": (
        _one("Matched", _rate("xdpguard_filter_hits_total", "filter, action, mode", "", False), _FILTER, "pps"),
        _one(
            "Matched bytes", _rate("xdpguard_filter_hit_bytes_total", "filter, action, mode", "", False), _FILTER, "Bps"
        ),
        _one(
            "Above their limits",
            _rate("xdpguard_filter_limited_packets_total", "filter, action, mode", "", False),
            _FILTER,
            "pps",
        ),
        _one(
            "Dropped by filters",
            _rate("xdpguard_packets_total", "reason", ',reason=~"filter|filter_limit"'),
            "{{reason}}",
            "pps",
            12,
        ),
        _one("Filters in force", f"sum by (mode) (xdpguard_filters{{{HOST}}})", "{{mode}}", "short", 12),
    ),
    "TCP on this host": (
        _one("Sockets by state", f"sum by (state) (xdpguard_tcp_sockets{{{HOST}}})", "{{state}}", "short"),
        _one(
            "State transitions",
            _rate("xdpguard_tcp_transitions_total", "old, new", "", False),
            "{{old}} to {{new}}",
            "ops",
        ),
        Panel(
            "Retransmitted segments",
            (
                (_rate("xdpguard_tcp_retransmissions_total", "kind", "", False), "{{kind}}"),
                (_rate("xdpguard_tcp_synack_retransmissions_total", "port", "", False), "SYN-ACKs of port {{port}}"),
            ),
            "pps",
        ),
        Panel("Accept queue", (_filled("accept_queue"),), "percentunit"),
        Panel("SYN backlog", (_filled("syn_backlog"),), "percentunit"),
        Panel(
            "Round-trip times, with [metrics.tcp] rtt",
            (
                (_quantile("xdpguard_tcp_rtt_seconds", 0.5), "median"),
                (_quantile("xdpguard_tcp_rtt_seconds", 0.95), "95 %"),
                (_quantile("xdpguard_tcp_rtt_seconds", 0.99), "99 %"),
            ),
            "s",
        ),
    ),
    "Fleet": (
        Panel(
            "Entries of the fleet",
            (
                (f"sum by (of) (xdpguard_fleet_entries{{{HOST}}})", "{{of}}"),
                (f"xdpguard_fleet_outbox{{{HOST}}}", "to be published"),
            ),
        ),
        Panel(
            "Connection",
            (
                (f"xdpguard_fleet_connected{{{HOST}}}", "connected"),
                (_rate("xdpguard_fleet_gaps_total", "instance", "", False), "gaps a second"),
                (_rate("xdpguard_fleet_snapshots_refused_total", "instance", "", False), "snapshots refused a second"),
            ),
        ),
        Panel(
            "Since the fleet's last message",
            ((f"time() - xdpguard_fleet_last_message_timestamp_seconds{{{HOST}}}", "age"),),
            "s",
        ),
    ),
    "Service": (
        Panel(
            "Tables",
            (
                (f"xdpguard_tracked_tuples{{{HOST}}}", "tuples"),
                (f"xdpguard_tracked_syns{{{HOST}}}", "SYNs of them"),
                (_rate("xdpguard_tracking_skipped_total", "table"), "{{table}} not tracked a second"),
                (_rate("xdpguard_events_lost_total", "instance"), "events lost a second"),
                (_rate("xdpguard_drop_samples_total", "instance"), "samples of drops a second"),
                (_rate("xdpguard_drop_samples_lost_total", "instance"), "of these lost a second"),
            ),
        ),
        Panel(
            "Times",
            (
                (f"xdpguard_scrape_duration_seconds{{{HOST}}}", "gathering"),
                (f"xdpguard_loop_age_seconds{{{HOST}}}", "since the loop last ran"),
            ),
            "s",
        ),
        Panel(
            "Health",
            (
                (f"xdpguard_config_last_reload_successful{{{HOST}}}", "configuration accepted"),
                (f"min by (collector) (xdpguard_scrape_collector_success{{{HOST}}})", "{{collector}} read"),
            ),
        ),
        Panel(
            "Bridges",
            (
                (f"xdpguard_bridge_running{{{HOST}}}", "{{bridge}} running"),
                (f"xdpguard_bridge_connected{{{HOST}}}", "{{bridge}} connected"),
                (f"time() - xdpguard_bridge_heard_timestamp_seconds{{{HOST}}}", "{{bridge}} heard, seconds ago"),
                (f"xdpguard_bridge_entries{{{HOST}}}", "{{bridge}}, {{of}}"),
                (f"xdpguard_bridge_refused{{{HOST}}}", "{{bridge}}, refused"),
                (_rate("xdpguard_bridge_failures_total", "bridge", "", False), "{{bridge}}, failures a second"),
                (_rate("xdpguard_bridge_sent_total", "bridge", "", False), "{{bridge}}, sent a second"),
            ),
        ),
        _one("Version", f"xdpguard_build_info{{{HOST}}}", "", "short", 12, "table"),
        _one("How attached", f"xdpguard_interface_info{{{_LINK}}}", "", "short", 12, "table"),
    ),
}
