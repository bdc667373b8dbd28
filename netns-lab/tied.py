# SPDX-License-Identifier: GPL-2.0
"""Commands that end with the process that starts them, also if that is killed: no daemon outlives its test or lab."""

from __future__ import annotations

from collections.abc import Sequence


def tied(command: Sequence[str]) -> list[str]:
    """The command line that does so. It ends with the thread that starts it, and keeps the process number.

    The kernel forgets it when the command changes its user; see PR_SET_PDEATHSIG in prctl(2).
    """
    return ["setpriv", "--pdeathsig", "KILL", "--", *command]
