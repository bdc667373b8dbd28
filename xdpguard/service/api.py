# SPDX-License-Identifier: GPL-2.0
"""The HTTP API as part of the service: a process of its own, so that no request can hold up or harm the loop."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from xdpguard.errors import EXIT_FAILED, EXIT_MISSING
from xdpguard.policy.api import Api as Wanted
from xdpguard.policy.metrics import parse_listen

_log = logging.getLogger(__name__)

_AGAIN = 10.0  # seconds after which a process that was killed is started again
_GRACE = 10.0  # seconds to end


class Api:
    """Belongs to the loop's thread. The process ends with this one, however it ends: its standard input does."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._wanted = Wanted()
        self._mark: tuple[object, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None
        self._start_at: float | None = None
        self._end_by: float | None = None  # when it is killed that was told to end
        self._renewed = False  # the configuration was read again since it was started

    def apply(self, wanted: Wanted) -> None:
        """Serve what a configuration says, or go on to; called on every tick, and waits for nothing."""
        now = time.monotonic()
        mark = (wanted, _changed(wanted.cert), _changed(wanted.key))
        if mark != self._mark:
            self._start_at = now
            self._let_end(now)
        elif wanted is not self._wanted:
            # What failed may work now: the configuration is not all that it depends on.
            self._renewed = True
            self._start_at = now if self._process is None else self._start_at
        self._wanted, self._mark = wanted, mark
        if self._process is not None and (code := self._process.poll()) is not None:
            self._ended(code, now)
        elif self._process is not None and self._end_by is not None and now >= self._end_by:
            self._process.kill()
        if self._process is None and self._start_at is not None and now >= self._start_at:
            self._start_at = None
            if wanted.socket or parse_listen(wanted.listen) is not None:
                self._start(now)

    def close(self) -> None:
        """End the process."""
        self._let_end(time.monotonic())
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE)
            self._process.kill()
            self._process.wait()
            self._process = None

    def _let_end(self, now: float) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._end_by = now + _GRACE

    def _ended(self, code: int, now: float) -> None:
        """Note that the process has ended. Why it cannot serve it has said itself; that is the operator's to mend."""
        told = self._end_by is not None
        self._let_end(now)
        self._end_by, self._process = None, None
        if not told and code in (EXIT_FAILED, EXIT_MISSING):
            self._start_at = now if self._renewed else None
        elif not told:
            _log.error(f"the API's process ended with {code}; it is started again in {_AGAIN:g} s")
            self._start_at = now + _AGAIN

    def _start(self, now: float) -> None:
        self._renewed = False
        text = msgspec.json.encode(self._wanted).decode()
        verbose = ["--verbose"] if _log.isEnabledFor(logging.DEBUG) else []
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-X", "utf8", "-m", "xdpguard.api", text, *verbose],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=os.environ | {"XDPGUARD_INSTANCE": self._instance},
                start_new_session=True,
            )
        except OSError as error:
            _log.error(f"the API's process cannot be started: {error}; it is tried again in {_AGAIN:g} s")
            self._start_at = now + _AGAIN


def _changed(path: str) -> int:
    """Return when a file was last changed; 0: it does not exist."""
    try:
        return Path(path).stat().st_mtime_ns if path else 0
    except OSError:
        return 0
