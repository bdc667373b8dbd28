# SPDX-License-Identifier: GPL-2.0
"""The Grafana dashboard and the Prometheus alerts for the metrics. Every query is in here or in alerts.yml."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

_SCHEMA = 39  # Grafana 10.3 to 12
_WIDE, _HEIGHT = 24, 8  # units of Grafana's grid
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_HOST = 'job=~"$job",instance=~"$instance"'
_LINK = f'{_HOST},interface=~"$interface"'
_RATE = "[$__rate_interval]"
_NAME = "{{interface}} {{netns}}"

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
    return f"sum by ({by}) (rate({name}{{{_LINK if link else _HOST}{more}}}{_RATE}))"


def _filled(queue: str) -> tuple[str, str]:
    """Return the query for the usage of listeners' queues, as a fraction."""
    name = f"xdpguard_tcp_{queue}"
    return f"{name}{{{_HOST}}} / {name}_limit{{{_HOST}}}", "{{address}} {{port}} {{netns}}"


def _quantile(name: str, share: float) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate({name}_bucket{{{_HOST}}}{_RATE})))"


_PANELS: dict[str, tuple[Panel, ...]] = {
    "Now": (
        Panel("Packets", ((_rate("xdpguard_packets_total", "instance"), ""),), "pps", 4, "stat"),
        Panel("Dropped", ((_rate("xdpguard_packets_total", "instance", ',action="drop"'), ""),), "pps", 4, "stat"),
        Panel(
            "Guard active", ((f"max by (instance) (xdpguard_guard_active{{{_LINK}}})", ""),), "bool_yes_no", 4, "stat"
        ),
        Panel("Bans", ((f"sum by (instance) (xdpguard_bans{{{_HOST}}})", ""),), "short", 4, "stat"),
        Panel(
            "Enforced", ((f"min by (instance) (xdpguard_enforcement_ratio{{{_HOST}}})", ""),), "percentunit", 4, "stat"
        ),
        Panel(
            "Interfaces attached",
            ((f"sum by (instance) (xdpguard_interface_attached{{{_LINK}}})", ""),),
            "short",
            4,
            "stat",
        ),
    ),
    "Traffic": (
        Panel(
            "Packets by reason", ((_rate("xdpguard_packets_total", "reason"), "{{reason}}"),), "pps", 12, stacked=True
        ),
        Panel("Bytes by action", ((_rate("xdpguard_bytes_total", "action"), "{{action}}"),), "Bps", 12, stacked=True),
        Panel(
            "Dropped by reason", ((_rate("xdpguard_packets_total", "reason", ',action="drop"'), "{{reason}}"),), "pps"
        ),
        Panel(
            "Observed only",
            (
                (_rate("xdpguard_observed_packets_total", "reason", ',action!="pass"'), "{{reason}}"),
                (_rate("xdpguard_observed_bytes_total", "instance", ',action!="pass"'), "bytes"),
            ),
            "short",
        ),
        Panel("Interfaces", ((_rate("xdpguard_packets_total", "interface, netns"), _NAME),), "pps"),
        Panel("Protocols", ((_rate("xdpguard_protocol_packets_total", "protocol"), "{{protocol}}"),), "pps", 12),
        Panel("TCP flags", ((_rate("xdpguard_tcp_flags_total", "flag"), "{{flag}}"),), "pps", 12),
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
        Panel("Top sources by SYNs", ((f"xdpguard_top_source_syns{{{_HOST}}}", "{{source}}"),), "short", 8, "table"),
        Panel("Top ports by SYNs", ((f"xdpguard_top_port_syns{{{_HOST}}}", "{{port}}"),), "short", 8, "table"),
        Panel(
            "Mode and tcp_syncookies",
            (
                (f"xdpguard_guard_mode{{{_HOST}}} == 1", "mode {{mode}}"),
                (f"xdpguard_guard_tcp_syncookies{{{_HOST}}}", "tcp_syncookies {{netns}}"),
            ),
        ),
    ),
    "Rules and lists": (
        Panel("Rules in force", ((f"sum by (kind) (xdpguard_rules{{{_HOST}}})", "{{kind}}"),), "short", 6),
        Panel("Rule hits", ((_rate("xdpguard_rule_hits_total", "kind", "", False), "{{kind}}"),), "pps", 6),
        Panel("List entries", ((f"sum by (list) (xdpguard_list_entries{{{_HOST}}})", "{{list}}"),), "short", 6),
        Panel("List hits", ((_rate("xdpguard_list_hits_total", "list", "", False), "{{list}}"),), "pps", 6),
        Panel(
            "Would-be hits of shadow entries",
            ((_rate("xdpguard_shadow_packets_total", "class", "", False), "{{class}}"),),
            "pps",
            12,
        ),
        Panel("Shadow entries", ((f"sum by (of) (xdpguard_shadow_entries{{{_HOST}}})", "{{of}}"),), "short", 12),
        Panel(
            "Stored and held by the kernel",
            (
                (f"sum by (of) (xdpguard_enforcement_stored{{{_HOST}}})", "{{of}} stored"),
                (f"sum by (of) (xdpguard_enforcement_held{{{_HOST}}})", "{{of}} held"),
            ),
            "short",
            12,
        ),
        Panel(
            "Age of lists",
            ((f"time() - xdpguard_list_loaded_timestamp_seconds{{{_HOST}}}", "{{list}}"),),
            "s",
            12,
        ),
    ),
    "TCP on this host": (
        Panel("Sockets by state", ((f"sum by (state) (xdpguard_tcp_sockets{{{_HOST}}})", "{{state}}"),), "short"),
        Panel(
            "State transitions",
            ((_rate("xdpguard_tcp_transitions_total", "old, new", "", False), "{{old}} to {{new}}"),),
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
    "Service": (
        Panel(
            "Tables",
            (
                (f"xdpguard_tracked_tuples{{{_HOST}}}", "tuples"),
                (f"xdpguard_tracked_syns{{{_HOST}}}", "SYNs of them"),
                (_rate("xdpguard_tracking_skipped_total", "table"), "{{table}} not tracked a second"),
                (_rate("xdpguard_events_lost_total", "instance"), "events lost a second"),
                (_rate("xdpguard_drop_samples_total", "instance"), "samples of drops a second"),
                (_rate("xdpguard_drop_samples_lost_total", "instance"), "of these lost a second"),
            ),
        ),
        Panel(
            "Times",
            (
                (f"xdpguard_scrape_duration_seconds{{{_HOST}}}", "gathering"),
                (f"xdpguard_loop_age_seconds{{{_HOST}}}", "since the loop last ran"),
            ),
            "s",
        ),
        Panel(
            "Health",
            (
                (f"xdpguard_config_last_reload_successful{{{_HOST}}}", "configuration accepted"),
                (f"min by (collector) (xdpguard_scrape_collector_success{{{_HOST}}})", "{{collector}} read"),
            ),
        ),
        Panel("Version", ((f"xdpguard_build_info{{{_HOST}}}", ""),), "short", 12, "table"),
        Panel("How attached", ((f"xdpguard_interface_info{{{_LINK}}}", ""),), "short", 12, "table"),
    ),
}


def dashboard() -> str:
    """Return the dashboard in Grafana's import format."""
    panels: list[dict[str, Any]] = []
    down = 0
    for row, its in _PANELS.items():
        panels.append(
            _placed(len(panels), {"type": "row", "title": row, "collapsed": False, "panels": []}, 0, down, _WIDE, 1)
        )
        down += 1
        right = 0
        for it in its:
            if right + it.width > _WIDE:
                right, down = 0, down + _height(it)
            panels.append(_placed(len(panels), _panel(it), right, down, it.width, _height(it)))
            right += it.width
        down += _height(its[-1])
    found = {
        "title": "xdpguard",
        "uid": "xdpguard",
        "tags": ["xdpguard"],
        "schemaVersion": _SCHEMA,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "panels": panels,
    }
    return json.dumps(found, indent=2) + "\n"


def alerts() -> str:
    """Return the alert rules in Prometheus' format."""
    return (Path(__file__).parent / "alerts.yml").read_text(encoding="utf-8")


def _height(panel: Panel) -> int:
    return _HEIGHT // 2 if panel.kind == "stat" else _HEIGHT


def _placed(number: int, panel: dict[str, Any], x: int, y: int, width: int, height: int) -> dict[str, Any]:
    return {"id": number + 1, **panel, "gridPos": {"x": x, "y": y, "w": width, "h": height}}


def _panel(panel: Panel) -> dict[str, Any]:
    targets = [
        {
            "refId": chr(ord("A") + number),
            "datasource": _SOURCE,
            "expr": query,
            "legendFormat": legend or "__auto",
            **({"instant": True, "format": "table"} if panel.kind == "table" else {"range": True}),
        }
        for number, (query, legend) in enumerate(panel.queries)
    ]
    custom = {"stacking": {"mode": "normal"}, "fillOpacity": 30} if panel.stacked else {}
    return {
        "type": panel.kind,
        "title": panel.title,
        "datasource": _SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": custom}, "overrides": []},
        "options": {},
    }


def _variables() -> list[dict[str, Any]]:
    def labels(name: str, query: str) -> dict[str, Any]:
        return {
            "name": name,
            "type": "query",
            "datasource": _SOURCE,
            "query": {"query": query, "refId": name},
            "definition": query,
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "current": {"text": ["All"], "value": ["$__all"]},
        }

    return [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "current": {}},
        labels("job", "label_values(xdpguard_build_info, job)"),
        labels("instance", 'label_values(xdpguard_build_info{job=~"$job"}, instance)'),
        labels("interface", f"label_values(xdpguard_interface_attached{{{_HOST}}}, interface)"),
    ]
