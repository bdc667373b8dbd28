# SPDX-License-Identifier: GPL-2.0
"""Announce upstream what `announcing` decides. It is stored before it is announced, so that a kill leaves no rule that
nobody will withdraw.
"""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, Protocol

from xdpguard.bridges.bgp.announcing import Announcing, Steps, Terms, of_bans, of_filters
from xdpguard.bridges.bgp.routes import flow, match_text
from xdpguard.errors import XdpguardError
from xdpguard.policy.flowspec import gobgp
from xdpguard.policy.flowspec.rule import Rule
from xdpguard.units import counted

if TYPE_CHECKING:
    from xdpguard.control.ruleset import Ruleset
    from xdpguard.store.database import Store

_log = logging.getLogger(__name__)

_EVERY = 5.0  # seconds between two looks at what is to be announced
_KEY = "announced.bgp"  # a fact: the commands that announce, each with the time of the first one


class Speaker(Protocol):
    """Who announces. ``own``: keys of the rules that it announces now."""

    own: set[str]

    def announce(self, rule: Rule) -> None:
        """Announce a rule."""

    def withdraw(self, rule: Rule) -> None:
        """Withdraw a rule."""


class Upstream:
    """What this host announces."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._its = Announcing(terms, {})
        self._steps = Steps([], [], 0)
        self._over = 0
        self.at = 0.0  # when to look again (monotonic, s)

    def begin(self, store: Store) -> None:
        """Read what an earlier run has announced."""
        self._its = Announcing(self._terms, json.loads(store.fact(_KEY) or "{}"))

    def due(self, now: float) -> bool:
        """Return whether to look at what is to be announced (``now``: monotonic, s)."""
        return now >= self.at

    def plan(self, session: Ruleset, now: float, there: set[str]) -> None:
        """Work out what to do, and store what will be announced. The caller holds the lock. ``now``: Unix time;
        ``there``: the keys of what is announced.
        """
        self.at = time.monotonic() + _EVERY
        if self._terms.what == "bans":
            wanted = of_bans(session.store.rules("block"), self._terms.own, now)
        else:
            wanted = of_filters(session.filters.stored.all(), self._terms.own, now)
        texts = {text for text in self._its.held if flow(gobgp.read(text)).key in there}
        self._steps = self._its.steps(wanted, texts, now)
        if self._steps.over and self._steps.over != self._over:
            rules = counted(self._steps.over, "rule")
            _log.warning(f"{rules} not announced: there may be {self._terms.most:,} (--announce-most)")
        self._over = self._steps.over
        if any(gobgp.written(it) not in self._its.held for it in self._steps.announce):
            for rule in self._steps.announce:
                self._its.announced(rule, now)
            self.store(session.store)

    def act(self, speaker: Speaker) -> int:
        """Announce and withdraw, outside of the lock; return how many rules are announced."""
        for rule in self._steps.announce:
            speaker.announce(rule)
            speaker.own.add(flow(rule).key)
            _log.info(f"announced: {match_text(rule)}")
        for rule in self._steps.withdraw:
            self._withdraw(speaker, rule)
        self._steps = Steps([], [], 0)
        return len(self._its.held)

    def end(self, speaker: Speaker) -> None:
        """Withdraw everything, whatever its age: nobody would look after it."""
        for text in list(self._its.held):
            try:
                self._withdraw(speaker, gobgp.read(text))
            except XdpguardError as error:
                _log.error(f"could not be withdrawn: {error}; {error.remedy}")

    def store(self, store: Store) -> None:
        """Store what is announced. The caller holds the lock."""
        with store.transaction():
            store.put_fact(_KEY, json.dumps(self._its.held))

    def _withdraw(self, speaker: Speaker, rule: Rule) -> None:
        speaker.withdraw(rule)
        speaker.own.discard(flow(rule).key)
        self._its.withdrawn(rule)
        _log.info(f"withdrawn: {match_text(rule)}")
