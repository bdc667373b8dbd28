# SPDX-License-Identifier: GPL-2.0
"""The Grafana dashboard and the Prometheus alerts for the metrics. Queries are in panels_*.py and alerts.yml."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from xdpguard.metrics.colours import BY_NAME
from xdpguard.metrics.panel import HOST, LINK, NETNS, Panel
from xdpguard.metrics.panels import PANELS

_SCHEMA = 39  # Grafana 10.3 to 12
_WIDE = 24  # units of Grafana's grid
_STAT_HEIGHT = 4
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard() -> str:
    """Return the dashboard in Grafana's import format."""
    panels: list[dict[str, Any]] = []
    down = 0
    for row, (height, its) in PANELS.items():
        title = {"type": "row", "title": row, "collapsed": False, "panels": []}
        panels.append(_placed(len(panels), title, 0, down, _WIDE, 1))
        down += 1
        right = tall = 0
        for it in its:
            if right + it.width > _WIDE:
                right, down = 0, down + tall
            tall = _STAT_HEIGHT if it.kind == "stat" else height
            panels.append(_placed(len(panels), _panel(it), right, down, it.width, tall))
            right += it.width
        down += tall
    found = {
        "title": "xdpguard",
        "description": "What xdpguard drops and why, SYN floods, rules, and the service: xdpguard dashboard makes it.",
        "uid": "xdpguard",
        "tags": ["xdpguard"],
        "schemaVersion": _SCHEMA,
        "editable": True,
        "graphTooltip": 1,  # one cursor in all panels
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": _variables()},
        "annotations": {"list": [_floods()]},
        "panels": panels,
    }
    return json.dumps(found, indent=2) + "\n"


def alerts() -> str:
    """Return the alert rules in Prometheus' format."""
    return (Path(__file__).parent / "alerts.yml").read_text(encoding="utf-8")


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
    custom: dict[str, Any] = {"stacking": {"mode": "normal"}, "fillOpacity": 30} if panel.stacked else {}
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0, "custom": custom}
    if panel.limits:
        defaults["thresholds"] = {"mode": "absolute", "steps": _steps(panel)}
        if panel.kind == "timeseries":
            custom["thresholdsStyle"] = {"mode": "dashed"}
        else:
            defaults["color"] = {"mode": "thresholds"}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": _colours(panel)},
        "options": {"colorMode": "background" if panel.limits else "value"} if panel.kind == "stat" else {},
    }


def _steps(panel: Panel) -> list[dict[str, Any]]:
    """Return the thresholds; the first has no value, which stands for everything below the second."""
    steps = panel.limits if math.isinf(panel.limits[0][0]) else ((-math.inf, "green"), *panel.limits)
    return [{"color": colour, "value": None if math.isinf(value) else value} for value, colour in steps]


def _colours(panel: Panel) -> list[dict[str, Any]]:
    """Return the overrides that give each reason, or action, its colour."""
    if not any(legend in ("{{reason}}", "{{action}}") for _, legend in panel.queries):
        return []
    return [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
        }
        for name, colour in BY_NAME.items()
    ]


def _floods() -> dict[str, Any]:
    """Return the annotation that marks floods in every panel, from begin to end."""
    return {
        "name": "SYN floods",
        "datasource": _SOURCE,
        "enable": True,
        "hide": False,
        "iconColor": "red",
        "expr": f"sum by (instance, interface, netns, cause) (xdpguard_guard_cause{{{LINK}}}) > 0",
        "step": "15s",
        "titleFormat": "SYN flood on {{interface}} {{netns}} of {{instance}}",
        "textFormat": "cause: {{cause}}",
        "tagKeys": "instance,interface,netns",
        "useValueForTime": False,
    }


def _variables() -> list[dict[str, Any]]:
    def labels(name: str, query: str, **more: str) -> dict[str, Any]:
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
            **more,
        }

    return [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "current": {}},
        labels("job", "label_values(xdpguard_build_info, job)"),
        labels("instance", 'label_values(xdpguard_build_info{job=~"$job"}, instance)'),
        # Metrics of the host's own namespace have no such label, which only ".*" matches: so All means those, too.
        labels(
            "netns", f"label_values(xdpguard_interface_attached{{{HOST}}}, netns)", allValue=".*", label="namespace"
        ),
        labels("interface", f"label_values(xdpguard_interface_attached{{{NETNS}}}, interface)"),
    ]
