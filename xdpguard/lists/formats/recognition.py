# SPDX-License-Identifier: GPL-2.0
"""Tell the formats of lines apart by their first lines, and choose what reads them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from xdpguard.errors import UsageError
from xdpguard.lists.formats import columns, lines, objects
from xdpguard.lists.formats.collector import Collector
from xdpguard.lists.formats.entries import Entry, decoded, entry
from xdpguard.lists.formats.ipset import Ipset
from xdpguard.lists.formats.levels import Levels, has_levels
from xdpguard.lists.formats.others import refuse_others
from xdpguard.lists.formats.request import Request
from xdpguard.lists.formats.table import Table
from xdpguard.lists.formats.zones import Zone, is_zone

_SAMPLE = 200  # lines
_COMMENTS = 9  # kept, and one more
_COMMENT = re.compile("[#;]")
_IPSET = re.compile(
    r"(?:create|-N|--create)\s+\S+\s+(?:(?:hash|bitmap|list):|ip(?:hash|map|port|tree)|nethash|macipmap|portmap|setlist)"
    r"|(?:add|-A|--add)\s+\S+\s+[0-9A-Fa-f:\"]"
)
_SPAMHAUS = re.compile(rb"^;[^\n]*spamhaus|;[ \t]*SBL[0-9]+[ \t]*$", re.IGNORECASE | re.MULTILINE)
_FIELDS = "#fields\t"  # Zeek: the names of the columns

Reader = Callable[[bytes, int], None]


class Sample(NamedTuple):
    """The first lines that are neither blank nor comments, and the last comments before them; one may be a header."""

    lines: list[str]
    comments: tuple[str, ...]

    @classmethod
    def of(cls, whole: bytes, comments: tuple[str, ...]) -> Sample:
        """Take it from whole lines; ``comments`` are the last ones before them."""
        found: list[str] = []
        start = 0 if whole.strip() else len(whole)
        while start < len(whole) and len(found) < _SAMPLE:
            end = whole.index(b"\n", start)
            line = decoded(whole[start:end]).removeprefix("\ufeff")
            start = end + 1
            bare = line.strip().removeprefix("\ufeff")
            if bare and bare[0] not in "#;" and not bare.startswith(("//", "--")):
                found.append(line)
            elif bare and not found and not any(it.startswith(_FIELDS) for it in comments):
                comments = (*comments[-_COMMENTS:], bare)
        return cls(found, comments)


def recognised(name: str, whole: bytes, sample: Sample, collector: Collector, request: Request) -> tuple[str, Reader]:
    """Return the format of whole lines, and what reads them. Raise UsageError if it is not known, or in doubt."""
    match request.format:
        case "plain" | "addresses" | "ranges":
            return request.format, _lines(request.format, collector)
    if request.column or request.prefix_column or request.format == "csv":
        return _table(name, sample, collector, request) or ("csv", collector.block)
    form, reader = _detected(name, whole, sample, collector, request)
    if request.format and form != request.format:
        raise UsageError(f"{name}: it is not in the format {request.format}; it looks like {form}", "leave it out")
    return form, reader


def _detected(name: str, whole: bytes, sample: Sample, collector: Collector, request: Request) -> tuple[str, Reader]:
    first = sample.lines[0].strip()
    if objects.has_cidr(first):
        collector.reading = "Spamhaus' JSON lines"
        return "spamhaus", lambda text, number: objects.spamhaus(text, number, collector)
    if _IPSET.match(first) or is_zone(first):
        return ("ipset", Ipset(collector).block) if _IPSET.match(first) else ("rbldnsd", Zone(collector).block)
    if _SPAMHAUS.search(whole, 0, 1 << 16):
        collector.reading = "Spamhaus' list, one prefix per line"
        return "spamhaus", collector.block
    refuse_others(name, sample.lines)
    if has_levels(sample.lines):
        return "dat", Levels(collector).block
    bans = sum(map(lines.has_ban_times, sample.lines)) * 2 > len(sample.lines)
    found = None if bans else _table(name, sample, collector, request)
    return found or _plain(sample, collector)


def _plain(sample: Sample, collector: Collector) -> tuple[str, Reader]:
    entries = [line for line in sample.lines if isinstance(entry(line), Entry)]
    ranges = sum(map(_is_range, entries)) * 2 > len(entries)
    collector.reading = "ranges, one per line" if ranges else "one address, prefix or range per line"
    return "ranges" if ranges else "plain", collector.block


def _table(name: str, sample: Sample, collector: Collector, request: Request) -> tuple[str, Reader] | None:
    comments = [it.removeprefix("#fields").strip() if it.startswith(_FIELDS) else it for it in sample.comments]
    rows, spare = sample.lines, 0
    if rows[0].strip().lower().strip('"').startswith("sep=") and len(rows) > 1:
        rows = rows[1:]  # a spreadsheet's own first line
        spare = 1
    title = columns.titles(rows)
    rows, spare = rows[title:], spare + title
    found = columns.recognise(name, rows, comments, request)
    if not found:
        return None
    table = Table(found, collector, spare, title)
    return "crowdsec" if found.decisions and not request.column else "csv", table.block


def _lines(form: str, collector: Collector) -> Reader:
    read, collector.reading = {
        "plain": (lines.first_only, "one address, prefix or range per line, whatever follows"),
        "addresses": (lines.every, "every address of a line"),
        "ranges": (lines.first_two, "ranges from the first address of a line to its second"),
    }[form]
    collector.read_lines_as(lambda line, now: read(line))
    return collector.block


def _is_range(line: str) -> bool:
    text = _COMMENT.split(line)[0]
    return "-" in text or not isinstance(entry(text), Entry)  # a name in front may contain a comment character
