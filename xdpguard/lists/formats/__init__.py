# SPDX-License-Identifier: GPL-2.0
"""Public block lists in all common formats, detected from their content: `read` a stream, `read_file` a file.

    plain      an address or prefix per line; netset files of FireHOL      collector
    ranges     a-b per line, also with names in front (P2P)                collector
    csv        columns, with or without a header                           columns
    spamhaus   DROP, as text or as JSON lines                              collector, exports
    nftables   nft list ruleset, nft -j, nft scripts                       dumps, exports
    ipset      ipset save                                                  dumps
    crowdsec   cscli decisions list -o json, -o raw                        exports, columns

Any of them may be gzipped. What is read, and the memory it takes, is bounded: see `sources`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from xdpguard import files
from xdpguard.errors import UsageError
from xdpguard.lists.formats import columns, dumps, exports, sources
from xdpguard.lists.formats.collector import Collector, Fault, Parsed
from xdpguard.lists.formats.entries import Entry, decoded, entry

__all__ = ["Fault", "Parsed", "read", "read_file"]

_SAMPLE = 200  # lines
_NFTABLES = re.compile(
    rb"(?:[ \t]*(?:#[^\n]*)?\n)*+[ \t]*"
    rb"(?:table\s+(?:\w+\s+)?[^\s{}]+\s*\{|(?:set|map)\s+[^\s{}]+\s*\{|elements\s*=\s*\{"
    rb"|(?:add|create)\s+element\s[^{}\n]+\{|(?:add|create|flush|delete|destroy)\s+(?:table|set|map|chain)\s+"
    rb"(?:ip6?|inet|arp|bridge|netdev)\s|flush\s+ruleset|define\s+[^\s{}]+\s*=)"
)
_COMMENT = re.compile("[#;]")
_IPSET = re.compile(r"(?:create|-N|--create|add|-A|--add)\s+\S+\s+\S+")
_SPAMHAUS = re.compile(rb"^;[^\n]*spamhaus|;[ \t]*SBL[0-9]+[ \t]*$", re.IGNORECASE | re.MULTILINE)

Reader = Callable[[bytes, int], None]


def read(name: str, stream: BinaryIO) -> Parsed:
    """Read a list; ``name`` is for messages. Raise UsageError if it is not one, is corrupt, or has no entries."""
    collector = Collector(name)
    blocks = sources.text(name, stream)
    head = next(blocks, b"")
    form = _read(name, head, chain([head], blocks), collector)
    parsed = collector.parsed(form)
    if collector.empty:
        raise _no_entries(name, parsed)
    return parsed


def read_file(path: Path) -> Parsed:
    """Read a list from a regular file. Raise UsageError as `read` does, or if the file changes meanwhile."""
    descriptor = files.opened(path, "choose a readable file")
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        before = os.fstat(descriptor)
        parsed = read(files.shown(path), stream)
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
            f"{name}:{fault.line}: no entries; {fault.text!r} is {fault.why}", "write one address or prefix per line"
        )
    left_out = "; ".join(note for note in parsed.notes if note.startswith("left out"))
    return UsageError(f"{name}: no entries" + (f"; {left_out}" if left_out else ""), "check what it is")


def _read(name: str, head: bytes, blocks: Iterator[bytes], collector: Collector) -> str:
    if _NFTABLES.match(head):
        dumps.Nftables(collector).read(blocks)
        return "nftables"
    if exports.is_document(head) and not exports.is_lines(head):
        return exports.Export(name, blocks, collector).read()
    form, reader = "plain", None
    comment = ""

    def too_long(number: int, line: bytes) -> None:
        collector.fault(number, decoded(line), f"a line longer than {sources.LONGEST_LINE} bytes")

    for number, whole in sources.lines(blocks, too_long):
        if reader is None:
            sample, comment = _sample(whole, comment)
            if not sample:
                continue
            form, reader = _recognised(name, whole, sample, comment, collector)
        reader(whole, number)
    return form


def _sample(whole: bytes, comment: str) -> tuple[list[str], str]:
    """Return the first lines that are neither blank nor comments, and the comment right before them."""
    sample: list[str] = []
    start = 0 if whole.strip() else len(whole)
    while start < len(whole) and len(sample) < _SAMPLE:
        end = whole.index(b"\n", start)
        line = decoded(whole[start:end]).strip().removeprefix("\ufeff")
        start = end + 1
        if line and line[0] not in "#;":
            sample.append(line)
        elif line and not sample:
            comment = line
    return sample, comment


def _recognised(name: str, whole: bytes, sample: list[str], comment: str, collector: Collector) -> tuple[str, Reader]:
    if exports.is_lines(sample[0].encode()):
        return "spamhaus", lambda text, number: exports.spamhaus(text, number, collector)
    if _IPSET.match(sample[0]):
        return "ipset", dumps.Ipset(collector).block
    if _SPAMHAUS.search(whole, 0, 1 << 16):
        return "spamhaus", collector.block
    if found := columns.recognise(name, sample, comment):
        return "crowdsec" if found.decisions else "csv", columns.Table(found, collector).block
    entries = [line for line in sample if isinstance(entry(line), Entry)]
    return "ranges" if sum(map(_is_range, entries)) * 2 > len(entries) else "plain", collector.block


def _is_range(line: str) -> bool:
    text = _COMMENT.split(line)[0]
    return "-" in text or not isinstance(entry(text), Entry)  # a name in front may contain a comment character
