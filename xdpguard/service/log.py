# SPDX-License-Identifier: GPL-2.0
"""Where the service's log goes: to standard error, for the journal with priorities, elsewhere with the time."""

from __future__ import annotations

import logging
import os
import sys

from xdpguard.errors import XdpguardError

# The priorities of syslog, as sd-daemon(3) wants them in front of a line.
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_log = logging.getLogger(__name__)


def begin(verbose: bool) -> logging.Logger:
    """Send what xdpguard's modules log to standard error; with ``verbose`` also what is for debugging.

    Returns the logger above them all.
    """
    handler = _Handler(sys.stderr)
    if _is_journal(handler.stream.fileno()):
        handler.setFormatter(_Prioritized())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logger = logging.getLogger("xdpguard")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    return logger


def _is_journal(descriptor: int) -> bool:
    """Whether systemd has connected that descriptor to the journal: it names the socket in JOURNAL_STREAM."""
    found = os.fstat(descriptor)
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Go on: whoever read the log is gone, or the disk is full, and the service has other things to do."""


class _Prioritized(logging.Formatter):
    """The journal has times of its own, and takes each line for a message."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())


class Failures:
    """Errors of something that is done again and again: one is logged once, counted as long as it stays the same, and
    summed up when another takes its place or it is over.
    """

    def __init__(self) -> None:
        self._words = ""
        self._level = logging.ERROR
        self._more = 0

    def failed(self, words: str, error: Exception, level: int = logging.ERROR) -> None:
        """It failed; ``words`` say how. The traceback of ``error`` is for debugging."""
        if words == self._words:
            self._more += 1
            return
        self.over()
        self._words, self._level = words, level
        _log.log(level, words)
        _log.debug("where it happened:", exc_info=error)

    def over(self) -> None:
        """It worked, or is not done any more."""
        if self._more:
            times = "time" if self._more == 1 else "times"
            _log.log(self._level, f"{self._words}: {self._more:,} more {times}")
        self._words, self._more = "", 0


def in_words(error: Exception) -> str:
    """An error as the log tells it: our own and the system's as they are, others with their kind."""
    text = str(error)
    return text if text and isinstance(error, (XdpguardError, OSError)) else f"{type(error).__name__}: {text}"
