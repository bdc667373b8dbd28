# SPDX-License-Identifier: GPL-2.0
"""What is known about a prefix, or about ports: the rules, lists and filters that there are for them."""

from __future__ import annotations

from xdpguard.control.ruleset import Ruleset
from xdpguard.explain.answers import Filter, Port, Range
from xdpguard.explain.entries import Entries
from xdpguard.policy.target import Port as Number
from xdpguard.policy.target import Prefix

_SHOWN = 10  # rules for part of a prefix


def of_prefix(ruleset: Ruleset, prefix: Prefix, attached: bool) -> Range:
    """Return the rules and lists for all or part of a prefix. Nothing needs to be attached."""
    entries = Entries(ruleset)
    inside = entries.inside(prefix)
    return Range(
        prefix=str(prefix),
        allow=entries.covering("allow", prefix),
        block=entries.covering("block", prefix),
        shadow=entries.shadow_rules(prefix),
        inside=entries.answers(inside[:_SHOWN]),
        inside_total=len(inside),
        lists=[answer for _, answer in entries.lists(prefix)],
        attached=attached,
    )


def of_port(ruleset: Ruleset, port: Number, attached: bool) -> Port:
    """Return the rule that closes a port, and the filters that name it. Nothing needs to be attached."""
    entries = Entries(ruleset)
    named = [it for it in entries.naming(port) if isinstance(it, Filter)]
    return Port(port=str(port), closed=entries.closing(port), filters=named, attached=attached)
