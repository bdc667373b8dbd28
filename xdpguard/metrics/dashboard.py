# SPDX-License-Identifier: GPL-2.0
"""The Grafana dashboard and the Prometheus alerts for the metrics. Every query is in panels.py or in alerts.yml."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from xdpguard.metrics.panels import HOST, PANELS, Panel

_SCHEMA = 39  # Grafana 10.3 to 12
_WIDE, _HEIGHT = 24, 8  # units of Grafana's grid
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard() -> str:
    """Return the dashboard in Grafana's import format."""
    panels: list[dict[str, Any]] = []
    down = 0
    for row, its in PANELS.items():
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
        labels("interface", f"label_values(xdpguard_interface_attached{{{HOST}}}, interface)"),
    ]
