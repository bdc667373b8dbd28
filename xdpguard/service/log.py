# SPDX-License-Identifier: GPL-2.0
"""The service's log on standard error: with priorities for the journal, with time stamps elsewhere."""

from __future__ import annotations

import logging
import os
import sys

from xdpguard.errors import XdpguardError
from xdpguard.units import visible

# syslog priorities, which sd-daemon(3) expects at the start of each line.
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_log = logging.getLogger(__name__)


def begin(verbose: bool) -> logging.Logger:
    """Send the log of all xdpguard modules to standard error, including debug messages if ``verbose``.

    Returns the package's root logger.
    """
    handler = _Handler(sys.stderr)
    if _is_journal(handler.stream.fileno()):
        handler.setFormatter(_Prioritized())
    else:
        handler.setFormatter(_Neutral("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logger = logging.getLogger("xdpguard")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    return logger


def _is_journal(descriptor: int) -> bool:
    """Return whether a descriptor is connected to the journal: systemd names that socket in JOURNAL_STREAM."""
    found = os.fstat(descriptor)
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Ignore the error: the reader has gone away or the disk is full, and the service must go on."""


class _Neutral(logging.Formatter):
    """Shows what could steer a terminal as escapes."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record), keep="\n")


class _Prioritized(_Neutral):
    """Prefixes each line with its priority: the journal adds its own times and treats each line as a message."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())


class Failures:
    """Logs the errors of a repeated action: an error is logged once, repeats are counted, and the count is logged when
    a different error occurs or the action succeeds.
    """

    def __init__(self) -> None:
        self._words = ""
        self._level = logging.ERROR
        self._more = 0

    def failed(self, words: str, error: Exception, level: int = logging.ERROR) -> None:
        """Record a failure, described by ``words``. The traceback of ``error`` goes to the debug log."""
        if words == self._words:
            self._more += 1
            return
        self.over()
        self._words, self._level = words, level
        _log.log(level, words)
        _log.debug("where it happened:", exc_info=error)

    def over(self) -> None:
        """Record that the action succeeded or is no longer attempted."""
        if self._more:
            times = "time" if self._more == 1 else "times"
            _log.log(self._level, f"{self._words}: {self._more:,} more {times}")
        self._words, self._more = "", 0


def in_words(error: Exception) -> str:
    """Return the log text of an error: our own and the system's unchanged, any other with its type."""
    text = str(error)
    return text if text and isinstance(error, (XdpguardError, OSError)) else f"{type(error).__name__}: {text}"
