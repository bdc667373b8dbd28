# SPDX-License-Identifier: GPL-2.0
"""Lists in columns: find the columns with the addresses, and read them."""

from __future__ import annotations

import csv
import re
import socket
from collections.abc import Sequence
from typing import NamedTuple

from xdpguard.errors import UsageError
from xdpguard.lists.formats.collector import Collector
from xdpguard.lists.formats.decisions import skip_reason
from xdpguard.lists.formats.entries import Entry, decoded, entry, shown

# The more likely one first: lists have a column for the address and others for what it did, where and to whom.
NAMES = (
    *("ip", "address", "ip_address", "ipaddress", "ip_addr", "ip_addresses", "addr", "network", "cidr", "prefix"),
    *("ip_prefix", "ip_range", "iprange", "range", "netblock", "subnet", "net", "ipv4", "ipv6", "ip_cidr", "value"),
    *("src_ip", "source_ip", "attacker_ip", "dst_ip", "ioc_value", "ioc", "indicator", "host", "source", "src"),
)
# Not from and to: those are more often the two ends of a connection than of a range.
FIRSTS = (
    *("start_ip", "ip_start", "start", "start_address", "startip", "range_start", "network_start_ip", "begin"),
    *("first_ip", "ip_first", "first", "ip_from", "begin_ip", "ip_begin", "low", "first_address"),
    *("network_start_integer", "start_int", "start_integer"),
)
LASTS = (
    *("end_ip", "ip_end", "end", "end_address", "endip", "range_end", "network_end_ip", "last_ip", "ip_last", "last"),
    *("ip_to", "high", "last_address", "network_last_ip", "network_last_integer", "end_int", "end_integer"),
)
_DELIMITERS = ",\t;"
_UNNAMED = re.compile(r"[^a-z0-9]+")
_WIDEST = 64  # columns; no list has its addresses further right
_LOWEST = 1 << 24  # two integer columns that never reach 1.0.0.0 are not addresses

Row = list[str]


class Columns(NamedTuple):
    """The columns that hold the addresses."""

    delimiter: str
    header: Row  # normalised; empty if there is none
    headed: bool  # whether the first row is the header (which may also be a comment)
    first: int
    last: int | None = None  # of a range
    integers: bool = False

    @property
    def decisions(self) -> bool:
        """Whether this is CrowdSec's export or import format."""
        return {"ip", "action", "expiration"} <= set(self.header) or {"scope", "value"} <= set(self.header)

    def __str__(self) -> str:
        places = [self.first] if self.last is None else [self.first, self.last]
        named = [f"{at + 1} ({shown(self.header[at])})" if at < len(self.header) else f"{at + 1}" for at in places]
        return ("column " if self.last is None else "columns ") + " and ".join(named)


def recognise(name: str, sample: Sequence[str], comment: str) -> Columns | None:
    """Find the addresses in a file's first lines; ``comment`` is the one right before them, often the header."""
    rows_of = {delimiter: _rows(sample, delimiter) for delimiter in _DELIMITERS}
    for delimiter, rows in rows_of.items():
        header = _header(rows[0])
        if _known(header) and not isinstance(entry(sample[0]), Entry):
            return _by_name(delimiter, header, rows[1:], True) or _by_content(name, delimiter, header, rows[1:], True)
    plain = sum(isinstance(entry(line), Entry) for line in sample) * 2 >= len(sample)
    for delimiter, rows in rows_of.items():
        if plain and not (delimiter == ";" and _share(rows, 1) >= 0.5):
            continue  # lines that make sense without columns; a semicolon then starts a comment
        header = _header(_rows([comment.lstrip("#; ")], delimiter)[0])
        if _known(header) and len(header) == len(rows[0]) and (found := _by_name(delimiter, header, rows, False)):
            return found
        if found := _by_content(name, delimiter, [], rows, False):
            return found
    return None


def _header(row: Row) -> Row:
    return [_UNNAMED.sub("_", cell.strip(" #\"'").lower()).strip("_") for cell in row]


def _known(header: Row) -> bool:
    return not set(NAMES).isdisjoint(header) or (
        not set(FIRSTS).isdisjoint(header) and not set(LASTS).isdisjoint(header)
    )


def _by_name(delimiter: str, header: Row, rows: list[Row], headed: bool) -> Columns | None:
    first = next((header.index(word) for word in FIRSTS if word in header), None)
    last = next((header.index(word) for word in LASTS if word in header), None)
    if first is not None and last is not None and _share(rows, first) >= 0.5 and _share(rows, last) >= 0.5:
        return Columns(delimiter, header, headed, first, last)
    named = [header.index(word) for word in NAMES if word in header]
    found = Columns(delimiter, header, headed, named[0] if named else 0)
    # The first good column, else the best; its faults are reported line by line.
    best = next((at for at in named if _share(rows, at) >= 0.5), max(named, key=lambda at: _share(rows, at), default=0))
    if found.decisions or _share(rows, best) > 0:
        return found._replace(first=best)
    # Only after the addresses: beside addresses, a pair of integers is a pair of times.
    if first is not None and last is not None and _integers(rows, first, last):
        return found._replace(first=first, last=last, integers=True)
    return None


def _by_content(name: str, delimiter: str, header: Row, rows: list[Row], headed: bool) -> Columns | None:
    width = min(max(map(len, rows), default=0), _WIDEST)
    shares = [_share(rows, at) for at in range(width)]
    likely = [at for at, share in enumerate(shares) if share >= 0.5]
    found = Columns(delimiter, header, headed, likely[0] if likely else 0)
    # If the first row has no digit, but entries follow below it, it is a header in unknown words.
    if not headed and likely and len(rows) > 1 and not any(map(str.isdecimal, "".join(rows[0]))):
        found = found._replace(header=_header(rows[0]), headed=True)
        rows = rows[1:]
    if len(likely) > 1:
        pair = found._replace(last=likely[1])
        if likely[1] == likely[0] + 1 and _ascending(rows, pair):
            return pair
        columns = ", ".join(str(at + 1) for at in likely[:5]) + (" and more" if len(likely) > 5 else "")
        raise UsageError(
            f"{name}: columns {columns} hold addresses, and no header tells which ones are meant",
            "add a header line that names the columns, such as ip,other",
        )
    if likely:
        return found
    pair = found._replace(first=0, last=1, integers=True)
    return pair if _integers(rows, 0, 1) and _ascending(rows, pair) else None


def _cell(row: Row, at: int) -> str:
    return row[at].strip() if at < len(row) else ""


def _share(rows: list[Row], at: int) -> float:
    cells = [cell for row in rows if (cell := _cell(row, at))]
    if len(cells) * 2 < len(rows):
        return 0.0
    return sum(isinstance(entry(cell), Entry) for cell in cells) / len(cells) if cells else 0.0


def _ascending(rows: list[Row], pair: Columns) -> bool:
    """Return whether two columns hold ascending, disjoint ranges. Pairs of hosts are not sorted like that."""
    end = -1
    ranges = 0
    for row in rows:
        said = entry(_address(row, pair))
        if not isinstance(said, Entry):
            return False
        low, high = [*said.ranges4, *said.ranges6, *((network, network) for network, _ in said.prefixes6)][0]
        if low <= end:
            return False
        end = high
        ranges += 1
    return ranges > 1


def _integers(rows: list[Row], first: int, last: int) -> bool:
    pairs = [(_cell(row, first), _cell(row, last)) for row in rows]
    numbers = [(int(low), int(high)) for low, high in pairs if _is_number(low) and _is_number(high)]
    return sum(low <= high for low, high in numbers) * 2 > len(rows) and max(high for _, high in numbers) >= _LOWEST


def _is_number(cell: str) -> bool:
    return cell.isascii() and cell.isdecimal() and len(cell) < 40


def _rows(texts: Sequence[str], delimiter: str) -> list[Row]:
    """Split each line into cells. An unclosed quote ends with its line."""
    if not any('"' in text for text in texts):
        return [text.split(delimiter) for text in texts]
    rows = list(csv.reader(texts, delimiter=delimiter, skipinitialspace=True))
    if len(rows) == len(texts):
        return rows
    return [next(csv.reader([text], delimiter=delimiter, skipinitialspace=True), []) for text in texts]


class Table:
    """Reads the rows of a list in columns."""

    def __init__(self, columns: Columns, collector: Collector) -> None:
        self._columns = columns
        self._collector = collector
        self._headed = columns.headed
        header = columns.header
        self._scope, self._kind, self._duration, self._simulated = (
            next((header.index(word) for word in words if word in header), len(header))
            for words in (("scope",), ("action", "type"), ("expiration", "duration"), ("simulated",))
        )
        self._value = header.index("ip" if "ip" in header else "value") if columns.decisions else 0
        if not columns.decisions:
            collector.notes.append(f"addresses are in {columns}")

    def block(self, text: bytes, number: int) -> None:
        """Add whole lines."""
        kept = [
            (at, line)
            for at, line in enumerate(decoded(text).split("\n"), start=number)
            if (bare := line.strip()) and bare[0] != "#" and (bare[0] != ";" or self._columns.delimiter == ";")
        ]
        if self._headed and kept:
            self._headed = False
            del kept[0]
        decisions = self._columns.decisions
        values: list[str] = []
        numbers: list[int] = []
        for (at, _), row in zip(kept, _rows([line for _, line in kept], self._columns.delimiter), strict=True):
            value = self._decision(row) if decisions else _address(row, self._columns)
            if value is not None:
                values.append(value)
                numbers.append(at)
        self._collector.values(values, numbers)

    def _decision(self, row: Row) -> str | None:
        value = _cell(row, self._value)
        scope = _cell(row, self._scope)
        if not scope and value.partition(":")[0].lower() in ("ip", "range"):
            scope, _, value = value.partition(":")
        elif not scope:
            scope = "ip" if isinstance(entry(value), Entry) else value.partition(":")[0]
        simulated = _cell(row, self._simulated).lower() == "true"
        if reason := skip_reason(scope, _cell(row, self._kind) or "ban", _cell(row, self._duration), simulated):
            self._collector.leave_out(reason)
            return None
        return value


def _address(row: Row, columns: Columns) -> str:
    first = _cell(row, columns.first)
    if columns.last is None:
        return first
    last = _cell(row, columns.last)
    if columns.integers and _is_number(first) and _is_number(last):
        return _dotted(int(first), int(last))
    return f"{first}-{last}" if first or last else ""


def _dotted(first: int, last: int) -> str:
    if max(first, last) < 1 << 32:
        return "-".join(socket.inet_ntoa(number.to_bytes(4, "big")) for number in (first, last))
    if max(first, last) < 1 << 128:
        return "-".join(socket.inet_ntop(socket.AF_INET6, number.to_bytes(16, "big")) for number in (first, last))
    return f"{first}-{last}"
