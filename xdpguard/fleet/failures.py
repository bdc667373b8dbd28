# SPDX-License-Identifier: GPL-2.0
"""What is raised by whatever talks to the fleet's server."""

from __future__ import annotations

from xdpguard.errors import XdpguardError


class Unreachable(XdpguardError):
    """The fleet's server does not answer, or refuses this host."""
