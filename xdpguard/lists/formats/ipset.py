# SPDX-License-Identifier: GPL-2.0
"""Dumps of `ipset save`."""

from __future__ import annotations

import re

from xdpguard.lists.formats.collector import Collector
from xdpguard.lists.formats.entries import decoded

_SETS = 1 << 16  # the kernel's own limit
_REMOVES = (b"del", b"-D", b"--del")
_FLUSHES = (b"flush", b"-F")
_QUOTED = re.compile(rb'"[^"\n]*"')
_TIMEOUT = re.compile(rb"\btimeout\s+([0-9]{1,12})\b")


class Ipset:
    """Reads the entries of address sets."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._unwanted: dict[bytes, str] = {}
        self._timeouts: dict[bytes, float] = {}  # seconds, of entries that name none
        collector.reading = "entries of ipset save"
        self._lengths: dict[bytes, str] = {}  # hash:ip with netmask: each entry stands for a network

    def block(self, text: bytes, number: int) -> None:
        """Add whole lines."""
        values: list[str] = []
        numbers: list[int] = []
        ends: list[int] = []
        for at, line in enumerate(text.split(b"\n"), start=number):
            words = line.split(None, 3)
            if not words or words[0][:1] in b"#;":
                continue
            rest = words[3] if len(words) > 3 else b""
            if len(words) > 2 and words[0] in (b"add", b"-A", b"--add"):
                value, end = self._entry(words[1], words[2], rest, at)
                if end is not None:
                    values.append(value)
                    numbers.append(at)
                    ends.append(end)
            elif len(words) > 2 and len(self._unwanted) < _SETS and words[0] in (b"create", b"-N", b"--create"):
                self._create(words[1], words[2], rest.split())
            elif words[0] in _REMOVES or (words[0] in _FLUSHES and (values or not self._collector.empty)):
                raise self._collector.refused(
                    at, "a script that also removes entries", "run it, and load what ipset save prints"
                )
            elif words[0] not in (b"COMMIT", *_FLUSHES, b"-X", b"destroy", b"swap"):
                self._collector.fault(at, decoded(line), "not a line of ipset save")
        self._collector.values(values, numbers, ends)

    def _create(self, name: bytes, kind: bytes, words: list[bytes]) -> None:
        if kind not in (b"hash:ip", b"hash:net", b"bitmap:ip", b"iphash", b"nethash", b"ipmap"):
            port = b"ip" in kind or b"net" in kind
            self._unwanted[name] = "entries with a port or another part" if port else f"entries of type {decoded(kind)}"
        elif b"bitmask" in words:
            self._unwanted[name] = "entries of sets with a bitmask"
        if b"netmask" in words[:-1]:
            self._lengths[name] = "/" + decoded(words[words.index(b"netmask") + 1])
        if b"timeout" in words[:-1] and (seconds := words[words.index(b"timeout") + 1]).isdigit():
            self._timeouts[name] = float(seconds[:12])

    def _entry(self, name: bytes, value: bytes, rest: bytes, line: int) -> tuple[str, int | None]:
        """Return an entry, and its end: 0 for none, None if it does not block."""
        unwanted = self._unwanted.get(name, "")
        if not unwanted and b"," in value:
            unwanted = "entries with a port or another part"
        if unwanted:
            self._collector.notes.leave_out(unwanted)
            return "", None
        text = value.decode("latin-1")
        text = text if "/" in text or "-" in text else text + self._lengths.get(name, "")
        if b'"' in rest:
            rest = _QUOTED.sub(b"", rest)
        if b"nomatch" in rest and b"nomatch" in rest.split():
            self._collector.let_in(text, line, "exceptions (nomatch)")
            return text, None
        seconds = self._timeouts.get(name, 0.0)
        if rest and (found := _TIMEOUT.search(rest)):
            seconds = float(found[1])
        notes = self._collector.notes
        end = notes.end(notes.now + seconds if seconds else None)
        if end is not None:
            notes.came_from(decoded(name))
        return text, end
