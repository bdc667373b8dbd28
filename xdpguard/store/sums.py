# SPDX-License-Identifier: GPL-2.0
"""Sums of checksums over the rows of the store, kept by triggers and compared wherever all rows of a kind are read.

SQLite notices damage to the structure of its file only. These notice rows that were changed, lost or added otherwise
than by a statement of this program: by a bit that has flipped, or by somebody who edits the file.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from zlib import crc32

from xdpguard.store.rows import RULE

_MASK = (1 << 48) - 1  # SQLite's integers overflow into reals
_TIMES = struct.Struct("<dd")
_NOT_WRITTEN = (struct.error, TypeError, ValueError)  # what the checksum of a damaged row may raise


class _Summed(NamedTuple):
    """What is summed of a table: ``columns``, the rows that agree in ``group`` together. ``words``: for an error."""

    words: str
    columns: str
    group: tuple[str, ...] = ()

    def where(self, row: str = "") -> str:
        """Return mode and part, in SQL: the place of a row's sum within those of its table."""
        return ", ".join([*(f"{row}{name}" for name in self.group), "''", "''"][:2])

    def checksum(self, place: str, row: str = "") -> str:
        """Return the checksum of a row of the table ``place``, in SQL."""
        return f"sum_of_{place}({', '.join(f'{row}{name}' for name in self.columns.split(', '))})"


# Without hits, which are written often, and which nothing is decided by.
_SUMMED = {
    "rules": _Summed("the rules", RULE, ("mode", "kind")),
    "parts": _Summed(
        "the parts of rules by further origins", "mode, kind, target, source, reason, expires", ("mode", "kind")
    ),
    "lists": _Summed(
        "the lists",
        "mode, name, number, source, file, stamp, format, loaded, given, entries, duplicates, skipped, forced, shift",
        ("mode",),
    ),
    "list_entries": _Summed("the entries of a list", "mode, name, four, six, ends", ("mode", "name")),
    "filters": _Summed(
        "the filters", "name, text, match, action, rate, mode, reason, source, created, expires, position, slot"
    ),
    "facts": _Summed("the settings", "key, value"),
    "interfaces": _Summed("the interfaces", "name, netns, mode, observe, prog_id, attached"),
    "any_mtu": _Summed("the interfaces of any MTU", "name, netns"),
}


def columns_of(place: str) -> str:
    """Return the columns of a table that `whole` returns, in SQL."""
    return _SUMMED[place].columns


def keep(database: sqlite3.Connection) -> None:
    """Keep the sums up to date from now on, whatever this connection writes."""
    database.execute("PRAGMA recursive_triggers = ON")  # without it, no trigger sees what a REPLACE deletes
    for place, its in _SUMMED.items():
        _register(database, place)
        same = f"place = '{place}' AND (mode, part) = ({its.where('OLD.')})"
        gone = f"UPDATE sums SET total = (total - {its.checksum(place, 'OLD.')}) & {_MASK} WHERE {same};"
        come = (
            f"INSERT INTO sums VALUES ('{place}', {its.where('NEW.')}, {its.checksum(place, 'NEW.')})"
            f" ON CONFLICT (place, mode, part) DO UPDATE SET total = (total + excluded.total) & {_MASK};"
        )
        for event, body in (
            ("INSERT", come),
            (f"UPDATE OF {its.columns}", gone + come),
            ("DELETE", f"{gone} DELETE FROM sums WHERE total = 0 AND {same};"),
        ):
            name = f"sum_{place}_{event.split()[0].lower()}"
            database.execute(f"CREATE TEMP TRIGGER {name} AFTER {event} ON main.{place} BEGIN {body} END")


def renew(database: sqlite3.Connection) -> None:
    """Write the sums of the rows that there are, within a transaction."""
    database.execute("DELETE FROM sums")
    rows = [(*place, total) for place, total in _computed(database).items()]
    database.executemany("INSERT INTO sums VALUES (?, ?, ?, ?)", rows)


def wrong(database: sqlite3.Connection) -> str:
    """Compare the sums of all rows; return which rows are not those that were written, in words, or nothing."""
    held = {(place, mode, part): total for place, mode, part, total in database.execute("SELECT * FROM sums")}
    found = _computed(database)
    differing = {its[0] for its in held.keys() | found.keys() if held.get(its) != found.get(its)}
    return " and ".join(_SUMMED[it].words if it in _SUMMED else f"the sums of {it}" for it in sorted(differing))


def whole(
    database: sqlite3.Connection, place: str, group: Sequence[str] = (), more: str = "", order: str = ""
) -> list[tuple[Any, ...]] | None:
    """Return all rows of a table, or of one ``group`` in it; None if they are not those that were written.

    ``more``: further columns, behind those of `columns_of`; ``order``: to order by. In SQL.
    """
    its = _SUMMED[place]
    held = "".join(f" AND {name} = ?" for name in ("mode", "part")[: len(group)])
    wanted = " AND ".join(f"{name} = ?" for name in its.group[: len(group)])
    # Values are read from the table: a WHERE on the table itself would have some read from an index instead.
    rowids = f"{place}.rowid IN (SELECT rowid FROM {place} WHERE {wanted})" if group else "true"
    # One statement, so that nobody can write in between; without any row, the sum is returned with NULLs.
    query = (
        f"SELECT {its.columns}{more and f', {more}'}, its_sum FROM"
        f" (SELECT coalesce(sum(total), 0) AS its_sum FROM sums WHERE place = '{place}'{held})"
        f" LEFT JOIN {place} {'' if group else 'NOT INDEXED'} ON {rowids} {order and f'ORDER BY {order}'}"
    )
    rows = database.execute(query, (*group, *group)).fetchall()
    total = rows[0][-1]
    if len(rows) == 1 and rows[0][0] is None:
        return None if total else []
    count, function = len(its.columns.split(", ")), _function(place)
    try:
        same = (sum([function(*row[:count]) for row in rows]) - total) & _MASK == 0
    except _NOT_WRITTEN:
        return None
    return [row[:-1] for row in rows] if same else None


def words_of(place: str) -> str:
    """Return what the rows of a table are, in words."""
    return _SUMMED[place].words


def _computed(database: sqlite3.Connection) -> dict[tuple[str, str, str], int]:
    """Return the sums of the rows that there are, by table, mode and part."""
    found: dict[tuple[str, str, str], int] = {}
    for place, its in _SUMMED.items():
        _register(database, place)
        sums = f"SELECT {its.where()}, sum({its.checksum(place)}) & {_MASK} FROM {place} NOT INDEXED GROUP BY 1, 2"
        found |= {(place, mode, part): total for mode, part, total in database.execute(sums)}
    return found


def _register(database: sqlite3.Connection, place: str) -> None:
    database.create_function(f"sum_of_{place}", -1, _function(place))


def _function(place: str) -> Callable[..., int]:
    return _of_rule if place == "rules" else _of_row


def _of_row(*values: object) -> int:
    # Not repr(), which depends on what this version of Python takes for printable.
    return crc32(ascii([(crc32(it),) if isinstance(it, bytes) else it for it in values]).encode())


def _of_rule(
    number: int,
    mode: str,
    kind: str,
    target: str,
    version: int,
    network: bytes,
    length: int,
    reason: str,
    source: str,
    created: float,
    expires: float | None,
    slot: int,
) -> int:
    """Return the same for a rule, of which there may be many, in half the time."""
    words = f"{number} {mode} {kind} {target} {version} {length} {slot} {source} {reason}"
    return crc32(words.encode() + network + _TIMES.pack(created, -1.0 if expires is None else expires))
