# SPDX-License-Identifier: GPL-2.0
"""The dashboard's three screens, each with the height of its panels in units of Grafana's grid."""

from __future__ import annotations

from xdpguard.metrics.panel import Panel
from xdpguard.metrics.panels_host import HOSTS
from xdpguard.metrics.panels_policy import POLICY
from xdpguard.metrics.panels_traffic import TRAFFIC

PANELS: dict[str, tuple[int, tuple[Panel, ...]]] = {
    "Traffic and floods": (6, TRAFFIC),
    "Rules, lists and filters": (5, POLICY),
    "Host, fleet and service": (5, HOSTS),
}
