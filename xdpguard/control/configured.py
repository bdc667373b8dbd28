# SPDX-License-Identifier: GPL-2.0
"""The configuration in force, as it was read: what an undo goes back to when its file has been edited since."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from xdpguard.control.sources import stamp
from xdpguard.store.database import Store

if TYPE_CHECKING:
    from xdpguard.policy.model import Policy

_IN_FORCE = "policy_in_force"  # fact: JSON of the policy
_UNDONE = "undone_config"  # fact: JSON, path and stamp of the file that an undo has put out of force


def record(store: Store, policy: Policy) -> None:
    """Record the configuration that is put in force. The caller holds a transaction."""
    import msgspec

    store.put_fact(_IN_FORCE, msgspec.json.encode(policy).decode())


def in_force(store: Store) -> Policy | None:
    """Return the configuration in force; None if none was recorded, or another version of xdpguard recorded it."""
    return parsed(store.fact(_IN_FORCE))


def parsed(text: str) -> Policy | None:
    """Return a recorded configuration; None if it is empty, or another version of xdpguard wrote it."""
    import msgspec

    from xdpguard.policy.model import Policy

    try:
        return msgspec.json.decode(text, type=Policy) if text else None
    except msgspec.ValidationError:
        return None


def hold_back(store: Store, path: Path | None) -> None:
    """Record that an undo has put this file out of force as it is now; None: there is none. Within a transaction."""
    mark = json.dumps([str(path), stamp(path)]) if path else ""
    if store.fact(_UNDONE) != mark:
        store.put_fact(_UNDONE, mark)


def held_back(store: Store, path: Path | None) -> bool:
    """Return whether an undo has put this file out of force, and the file is still the same."""
    text = store.fact(_UNDONE)
    return bool(text) and path is not None and json.loads(text) == [str(path), stamp(path)]
