# SPDX-License-Identifier: GPL-2.0
"""The names under which network namespaces are recorded (netns.py says which names there are)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from xdpguard.net.netns import NoSuchNamespace, cookie_of, expect, find, place


def is_fleeting(name: str) -> bool:
    """Return whether a recorded name may silently come to mean another namespace, so that its cookie must be kept."""
    return name.startswith(("pid ", "/proc/"))


def recorded_name(words: str, recorded: Iterable[str], anew: bool = False) -> str:
    """Return the name under which the namespace that a user calls ``words`` is recorded, or would be.

    ``anew``: something is to be attached there; a name that stood for another namespace stands for this one from here
    on. Raises NoSuchNamespace if there is none now, unless one is recorded under exactly that name.
    """
    known = set(recorded)
    try:
        found = find(words)
    except NoSuchNamespace:
        if words in known and not anew:
            return words
        raise
    for name in sorted(known):
        with contextlib.suppress(NoSuchNamespace, OSError):
            if name and place(name).inode == found.inode:
                return name
    if anew and is_fleeting(found.name):
        expect(found.name, cookie_of(found))
    return found.name
