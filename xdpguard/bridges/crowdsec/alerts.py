# SPDX-License-Identifier: GPL-2.0
"""Send the SYN guard's bans to CrowdSec as alerts with a decision, so that its other bouncers block them too."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from xdpguard.bridges.crowdsec.client import Client, Refusal
from xdpguard.errors import MissingError, XdpguardError
from xdpguard.owned import read_secret
from xdpguard.policy.rule import GUARD
from xdpguard.store.database import Store
from xdpguard.store.watch import StoreWatch

_MOST = 500  # alerts in one request
_LARGEST = 64 << 10  # bytes of the credentials
_LINE = re.compile(r"(\w+):\s*(.*?)\s*")


class Login(NamedTuple):
    """A machine's name and password at the local API."""

    machine: str
    password: str


def read_login(path: Path) -> Login:
    """Read the file that ``cscli machines add -f FILE`` writes. Raise MissingError if it is not one."""
    remedy = f"make one: cscli machines add xdpguard --auto -f {path}"
    lines = read_secret(path, _LARGEST, remedy).decode("utf-8", "replace").splitlines()
    found = {match[1]: match[2].strip("'\"") for line in lines if (match := _LINE.fullmatch(line))}
    if not found.get("login") or not found.get("password"):
        raise MissingError(f"the credentials {path} have no login and password", remedy)
    return Login(found["login"], found["password"])


class Ban(NamedTuple):
    """A ban of the guard. Times are Unix times."""

    target: str
    reason: str
    created: float
    expires: float


class Alerts:
    """Sends each ban once, those of a restart's time later. ``scenario``: what the decisions are known by."""

    def __init__(self, client: Client, credentials: Path, store: Path, scenario: str) -> None:
        self._client = client
        self._credentials = credentials
        self._path = store
        self._watch = StoreWatch(store)
        self._seen = -1  # the store's version when all bans in it were sent
        self._scenario = scenario
        self._token = ""

    def send(self, since: float) -> tuple[int, float]:
        """Send the bans that began after a Unix time; return how many, and since when there is none that is not sent.

        Raise XdpguardError if they cannot be sent.
        """
        version = self._watch.version()
        if version == self._seen:
            return 0, since
        found = self._bans(since)[:_MOST]
        if found:
            self._post([self._alert(it) for it in found])
        if len(found) < _MOST:
            self._seen = version
        return len(found), max((it.created for it in found), default=since)

    def close(self) -> None:
        """Close the store."""
        self._watch.close()

    def _bans(self, since: float) -> list[Ban]:
        query = (
            "SELECT target, reason, created, expires FROM rules WHERE mode = 'enforce' AND kind = 'block'"
            " AND source = ? AND created > ? AND expires > ? ORDER BY created"
        )
        with Store(self._path, read_only=True) as store:
            return [Ban(*row) for row in store.execute(query, (GUARD, since, time.time() + 1))]

    def _post(self, alerts: list[dict[str, object]]) -> None:
        for again in (True, False):
            if not self._token:
                login = read_login(self._credentials)
                body = {"machine_id": login.machine, "password": login.password, "scenarios": [self._scenario]}
                try:
                    self._token = str(json.loads(self._client.post("/v1/watchers/login", body, {}))["token"])
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    raise XdpguardError("its answer to the login has no token") from error
            try:
                self._client.post("/v1/alerts", alerts, {"Authorization": f"Bearer {self._token}"})
                return
            except Refusal as error:
                if error.status != 401 or not again:
                    raise
                self._token = ""  # it lasts an hour

    def _alert(self, ban: Ban) -> dict[str, object]:
        scope = "Range" if "/" in ban.target else "Ip"
        decision = {
            "duration": f"{max(1, round(ban.expires - time.time()))}s",
            "origin": "crowdsec",  # cscli lists no others unless asked for all
            "scenario": self._scenario,
            "scope": scope,
            "type": "ban",
            "value": ban.target,
        }
        at = datetime.fromtimestamp(ban.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "scenario": self._scenario,
            "scenario_hash": "",
            "scenario_version": "",
            "message": f"{ban.target}: {ban.reason}",
            "events_count": 1,
            "events": [],
            "start_at": at,
            "stop_at": at,
            "capacity": 0,
            "leakspeed": "0",
            "simulated": False,
            "remediation": True,
            "source": {"scope": scope, "value": ban.target},
            "decisions": [decision],
        }
