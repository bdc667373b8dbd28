# SPDX-License-Identifier: GPL-2.0
"""The exception tree and the exit codes.

    XdpguardError          exit 1  something failed
    ├── UsageError         exit 2  the command or its input is wrong
    └── MissingError       exit 3  the environment lacks something

Every message states the problem in one line; ``remedy`` says what to do next. ``details`` holds what only ``-v`` shows:
compiler output, the verifier log, the kernel's own message.
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_MISSING = 3


class XdpguardError(Exception):
    """Something failed. ``str()`` is the one-line message."""

    exit_code = EXIT_FAILED

    def __init__(self, message: str, remedy: str = "", details: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy
        self.details = details


class UsageError(XdpguardError):
    """The command line, a rule, a file or standard input is invalid. Nothing was changed."""

    exit_code = EXIT_USAGE


class MissingError(XdpguardError):
    """The environment lacks something; the remedy names it."""

    exit_code = EXIT_MISSING
