# SPDX-License-Identifier: GPL-2.0
"""The colours of the dashboard: one for each reason and action, in every panel the same. Names are Grafana's."""

from __future__ import annotations

BY_NAME = {
    # Actions, where they are not also reasons.
    "drop": "red",
    "tx": "yellow",
    # Passed: greens and blues.
    "pass": "green",
    "allow": "dark-green",
    "non_ip": "light-blue",
    "fragment": "blue",
    # Answered.
    "cookie_sent": "yellow",
    # Dropped: from red to purple.
    "malformed": "light-red",
    "deny": "red",
    "closed_port": "orange",
    "bad_flags": "light-orange",
    "bad_source": "dark-orange",
    "syn_rate": "dark-yellow",
    "cookie_bad": "super-light-red",
    "ack_unknown": "semi-dark-red",
    "filter": "purple",
    "filter_limit": "light-purple",
    "default_deny": "dark-red",
}
