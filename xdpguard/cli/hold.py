# SPDX-License-Identifier: GPL-2.0
"""``python -m xdpguard.cli.hold INSTANCE``: wait, and undo what was not confirmed in time. Started by arming.py."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from xdpguard.cli.session import Options, find_instance, ruleset
from xdpguard.errors import XdpguardError
from xdpguard.store import journal
from xdpguard.store.database import Store

if TYPE_CHECKING:
    from xdpguard.instance import Instance

_LOOK = 5.0  # seconds between two looks at whether it was confirmed
_FAILURES = 720  # an hour of them


def main(name: str) -> None:
    """Wait for the deadline of the change that waits for its confirmation, and undo it, unless it is confirmed."""
    chosen, failures = Options(find_instance(name), verbose=False), 0
    while failures < _FAILURES:
        try:
            waiting = _waiting(chosen.instance)
            if waiting is None:
                return
            left = waiting.left()
            if not left:
                failures += 1
                with ruleset(chosen):  # undoes what is overdue
                    continue
        except XdpguardError:  # such as another command that holds the lock
            failures, left = failures + 1, _LOOK
        time.sleep(min(left, _LOOK))


def _waiting(instance: Instance) -> journal.Change | None:
    """Return the change that waits for its confirmation. One that is being made is waited for."""
    with Store(instance.store, read_only=True) as store:
        found = journal.pending(store)
    if found is not None:
        return found
    with instance.lock(), Store(instance.store, read_only=True) as store:
        return journal.pending(store)


if __name__ == "__main__":
    main(sys.argv[1])
