# SPDX-License-Identifier: GPL-2.0
"""Dumps of nftables: `nft list ruleset` and nft scripts."""

from __future__ import annotations

import re
from collections.abc import Iterator

from xdpguard.lists.formats.collector import Collector
from xdpguard.lists.formats.ends import duration
from xdpguard.lists.formats.entries import decoded

_HELD = 1 << 16  # bytes; limit of one element, or of one line outside the elements

# Quoted strings and comments must not be taken for elements. All of these take linear time.
_QUOTED = re.compile(rb'"[^"\n]*"')
_QUOTED_OR_COMMENT = re.compile(rb'"[^"\n]*"|#[^\n]*')
_UNQUOTED = re.compile(rb'["#]')
_STEP = re.compile(
    rb"(?:^|[;{}])[ \t]*(?P<kind>set|map)[ \t]+(?P<name>[^\s{}]{1,200})[ \t]*\{"
    rb"|\btype(?P<of>of)?[ \t]+(?P<type>[^;\n{}]+)"
    rb"|\btimeout[ \t]+(?P<timeout>[0-9a-z]+)"
    rb"|(?P<elements>\b(?:elements|define[ \t]+[^\s{}]{1,200})[ \t]*=[ \t]*\{"
    rb"|\b(?:add|create)[ \t]+element[ \t]+[^{}\n]{1,200}\{)"
    rb"|(?P<ruled>\bip6?[ \t]+[sd]addr[ \t]+(?:!=[ \t]*|vmap[ \t]*)?(?:[0-9{]|[0-9A-Fa-f]*:)"
    rb"|^[ \t]*(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?:/[0-9]+)?[ \t]*,?[ \t]*$)"
    rb"|(?P<taken>\b(?:delete|destroy)[ \t]+element[ \t]|\bflush[ \t]+set[ \t])",
    re.MULTILINE,
)
_WORDS = re.compile(rb"\s(?:timeout|expires|counter|comment|limit|quota|ct|last|size|packets|bytes)\b[^,]*")
_TIMED = re.compile(rb"\s(timeout|expires)\s+([0-9a-z]+)")
RULED = "addresses in rules, or elsewhere outside sets, not taken"
_ADDRESSES = (b"ipv4_addr", b"ipv6_addr")


class Nftables:
    """Reads the elements of address sets."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        collector.reading = "elements of nftables sets"
        self._held = b""
        self._number = 1
        self._counted = 0
        self._inside = False
        self._unwanted = ""  # why the elements of this set are skipped
        self._name = ""
        self._timeout: float | None = None  # of the set's elements, in seconds
        self._sets = 0
        self._values: list[str] = []
        self._numbers: list[int] = []
        self._ends: list[int] = []

    def read(self, blocks: Iterator[bytes]) -> None:
        """Read text that may be cut anywhere."""
        for block in blocks:
            self._advance(self._held + block, False)
        self._advance(self._held + b"\n", True)
        if self._inside:
            self._collector.fault(self._number, "", "the file ends in the middle of the elements")
        if not self._sets:
            self._collector.fault(self._number, "", "a ruleset without a set")

    def _advance(self, text: bytes, final: bool) -> None:
        cut = text.rfind(b"\n") + 1
        body = _QUOTED_OR_COMMENT.sub(b"", text[:cut])
        text = body + _QUOTED.sub(b"", text[cut:])
        stray = _UNQUOTED.search(text, len(body))  # opened, and not closed yet
        limit = stray.start() if stray else len(text)
        at = self._counted = 0
        while at < limit:
            before = at
            at = self._elements(text, at, limit, final) if self._inside else self._outside(text, at, limit, final)
            if at == before:
                break
        if len(text) - at > _HELD and not final:
            self._collector.fault(self._line(text, at), decoded(text[at : at + 80]), "too long for an element or line")
            at = len(text)
        self._line(text, at)
        self._held = text[at:]
        self._collector.values(self._values, self._numbers, self._ends)
        self._values, self._numbers, self._ends = [], [], []

    def _line(self, text: bytes, at: int) -> int:
        """Return the line number at this offset; offsets must ascend."""
        self._number += text.count(b"\n", self._counted, at)
        self._counted = at
        return self._number

    def _outside(self, text: bytes, at: int, limit: int, final: bool) -> int:
        # What follows the last of these may continue in the next block.
        ends = (text.rfind(b"\n", at, limit) + 1, text.rfind(b";", at, limit), text.rfind(b"{", at, limit) + 1, at)
        stop = limit if final else max(ends)
        for step in _STEP.finditer(text, at, stop):
            if step["kind"]:
                self._name = decoded(step["name"])
                self._timeout = None
                self._sets += 1
                self._unwanted = "elements of maps" if step["kind"] == b"map" else ""
            elif step["type"]:
                self._unwanted = self._unwanted or _unwanted(step["type"].strip(), bool(step["of"]))
            elif step["timeout"]:
                self._timeout = duration(decoded(step["timeout"]))
            elif step["ruled"]:
                self._collector.notes.remark(RULED, self._line(text, step.start()))
            elif step["taken"]:
                self._removes(step["taken"], self._line(text, step.start()))
            else:
                self._sets += 1
                if not step["elements"].startswith(b"elements"):
                    self._timeout = None
                    self._unwanted, self._name = "", decoded(step["elements"][:-1].rstrip(b" =\t").split()[-1])
                self._inside = True
                return step.end()
        return stop

    def _removes(self, command: bytes, line: int) -> None:
        """Refuse a script that takes back elements it has added: only the kernel knows what is left."""
        if not command.startswith(b"flush") or self._values or not self._collector.empty:
            raise self._collector.refused(
                line, "a script that also removes elements", "run it, and load what nft list ruleset prints"
            )

    def _elements(self, text: bytes, at: int, limit: int, final: bool) -> int:
        end = text.find(b"}", at, limit)
        if end < 0:
            stop = limit if final else text.rfind(b",", at, limit)
            if stop < 0:
                return at
            self._take(text, at, stop)
            return stop + 1 if not final else stop
        self._take(text, at, end)
        self._inside = False
        return end + 1

    def _take(self, text: bytes, at: int, stop: int) -> None:
        number = self._line(text, at)
        for piece in text[at:stop].split(b","):
            bare = piece.strip()
            line = number
            if b"\n" in piece:
                line += piece[: len(piece) - len(piece.lstrip())].count(b"\n")
                number += piece.count(b"\n")
            if not bare:
                continue
            value = (_WORDS.sub(b"", bare) if b" " in bare else bare).decode("latin-1")
            if self._unwanted:
                self._collector.notes.leave_out(self._unwanted)
            elif value == "*":
                self._collector.notes.leave_out("catch-all elements (*)")
            elif " . " in value:
                self._collector.notes.leave_out("elements with a port or another part")
            elif (end := self._end(bare)) is not None:
                self._values.append(value)
                self._numbers.append(line)
                self._ends.append(end)
                self._collector.notes.came_from(self._name)

    def _end(self, element: bytes) -> int | None:
        """Return the end of an element, 0 for none; None if it has ended."""
        seconds = self._timeout
        if b" timeout " in element or b" expires " in element:
            times = dict(_TIMED.findall(element))
            seconds = duration(decoded(times.get(b"expires") or times.get(b"timeout") or b""))
        notes = self._collector.notes
        return notes.end(notes.now + seconds if seconds else None)


def _unwanted(kind: bytes, typeof: bool) -> str:
    if b" . " in kind:
        return "elements with a port or another part"
    if kind in _ADDRESSES or (typeof and kind.startswith((b"ip ", b"ip6 "))):
        return ""
    return f"elements of type {decoded(kind)}"
