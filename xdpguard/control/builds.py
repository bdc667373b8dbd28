# SPDX-License-Identifier: GPL-2.0
"""Record at each attach what the program was built from, so that an identical one can be built."""

from __future__ import annotations

import json
from typing import NamedTuple

from xdpguard.dataplane.build.bundle import bundle
from xdpguard.dataplane.sys.source import source_folder
from xdpguard.policy.model import Sanity
from xdpguard.store.database import Store


class Build(NamedTuple):
    """What the program with this id was built from: its sanity checks, and a digest of its source."""

    program: int
    bad_flags: bool
    bad_source: bool
    source: str

    def sanity(self) -> Sanity:
        """Return the sanity checks in the form of the policy."""
        return Sanity(self.bad_flags, self.bad_source)


def record(store: Store, name: str, netns: str, program: int, sanity: Sanity) -> None:
    """Record what an interface's program was built from. The caller holds a transaction."""
    build = Build(program, sanity.bad_flags, sanity.bad_source, source())
    store.put_fact(_key(name, netns), json.dumps(build))


def forget(store: Store, name: str, netns: str) -> None:
    """Delete the record of an interface's program. The caller holds a transaction."""
    store.put_fact(_key(name, netns), "")


def recall(store: Store, name: str, netns: str, program: int) -> Build | None:
    """Return what the program with this id was built from, or None if that was not recorded."""
    text = store.fact(_key(name, netns))
    found = Build(*json.loads(text)) if text else None
    return found if found and found.program == program else None


def source() -> str:
    """Return a digest of the installed program source."""
    import hashlib  # loads OpenSSL

    return hashlib.sha256(bundle(source_folder()).encode()).hexdigest()[:16]


def _key(name: str, netns: str) -> str:
    return f"build {netns}/{name}"
