# SPDX-License-Identifier: GPL-2.0
"""Choose the columns of addresses of a list: by their names, and by what they hold."""

from __future__ import annotations

from xdpguard.errors import UsageError
from xdpguard.lists.formats import doubts, judges, names, words
from xdpguard.lists.formats.entries import entry, shown
from xdpguard.lists.formats.layout import Layout
from xdpguard.lists.formats.lengths import find_lengths
from xdpguard.lists.formats.request import NONE, Request
from xdpguard.lists.formats.rows import (
    Column,
    Row,
    are_integers,
    are_ranges,
    cell,
    holds_address,
    is_entry,
)

_WIDEST = 64  # columns; no list has its addresses further right
_TIMES = frozenset(["time", "_time", "timestamp", "date", "datetime", "day", "first_seen", "last_seen"])
_REMEDY = "name it with --column NAME or NUMBER; two of them, --column FIRST,LAST, are the ends of ranges"


class Choice:
    """Chooses the columns of rows that are split by one delimiter."""

    def __init__(self, name: str, delimiter: str, header: Row, headed: bool, rows: list[Row], request: Request) -> None:
        self._name = name
        self._request = request
        self._header = header
        self._rows = rows
        self._width = min(max(map(len, rows), default=len(header)), _WIDEST)
        self._columns = [Column.of(rows, at) for at in range(self._width)]
        self._layout = Layout(delimiter, header, headed, 0)

    def made(self) -> Layout | None:
        """Return the layout, or None if no column holds addresses."""
        if not self._rows:  # a header alone
            return self._layout
        found = self._asked() if self._request.column else self._by_name() or self._by_content()
        if found is None:
            self._refuse_without()
            return None
        if found.decisions and not self._request.column:
            return found
        if found.last is None:
            found = find_lengths(self._name, found, self._rows, self._columns, self._request)
        if not self._request.column:
            doubts.refuse(self._name, found, self._rows, self._columns)
        return found._replace(judges=self._judges(found))

    def _asked(self) -> Layout | None:
        places = [self._place(text.strip()) for text in self._request.column.split(",")]
        found = self._layout
        if not found.headed and not found.header and not self._column_used(places[0]):
            # The first row may be a header in words this module does not know.
            header = header_of(self._rows[0])
            found = found._replace(header=header, headed=True)
            self._rows = self._rows[1:]
        found = found._replace(first=places[0], last=places[1] if len(places) > 1 else None)
        if found.last is not None:
            numbers = [cell(row, at) for row in self._rows for at in places]
            found = found._replace(integers=all(text.isdecimal() for text in numbers if text))
        return found

    def _column_used(self, at: int) -> bool:
        """Return whether the first row has an address in this column, or a number."""
        text = cell(self._rows[0], at) if self._rows else ""
        return is_entry(text) or any(map(str.isdecimal, text)) or ":" in text

    def _place(self, text: str) -> int:
        if text.isdecimal():
            if not 1 <= int(text[:6]) <= max(self._width, len(self._header)):
                raise UsageError(f"{self._name}: there is no column {shown(text)}", f"it has {self._width}")
            return int(text) - 1
        header = self._header or (header_of(self._rows[0]) if self._rows else [])
        if (place := _find(header, text)) is None:
            listed = ", ".join(shown(word) for word in header[:10] if word)
            raise UsageError(f"{self._name}: there is no column {shown(text)}", f"name one of {listed}, or its number")
        return place

    def _by_name(self) -> Layout | None:
        """Choose by the header; None if it tells nothing about columns that hold addresses."""
        header = self._header
        if not header:
            return None
        first, last = (
            next((header.index(word) for word in ends if word in header), None) for ends in (names.FIRSTS, names.LASTS)
        )
        holding = self._holding()
        if first is not None and last is not None and {first, last} <= set(holding):
            return self._layout._replace(first=first, last=last)
        found = (
            self._layout._replace(first=header.index("ip" if "ip" in header else "value"))
            if (self._layout.decisions)
            else None
        )
        if found or (found := self._best(holding)):
            return found
        if first is not None and last is not None:
            pairs = [(cell(row, first), cell(row, last)) for row in self._rows]
            if are_integers(pairs, header[first] in names.INTEGERS):
                return self._layout._replace(first=first, last=last, integers=True)
        return None

    def _best(self, holding: list[int]) -> Layout | None:
        """Choose among columns of addresses by their names."""
        header = self._header

        def among(wanted: frozenset[str]) -> list[int]:
            return [at for at in holding if at < len(header) and header[at] in wanted]

        sources, usual, targets = among(names.SOURCES), among(names.ADDRESSES), among(names.TARGETS)
        if len(holding) == 1 and among(names.NO_ADDRESSES):
            raise self._refused(holding, "by its name it holds something else")
        if len(sources) + len(usual) == 1:
            return self._layout._replace(first=(sources or usual)[0])
        if len(holding) == 1:
            (at,) = holding
            wanted = [word for word in header if word in names.SOURCES or word in names.ADDRESSES]
            logged = header[at : at + 1] == ["host"] and not _TIMES.isdisjoint(header)
            if targets and (wanted or logged):
                raise self._refused(holding, "its name is that of the machine attacked, or that logged it")
            if any(word in names.ADDRESSES and word.startswith("ip") for word in header):
                raise self._refused(holding, "the header names another one, which holds none")
            return self._layout._replace(first=at)
        if holding:
            raise self._refused(holding, "their names do not tell which to block" if header else "")
        # None that mostly holds addresses: the named one that holds some. Its faults are reported line by line.
        some = [at for at, column in enumerate(self._columns) if column.entries and at < len(header)]
        some = [at for at in some if header[at] in names.SOURCES or header[at] in names.ADDRESSES]
        return self._layout._replace(first=max(some, key=lambda at: self._columns[at].entries)) if some else None

    def _refuse_without(self) -> None:
        """Raise UsageError for rows without an address, whose header names a column of addresses."""
        wanted = names.SOURCES | names.ADDRESSES | names.TARGETS
        for at, word in enumerate(self._header if self._layout.headed else []):
            text = next((text for row in self._rows if (text := cell(row, at))), "")
            if word in wanted and text and not any(column.entries for column in self._columns):
                raise UsageError(
                    f"{self._name}: no entries; column {self._layout.named(at)} holds no addresses: {shown(text)!r} is "
                    f"{entry(text)}",
                    "check what it is, or name another column with --column",
                )

    def _holding(self) -> list[int]:
        """Return the columns that hold addresses, without those that are named for something else."""
        lengths = self._request.prefix_column
        asked = self._place(lengths) if lengths not in ("", NONE) else None
        found = [at for at, column in enumerate(self._columns) if column.addresses and at != asked]
        kept = [at for at in found if not (at < len(self._header) and self._header[at] in names.NO_ADDRESSES)]
        return kept or found

    def _by_content(self) -> Layout | None:
        found = self._layout
        if not found.header and len(self._rows) > 1 and self._looks_likeheader_of():
            found = found._replace(header=header_of(self._rows[0]), headed=True)
            self._header, self._rows = found.header, self._rows[1:]
            self._columns = [Column.of(self._rows, at) for at in range(self._width)]
            self._layout = found
        holding = self._holding()
        if len(holding) == 2 and holding[1] == holding[0] + 1:
            pairs = [(cell(row, holding[0]), cell(row, holding[1])) for row in self._rows]
            if are_ranges(pairs):
                return found._replace(first=holding[0], last=holding[1])
        if self._only_addresses(holding):
            return None  # several addresses a line; a plain list takes each
        if best := self._best(holding):
            return best
        pairs = [(cell(row, 0), cell(row, 1)) for row in self._rows]
        return found._replace(first=0, last=1, integers=True) if are_integers(pairs, False) else None

    def _looks_likeheader_of(self) -> bool:
        """Return whether the first row has no digit, though there are addresses below it."""
        row = self._rows[0]
        below = [at for at, column in enumerate(self._columns) if column.addresses]
        return bool(below) and not holds_address(row) and not any(map(str.isdecimal, "".join(row)))

    def _only_addresses(self, holding: list[int]) -> bool:
        """Return whether the rows are of different lengths, and hold addresses only."""
        rows = [[text for text in row if text.strip()] for row in self._rows]
        return (
            self._layout.delimiter in ",;"
            and len(holding) == self._width
            and len({len(row) for row in rows}) > 1
            and all(is_entry(text) for row in rows for text in row)
        )

    def _refused(self, places: list[int], why: str) -> UsageError:
        listed = ", ".join(self._layout.named(at) for at in places[:5]) + (" and more" if len(places) > 5 else "")
        if len(places) == 1:
            return UsageError(f"{self._name}: column {listed} holds addresses, but {why}", _REMEDY)
        masks = [at for at in places if all(text.startswith(("0.", "255.")) for text in self._columns[at].filled)]
        if len(masks) == 1 and len(places) == 2:
            return UsageError(
                f"{self._name}: column {self._layout.named(masks[0])} may hold netmasks, wildcard masks or addresses",
                f"--prefix-column {masks[0] + 1} reads it as masks, --format addresses takes each address",
            )
        if not self._header and len(places) == self._width:
            return UsageError(
                f"{self._name}: several addresses on one line, in columns {listed}: each an entry, or ends of ranges",
                "--format addresses takes each, --format ranges the first two as a range, --column one column",
            )
        why = why or "no header tells which ones are meant"
        return UsageError(f"{self._name}: columns {listed} hold addresses, and {why}", _REMEDY)

    def _judges(self, found: Layout) -> tuple[judges.Judge, ...]:
        """Return the columns that decide over rows."""
        taken = {found.first, found.last, found.length}
        made: list[judges.Judge | None] = []
        for column in self._columns:
            name = found.header[column.at] if column.at < len(found.header) else ""
            if column.at not in taken:
                found_by = judges.judge(column.at, name) or judges.flagged(column.at, name, column.filled)
                made.append(found_by or judges.unnamed(column.at, column.filled, name))
        return tuple(judge for judge in made if judge)


def _find(header: Row, text: str) -> int | None:
    wanted = words.normal(text)
    return header.index(wanted) if wanted in header else None


def header_of(row: Row) -> Row:
    """Return the names of columns as they are compared."""
    return [words.normal(text) for text in row]
