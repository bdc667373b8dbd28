# SPDX-License-Identifier: GPL-2.0
"""Public block lists in all common formats, detected from their content: `read` a stream, `read_file` a file.

    plain      an address or prefix per line; netset files of FireHOL      lines, blocks
    ranges     a-b per line, also with names in front (P2P)                lines, blocks
    dat        ranges with a level (eMule)                                 levels
    csv        columns, with or without a header                           columns, table
    rbldnsd    zones of ip4set, ip4trie, ip6trie                           zones
    spamhaus   DROP, as text or as JSON lines                              lines, objects
    nftables   nft list ruleset, nft -j, nft scripts                       nftables, exports
    ipset      ipset save                                                  ipset
    crowdsec   cscli decisions list -o json, -o raw                        exports, columns

Of nftables, ipset and crowdsec, of csv and spamhaus by the names of their columns and members, and of fail2ban's
`banip --with-time`, the ends of entries are read as well.

A file that allows two readings is refused unless a `Request` decides. Any of them may be gzipped. What is read, and the
memory it takes, is bounded: see `sources`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO

from xdpguard import files
from xdpguard.errors import UsageError
from xdpguard.lists.formats import exports, objects, sources
from xdpguard.lists.formats.collector import Collector, Fault, Parsed
from xdpguard.lists.formats.entries import decoded
from xdpguard.lists.formats.headings import Headings
from xdpguard.lists.formats.nftables import Nftables
from xdpguard.lists.formats.recognition import Sample, recognised
from xdpguard.lists.formats.request import LINES, Request
from xdpguard.units import counted

__all__ = ["Fault", "Parsed", "Request", "read", "read_file"]

_NFTABLES = re.compile(
    rb"(?:[ \t]*(?:#[^\n]*)?\n)*+[ \t]*"
    rb"(?:table\s+(?:\w+\s+)?[^\s{}]+\s*\{|(?:set|map)\s+[^\s{}]+\s*\{|elements\s*=\s*\{"
    rb"|(?:add|create)\s+element\s[^{}\n]+\{|(?:add|create|flush|delete|destroy)\s+(?:table|set|map|chain)\s+"
    rb"(?:ip6?|inet|arp|bridge|netdev)\s|flush\s+ruleset|define\s+[^\s{}]+\s*=\s*[^\s\[])"
)


def read(name: str, stream: IO[bytes], request: Request | None = None) -> Parsed:
    """Read a list; ``name`` is for messages. Raise UsageError if it is not one, is corrupt, or has no entries."""
    asked = (request or Request()).checked()
    collector = Collector(name, asked.now or time.time())
    blocks = sources.text(name, stream)
    head = next(blocks, b"")
    form = _read(name, head, chain([head], blocks), collector, asked)
    parsed = collector.parsed(form)
    if collector.empty and (collector.skipped or not asked.allow_empty):
        raise _no_entries(name, parsed)
    if form in LINES and not asked.mark and collector.skipped > collector.entries + collector.left_out:
        raise _mostly_faults(name, parsed)
    return parsed


def read_file(path: Path, request: Request | None = None) -> Parsed:
    """Read a list from a regular file. Raise UsageError as `read` does, or if the file changes meanwhile."""
    descriptor = files.opened(path, "choose a readable file")
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        before = os.fstat(descriptor)
        parsed = read(files.shown(path), stream, request)
        after = os.fstat(descriptor)
    if _identity(before) != _identity(after):
        raise UsageError(f"{path}: changed while it was read", "try again when it is complete")
    return parsed


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _no_entries(name: str, parsed: Parsed) -> UsageError:
    if parsed.faults:
        fault = parsed.faults[0]
        return UsageError(
            f"{name}:{fault.line}: no entries; " + (f"{fault.text!r} is {fault.why}" if fault.text else fault.why),
            "write one address or prefix per line",
        )
    left_out = "; ".join(note for note in parsed.notes if note.startswith("left out"))
    return UsageError(
        f"{name}: no entries" + (f"; {left_out}" if left_out else ""),
        "check what it is; if it is empty on purpose, --allow-empty (in the configuration, allow_empty) loads it",
    )


def _mostly_faults(name: str, parsed: Parsed) -> UsageError:
    fault = parsed.faults[0]
    bad = counted(parsed.skipped, "line is not an entry", "lines are not entries")
    return UsageError(
        f"{name}: {bad} and {counted(parsed.given, 'is', 'are')}, read as {parsed.reading}; the first is line"
        f" {fault.line}: {fault.text!r}: {fault.why}",
        "check what it is; --format plain takes the entries there are",
    )


def _read(name: str, head: bytes, blocks: Iterator[bytes], collector: Collector, request: Request) -> str:
    if not request.column and not request.prefix_column and request.format not in LINES:
        form = ""
        if _NFTABLES.match(head):
            Nftables(collector).read(blocks)
            form = "nftables"
        elif exports.is_document(head) and not objects.is_lines(head):
            form = exports.Export(name, blocks, collector).read()
        if form and request.format and form != request.format:
            raise UsageError(f"{name}: it is not in the format {request.format}; it looks like {form}", "leave it out")
        if form:
            return form
    form, reader, headings = "plain", None, Headings(collector)
    collector.reading = "an empty file, or comments only"
    comments: tuple[str, ...] = ()

    def too_long(number: int, line: bytes) -> None:
        collector.fault(number, decoded(line), f"a line longer than {sources.LONGEST_LINE} bytes")

    for number, whole in sources.lines(blocks, too_long):
        if reader is None:
            sample = Sample.of(whole, comments)
            if not sample.lines:
                comments = sample.comments
                continue
            form, reader = recognised(name, whole, sample, collector, request)
        if not request.mark:
            headings.check(whole, number, form)
        reader(whole, number)
    return form
