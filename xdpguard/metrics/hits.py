# SPDX-License-Identifier: GPL-2.0
"""Hits of all rules by kind, and the number in force: a hundred thousand rules in milliseconds.

The store's rows are read again only when it has changed.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xdpguard.control.rule_counters import MAPS
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables.rules import Tables
from xdpguard.errors import XdpguardError
from xdpguard.policy.rule import GUARD
from xdpguard.policy.target import KINDS
from xdpguard.store.database import Store
from xdpguard.store.watch import StoreWatch

_ROW = np.dtype(
    [
        ("id", "i8"),
        ("kind", "i8"),
        ("slot", "i8"),
        ("expires", "f8"),
        ("ban", "?"),
        ("hits", "i8", 2),
        ("created", "f8"),
    ]
)
_QUERY = (
    "SELECT id, kind, slot, coalesce(expires, 0), source = ?, packets, bytes, created,"
    " (SELECT value FROM facts WHERE key = ?) FROM rules WHERE mode = 'enforce' ORDER BY id"
)
_Rows = NDArray[Any]


class Tally(NamedTuple):
    """Rules in force and hits (packets, bytes) by kind, and bans in force."""

    rules: dict[str, int]
    hits: dict[str, tuple[int, int]]
    bans: int


class RuleTotals:
    """Sums over rules that only rise: hits of removed rules remain included."""

    def __init__(self, pins: Pins, store: Path) -> None:
        self._pins = pins
        self._store = store
        self._watch = StoreWatch(store)
        self._version: int | None = None
        self._rows: _Rows = np.zeros(0, _ROW)
        self._generation = ""
        self._last: NDArray[np.int64] = np.zeros((0, 2), np.int64)  # each row's hits at the last reading
        self._sums = np.zeros((len(KINDS), 2), np.int64)

    def read(self) -> Tally:
        """Return the current sums. Raise XdpguardError if the store cannot be read."""
        self._refresh()
        rows = self._rows
        now = np.maximum(self._last, rows["hits"] + self._fresh(rows["slot"]))
        for place in range(len(KINDS)):
            self._sums[place] += (now - self._last)[rows["kind"] == place].sum(axis=0)
        self._last = now
        alive = (rows["expires"] == 0) | (rows["expires"] > time.time())
        counts = np.bincount(rows["kind"][alive], minlength=len(KINDS))
        return Tally(
            {kind: int(counts[place]) for place, kind in enumerate(KINDS)},
            {kind: (int(self._sums[place, 0]), int(self._sums[place, 1])) for place, kind in enumerate(KINDS)},
            int((rows["ban"] & alive).sum()),
        )

    def close(self) -> None:
        """Close the store."""
        self._watch.close()

    def _refresh(self) -> None:
        """Read the store's rows again if it has changed."""
        version = self._watch.version()
        if version == self._version:
            return
        with Store(self._store, read_only=True) as store:
            found = store.execute(_QUERY, (GUARD, MAPS["enforce"]))
        numbers = {kind: place for place, kind in enumerate(KINDS)}
        rows = np.array([(it[0], numbers[it[1]], *it[2:5], it[5:7], it[7]) for it in found], _ROW)
        last = np.zeros((len(rows), 2), np.int64)
        if len(rows) and len(self._rows):
            at = np.minimum(np.searchsorted(self._rows["id"], rows["id"]), len(self._rows) - 1)
            # The id of a removed rule may be reused by the next one.
            same = (self._rows["id"][at] == rows["id"]) & (self._rows["created"][at] == rows["created"])
            last[same] = self._last[at[same]]
        self._version, self._rows, self._last = version, rows, last
        self._generation = (found[0][8] or "") if found else ""

    def _fresh(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return hits in the kernel that are not folded into the store yet, a row for each slot."""
        if len(slots):
            try:
                with Tables(self._pins) as tables:
                    # Otherwise they belong to another store, or were recreated meanwhile.
                    if tables.generation() == self._generation:
                        return tables.hits_at(slots).astype(np.int64)
            except XdpguardError:
                if self._pins.exist():
                    raise
        return np.zeros((len(slots), 2), np.int64)
