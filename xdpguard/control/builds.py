# SPDX-License-Identifier: GPL-2.0
"""What an attached program was built from, so that another one can be built like it: remembered at each attach."""

from __future__ import annotations

import json
from typing import NamedTuple

from xdpguard.dataplane.build.bundle import bundle
from xdpguard.dataplane.sys.source import source_folder
from xdpguard.policy.model import Sanity
from xdpguard.store.database import Store


class Build(NamedTuple):
    """Of a program by its id: the checks it makes, and a digest of the source."""

    program: int
    bad_flags: bool
    bad_source: bool
    source: str

    def sanity(self) -> Sanity:
        """The checks as the policy has them."""
        return Sanity(self.bad_flags, self.bad_source)


def record(store: Store, name: str, netns: str, program: int, sanity: Sanity) -> None:
    """Remembers an interface's program. Whoever calls holds a transaction."""
    build = Build(program, sanity.bad_flags, sanity.bad_source, source())
    store.put_fact(_key(name, netns), json.dumps(build))


def forget(store: Store, name: str, netns: str) -> None:
    """Forgets it. Whoever calls holds a transaction."""
    store.put_fact(_key(name, netns), "")


def recall(store: Store, name: str, netns: str, program: int) -> Build | None:
    """What the program of that id was built from; None when that was not remembered."""
    text = store.fact(_key(name, netns))
    found = Build(*json.loads(text)) if text else None
    return found if found and found.program == program else None


def source() -> str:
    """A digest of the program's source as it is here."""
    import hashlib  # loads OpenSSL

    return hashlib.sha256(bundle(source_folder()).encode()).hexdigest()[:16]


def _key(name: str, netns: str) -> str:
    return f"build {netns}/{name}"
