# SPDX-License-Identifier: GPL-2.0
"""What the log says about the interfaces that are watched, and about the guard's policy."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from xdpguard.control.controller import Controller
from xdpguard.net.links import Link
from xdpguard.policy.model import Guard
from xdpguard.service.floods import name_of


def changes(before: Guard, after: Guard) -> str:
    """Return the settings that differ, in the ``key=value`` form of ``guard set``."""
    old, new = msgspec.to_builtins(before), msgspec.to_builtins(after)
    return ", ".join(f"{key}={new[key]}" for key in new if new[key] != old[key])


def watching(session: Controller, guard: Guard, links: Sequence[Link]) -> str:
    """Return which interfaces are watched, or why there is none under its recorded name."""
    if links:
        return f"watching {', '.join(map(name_of, links))}; guard {guard.mode}"
    if any(it.state == "renamed" for it in session.interfaces()):
        return "no interface is left to watch under its recorded name; the rules stay in force; waiting"
    return "nothing is attached anymore; waiting"
