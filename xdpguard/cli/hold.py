# SPDX-License-Identifier: GPL-2.0
"""``python -m xdpguard.cli.hold INSTANCE``: wait, and undo what was not confirmed in time. Started by arming.py."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from xdpguard.cli.session import Options, find_instance, ruleset
from xdpguard.cli.undoing import log
from xdpguard.errors import XdpguardError
from xdpguard.store import journal
from xdpguard.store.database import Store

if TYPE_CHECKING:
    from xdpguard.instance import Instance

_LOOK = 5.0  # seconds between two looks at whether it was confirmed
_AGAIN = 1.0  # seconds between two tries to undo it
_FAILURES = 3600


def main(name: str) -> None:
    """Wait for the deadline of the change that waits for its confirmation, and undo it, unless it is confirmed."""
    chosen, failures, told = Options(find_instance(name), verbose=False), 0, set[str]()

    def tell(text: str) -> None:
        if text not in told:
            told.add(text)
            log(text)

    while failures < _FAILURES:
        try:
            waiting = _waiting(chosen.instance)
            if waiting is None:
                return
            left = waiting.left()
            if not left:
                failures += 1
                with ruleset(chosen, on_wait=tell):  # undoes what is overdue
                    pass
        except XdpguardError:  # such as another command that holds the lock
            failures, left = failures + 1, 0.0
        time.sleep(min(left or _AGAIN, _LOOK))


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
