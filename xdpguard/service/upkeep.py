# SPDX-License-Identifier: GPL-2.0
"""Periodic upkeep: reload lists whose files have changed, and audit what the kernel holds."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping

from xdpguard.control.audit import Audit
from xdpguard.control.controller import Controller
from xdpguard.control.plan import ListsFailed, Loaded
from xdpguard.errors import XdpguardError
from xdpguard.policy.duration import parse_interval
from xdpguard.policy.model import Policy
from xdpguard.units import counted

_log = logging.getLogger(__name__)

_AUDIT = 60.0  # seconds between two audits


class Upkeep:
    """Runs each task when it is due. Times are monotonic, in seconds, except ``audited``."""

    def __init__(self) -> None:
        self.audit: Audit | None = None  # the last audit: what it found, before any repair
        self.audited = 0.0  # when the last audit ran, Unix time
        self._audited = float("-inf")
        self._looked: dict[str, float] = {}
        self._told: dict[str, str] = {}
        self._unpurged = ""  # why what has ended could not be removed, as it was logged
        self._unrestored = ""  # what the last audit could not restore, as it was logged

    def run(self, session: Controller, policy: Policy, now: float) -> None:
        """Run the tasks that are due."""
        self.check(session, now)
        self._lists(session, policy, now)

    def check(self, session: Controller, now: float) -> None:
        """Audit, repair and log what was missing, if that is due; to run before any change, which repairs silently."""
        if now - self._audited >= _AUDIT:
            self._audited = now
            self._audit(session)

    def _lists(self, session: Controller, policy: Policy, now: float) -> None:
        def due(name: str) -> bool:
            if now - self._looked.get(name, float("-inf")) < parse_interval(policy.lists[name].every):
                return False
            self._looked[name] = now
            return True

        try:
            self.loaded(session.follow_lists(policy, due))
        except ListsFailed as failed:
            self.failed(failed.errors)

    def loaded(self, lists: Iterable[Loaded]) -> None:
        """Log lists that were loaded."""
        for done in lists:
            was = f", had {done.before.entries:,}" if done.before else ""
            skipped = f", {counted(done.its.skipped, 'line')} skipped" if done.its.skipped else ""
            timed = f", {done.its.timing.timed:,} of them with an end" if done.its.timing.timed else ""
            entries = counted(done.its.entries, "entry", "entries")
            _log.info(f"list {done.its.name} loaded: {entries}{timed}{was}{skipped}")
            self._told.pop(done.its.name, None)

    def failed(self, errors: Mapping[str, XdpguardError]) -> None:
        """Log lists that were not loaded, or not dropped; they are tried again."""
        for name, error in errors.items():
            # An unchanged file fails the same way each time.
            if self._told.get(name) != str(error):
                self._told[name] = str(error)
                _log.error(f"a list was not loaded, what was in force stays in force: {error}; {error.remedy}")

    def purge(self, session: Controller) -> None:
        """Remove what has ended; what the kernel refuses is tried again the next time."""
        failed = ""
        try:
            session.ruleset.purge()
        except XdpguardError as error:
            failed = f"what has ended could not be removed: {error}; {error.remedy}"
        if failed and failed != self._unpurged:
            _log.error(failed)
        self._unpurged = failed

    def _audit(self, session: Controller) -> None:
        self.audit = audit = session.audit(repair=True)
        self.audited = time.time()
        if audit is None:
            return
        failed = f"the kernel holds only {audit.failed}, and they could not be restored" if audit.failed else ""
        if failed != self._unrestored:
            self._unrestored = failed
            if failed:
                _log.error(f"{failed}; it is tried again every minute; free some memory, see xdpguard doctor")
        if failed:
            return
        shares = [("rules", audit.rules), ("filters", audit.filters)]
        for what, share in (*shares, *((f"list {name}", it) for name, it in audit.lists.items())):
            if share.held < share.stored:
                stored = counted(share.stored, "entry", "entries")
                _log.warning(f"the kernel held {share.held:,} of {stored} ({what}): restored")
        if audit.shadow is not None and not audit.shadow.whole:
            _log.warning("the kernel did not hold all shadow entries: restored")
        for place in audit.without_egress:
            _log.warning(f"{place}: the program at its egress was missing: restored")
        if not audit.seeded:
            _log.warning("the settings of the data plane were overwritten: restored")
        if audit.behind:
            _log.warning("an interrupted change was rolled back; the kernel agrees with the store again")
