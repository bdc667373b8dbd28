# SPDX-License-Identifier: GPL-2.0
"""Rules, lists and shadow entries of one instance, each told whom to mend before a change."""

from __future__ import annotations

from typing import Protocol

from xdpguard.control import entries, shadowing
from xdpguard.control.entries import Rulebook
from xdpguard.control.lists import Listbook
from xdpguard.control.shadowing import Shadowing, mend_all
from xdpguard.store.database import Store


class Dataplane(entries.Dataplane, shadowing.Dataplane, Protocol):
    """Where the maps are, when there are any."""


class Books:
    """What is kept of one instance, without what is attached."""

    def __init__(self, store: Store, dataplane: Dataplane) -> None:
        self.store = store
        self.lists = Listbook(store, dataplane.pins)
        self.shadow = Shadowing(store, dataplane)
        self.rules = Rulebook(store, dataplane, also=lambda: mend_all(store, self.lists, self.shadow))
