# SPDX-License-Identifier: GPL-2.0
"""``xdpguard bridge crowdsec``: asks for decisions, puts them in force, and asks for all again where one may be missed.

The server remembers what it has told each key, and forgets it with a lost answer: after any failure, and each ten
minutes, all decisions are read, and what is in force here is made the same.
"""

from __future__ import annotations

import logging
import random
import signal
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path

from xdpguard import signals
from xdpguard.bridges.crowdsec.alerts import Alerts
from xdpguard.bridges.crowdsec.client import Client, Refusal, read_key
from xdpguard.bridges.crowdsec.decisions import Decisions, decoded
from xdpguard.bridges.loop import Ended, ending, wait
from xdpguard.bridges.state import Account
from xdpguard.control.foreign import Answer, Foreign
from xdpguard.control.ruleset import Ruleset
from xdpguard.errors import XdpguardError
from xdpguard.policy.foreign import ForeignLimits, Refused
from xdpguard.policy.rule import CROWDSEC, NewRule
from xdpguard.policy.target import Prefix, parse_prefix
from xdpguard.service.log import Failures, in_words
from xdpguard.service.notify import notify
from xdpguard.store import origins
from xdpguard.store.attachments import attachments

_log = logging.getLogger(__name__)

_WHOLE = 600.0  # seconds between two readings of all decisions
_AGAIN = 30.0  # seconds from a doubt to that
_LONGEST_PAUSE = 60.0  # seconds between two attempts
_WOBBLE = 5.0  # seconds by which an end may differ from one reading to the next: durations are read, not ends
_SAID = 5  # refusals that are named


class Bouncer:
    """Runs the bridge in the foreground. ``session``: opens the rules with the lock held; ``every``: seconds."""

    def __init__(
        self,
        client: Client,
        key: Path,
        session: Callable[[], AbstractContextManager[Ruleset]],
        account: Account,
        limits: ForeignLimits,
        every: float,
        decisions: Decisions,
        alerts: Alerts | None = None,
    ) -> None:
        self._client = client
        self._key = key
        self._session = session
        self._account = account
        self._limits = limits
        self._every = every
        self._alerts = alerts
        self._decisions = decisions
        self._refused: dict[str, Refused] = {}
        self._whole_at = 0.0  # when to read all decisions, monotonic
        self._attempts = 0  # that failed one after the other
        self._failures = Failures()

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; SIGHUP reads all decisions."""
        with signals.waking(lambda number, frame: None, *signals.ENDING) as told:
            notify("READY=1", f"STATUS=connecting to {self._client.server}")
            while not self._pass(told):
                notify("WATCHDOG=1")
            notify("STOPPING=1")
        if self._alerts:
            self._alerts.close()
        self._failures.over()
        with self._session() as its:
            self._account.stopped(its.store)
        _log.info("stopped; what is blocked stays blocked until its end")

    def _pass(self, told: socket.socket) -> bool:
        """Do one exchange and wait for the next; return whether to end."""
        try:
            pause = self._guarded()
        except Ended:
            return True
        came = wait(told, pause)
        if signal.SIGHUP in came:
            self._whole_at = 0.0
        return signal.SIGTERM in came or signal.SIGINT in came

    def _guarded(self) -> float:
        """Do one exchange; return after how many seconds to do the next."""
        try:
            self._exchange()
            self._attempts = 0
            self._failures.over()
            return self._every
        except Exception as error:  # the service must survive any error
            # What the server has told, and is not in force here, it does not tell again.
            self._whole_at = 0.0
            self._attempts += 1
            self._failed(error)
        return min(_LONGEST_PAUSE, 2.0 ** (self._attempts - 1)) * random.uniform(0.5, 1.0)

    def _failed(self, error: Exception) -> None:
        words = in_words(error)
        remedy = error.remedy if isinstance(error, XdpguardError) else ""
        if isinstance(error, Refusal) and error.status in (401, 403):
            remedy = f"check the key in {self._key} (cscli bouncers list); it is read again at each attempt"
        self._account.failed(words)
        said = f"{self._client.server}: {words}{'; ' if remedy else ''}{remedy}; trying again"
        self._failures.failed(said, error, logging.WARNING)
        try:
            self._keep_account()
        except Exception as second:  # it is tried again with the next
            _log.debug(f"the state could not be written: {in_words(second)}")

    def _exchange(self) -> None:
        whole = time.monotonic() >= self._whole_at
        with ending():
            body = self._client.get(
                f"/v1/decisions/stream?startup={'true' if whole else 'false'}", {"X-Api-Key": read_key(self._key)}
            )
        now = time.time()
        new, gone = self._decisions.take(decoded(body), now, whole)
        if not self._account.state.connected:
            _log.info(f"connected to {self._client.server}")
        self._account.connected()
        self._account.state.left_alone = self._decisions.left_alone()
        if whole or new or gone:
            with self._session() as its:
                self._apply(its, new, gone, whole)
                self._tell(its)
        if whole:
            self._whole_at = time.monotonic() + _WHOLE
        elif self._decisions.doubtful:
            self._whole_at = min(self._whole_at, time.monotonic() + _AGAIN)
        self._send()
        self._keep_account()

    def _apply(self, its: Ruleset, new: dict[Prefix, NewRule], gone: list[Prefix], whole: bool) -> None:
        its.purge()
        foreign = Foreign(its, CROWDSEC, self._limits, self._server(), self._places(its))
        if whole:
            held = origins.parts_of(its.store, self._limits.mode, CROWDSEC)
            wanted = [_steady(rule, held.get((rule.kind, str(rule.target)))) for rule in new.values()]
            answer = foreign.replace(wanted)
            self._refused.clear()
            taken, refused = len(answer.taken), len(answer.refused)
            _log.info(f"all decisions read: {taken:,} taken{_only(self._limits)}, {refused:,} refused")
        else:
            gone = [it for it in gone if self._refused.pop(str(it), None) is None]
            foreign.remove("block", gone)
            answer = foreign.put(new.values()) if new else Answer([], [], [], False, its.changes.attached())
            self._log_changes(answer, gone)
        for rule in answer.taken:
            if isinstance(rule, NewRule):
                self._refused.pop(str(rule.target), None)
        self._note_refused(answer.refused)
        self._account.state.updates += 1
        self._account.state.in_force = answer.in_force

    def _note_refused(self, refused: Iterable[Refused]) -> None:
        for it in refused:
            if str(it.target) not in self._refused and len(self._refused) < _SAID:
                _log.warning(f"refused {it}")
            self._refused[str(it.target)] = it

    def _log_changes(self, answer: Answer, gone: list[Prefix]) -> None:
        named = [str(it.target) for it in answer.taken if isinstance(it, NewRule)]
        for what, targets in (
            ("blocked" + _only(self._limits), named),
            ("no longer blocked", [str(it) for it in gone]),
        ):
            if targets:
                more = f" and {len(targets) - _SAID:,} more" if len(targets) > _SAID else ""
                _log.info(f"{what}: {', '.join(targets[:_SAID])}{more}")

    def _send(self) -> None:
        """Send the guard's bans, where that is wanted."""
        if self._alerts is None:
            return
        state = self._account.state
        with ending():
            count, state.sent_until = self._alerts.send(state.sent_until)
        if count:
            state.sent += count
            _log.info(f"sent {count:,} of the guard's bans to {self._client.server}")
            with self._session() as its:
                self._tell(its)

    def _keep_account(self) -> None:
        if self._account.due():
            with self._session() as its:
                self._tell(its)

    def _tell(self, its: Ruleset) -> None:
        """Write what is so now."""
        state = self._account.state
        state.entries = origins.count_of(its.store, self._limits.mode, CROWDSEC)
        state.in_force = its.changes.attached()
        refused = [*self._refused.values(), *self._decisions.unread.values()]
        state.refused, state.refusals = len(refused), [str(it) for it in refused[:_SAID]]
        self._account.write(its.store)
        notify(f"STATUS={state.summary(time.time())}")

    def _server(self) -> list[tuple[Prefix, str]]:
        """Return what must not be blocked for the bridge's sake: the server, if it is named by its address."""
        try:
            return [(parse_prefix(self._client.server.host)[0], "the CrowdSec server")]
        except XdpguardError:
            return []

    def _places(self, its: Ruleset) -> set[str]:
        return {"", *(it.netns for it in attachments(its.store))}


def _steady(rule: NewRule, held: tuple[str, float | None] | None) -> NewRule:
    """Return a rule with the end that it has here already, if that is the same but for the time of reading."""
    if held and held[1] and rule.expires and held[0] == rule.reason and abs(held[1] - rule.expires) < _WOBBLE:
        return rule._replace(expires=held[1])
    return rule


def _only(limits: ForeignLimits) -> str:
    return ", only counting" if limits.mode == "shadow" else ""
