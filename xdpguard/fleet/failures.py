# SPDX-License-Identifier: GPL-2.0
"""What is raised by whatever talks to the fleet's server."""

from __future__ import annotations

from xdpguard.errors import XdpguardError
from xdpguard.fleet.keys import OPERATOR, SETTLED


class Unreachable(XdpguardError):
    """The fleet's server does not answer, or refuses this host."""


def not_permitted(what: str) -> Unreachable:
    """Return what to raise where the server does not let this host publish a key, or "lists"."""
    if what not in ("lists", SETTLED) and not what.startswith(f"{OPERATOR}.list."):
        return Unreachable(
            f"the fleet's server does not let this host publish {what}",
            "a host publishes under its own name only; an operator's credentials may do more",
        )
    named = "what all hosts are to follow" if what == SETTLED else "lists"
    return Unreachable(
        f"the fleet's server does not let this host publish {named}: that takes the operator's credentials",
        "give them with --credentials FILE: the operator.toml that xdpguard fleet setup wrote",
    )
