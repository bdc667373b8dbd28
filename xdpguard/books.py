# SPDX-License-Identifier: GPL-2.0
"""Rules, lists and shadow entries of one instance, each told whom to mend before a change."""

from __future__ import annotations

from typing import Protocol

from xdpguard import rulebook, shadowing
from xdpguard.listbook import Listbook
from xdpguard.lists.store import Store
from xdpguard.rulebook import Rulebook
from xdpguard.shadowing import Shadowing, mend_all


class Dataplane(rulebook.Dataplane, shadowing.Dataplane, Protocol):
    """Where the maps are, when there are any."""


class Books:
    """What is kept of one instance, without what is attached."""

    def __init__(self, store: Store, dataplane: Dataplane) -> None:
        self.store = store
        self.lists = Listbook(store, dataplane.pins)
        self.shadow = Shadowing(store, dataplane)
        self.rules = Rulebook(store, dataplane, also=lambda: mend_all(store, self.lists, self.shadow))
