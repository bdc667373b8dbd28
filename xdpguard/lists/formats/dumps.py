# SPDX-License-Identifier: GPL-2.0
"""Text dumps of other firewalls: `nft list ruleset` and nft scripts, `ipset save`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from xdpguard.lists.formats.collector import Collector
from xdpguard.lists.formats.entries import decoded

_SETS = 1 << 16  # the kernel's own limit
_HELD = 1 << 16  # bytes; limit of one element, or of one line outside the elements

# Quoted strings and comments must not be taken for elements. All of these take linear time.
_QUOTED = re.compile(rb'"[^"\n]*"')
_QUOTED_OR_COMMENT = re.compile(rb'"[^"\n]*"|#[^\n]*')
_UNQUOTED = re.compile(rb'["#]')
_STEP = re.compile(
    rb"(?:^|[;{}])[ \t]*(?P<kind>set|map)[ \t]+(?P<name>[^\s{}]{1,200})[ \t]*\{"
    rb"|\btype(?P<of>of)?[ \t]+(?P<type>[^;\n{}]+)"
    rb"|(?P<elements>\b(?:elements|define[ \t]+[^\s{}]{1,200})[ \t]*=[ \t]*\{"
    rb"|\b(?:add|create)[ \t]+element[ \t]+[^{}\n]{1,200}\{)",
    re.MULTILINE,
)
_WORDS = re.compile(rb"\s(?:timeout|expires|counter|comment|limit|quota|ct|last|size|packets|bytes)\b[^,]*")
_ADDRESSES = (b"ipv4_addr", b"ipv6_addr")


class Nftables:
    """Reads the elements of address sets."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._held = b""
        self._number = 1
        self._counted = 0
        self._inside = False
        self._unwanted = ""  # why the elements of this set are skipped
        self._name = ""
        self._values: list[str] = []
        self._numbers: list[int] = []

    def read(self, blocks: Iterator[bytes]) -> None:
        """Read text that may be cut anywhere."""
        for block in blocks:
            self._advance(self._held + block, False)
        self._advance(self._held + b"\n", True)
        if self._inside:
            self._collector.fault(self._number, "", "the file ends in the middle of the elements")

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
        self._collector.values(self._values, self._numbers)
        self._values, self._numbers = [], []

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
                self._unwanted = "elements of maps" if step["kind"] == b"map" else ""
            elif step["type"]:
                self._unwanted = self._unwanted or _unwanted(step["type"].strip(), bool(step["of"]))
            else:
                if not step["elements"].startswith(b"elements"):
                    self._unwanted, self._name = "", decoded(step["elements"][:-1].rstrip(b" =\t").split()[-1])
                self._inside = True
                return step.end()
        return stop

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
                self._collector.leave_out(self._unwanted)
            elif value == "*":
                self._collector.leave_out("catch-all elements (*)")
            elif " . " in value:
                self._collector.leave_out("elements with a port or another part")
            else:
                self._values.append(value)
                self._numbers.append(line)
                self._collector.came_from(self._name)


def _unwanted(kind: bytes, typeof: bool) -> str:
    if b" . " in kind:
        return "elements with a port or another part"
    if kind in _ADDRESSES or (typeof and kind.startswith((b"ip ", b"ip6 "))):
        return ""
    return f"elements of type {decoded(kind)}"


class Ipset:
    """Reads the entries of address sets."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._unwanted: dict[bytes, str] = {}
        self._lengths: dict[bytes, str] = {}  # hash:ip with netmask: each entry stands for a network

    def block(self, text: bytes, number: int) -> None:
        """Add whole lines."""
        values: list[str] = []
        numbers: list[int] = []
        for at, line in enumerate(text.split(b"\n"), start=number):
            words = line.split(None, 3)
            if not words or words[0][:1] in b"#;":
                continue
            rest = words[3] if len(words) > 3 else b""
            if len(words) > 2 and words[0] in (b"add", b"-A", b"--add"):
                if (value := self._entry(words[1], words[2], rest)) is not None:
                    values.append(value)
                    numbers.append(at)
            elif len(words) > 2 and len(self._unwanted) < _SETS and words[0] in (b"create", b"-N", b"--create"):
                self._create(words[1], words[2], rest.split())
            elif words[0] not in (b"COMMIT", b"flush", b"-F", b"-X", b"destroy", b"swap"):
                self._collector.fault(at, decoded(line), "not a line of ipset save")
        self._collector.values(values, numbers)

    def _create(self, name: bytes, kind: bytes, words: list[bytes]) -> None:
        if kind not in (b"hash:ip", b"hash:net", b"bitmap:ip", b"iphash", b"nethash", b"ipmap"):
            port = b"ip" in kind or b"net" in kind
            self._unwanted[name] = "entries with a port or another part" if port else f"entries of type {decoded(kind)}"
        elif b"bitmask" in words:
            self._unwanted[name] = "entries of sets with a bitmask"
        if b"netmask" in words[:-1]:
            self._lengths[name] = "/" + decoded(words[words.index(b"netmask") + 1])

    def _entry(self, name: bytes, value: bytes, rest: bytes) -> str | None:
        unwanted = self._unwanted.get(name, "")
        if not unwanted and b"," in value:
            unwanted = "entries with a port or another part"
        if not unwanted and b"nomatch" in rest and b"nomatch" in _QUOTED.sub(b"", rest).split():
            unwanted = "exceptions (nomatch)"
        if unwanted:
            self._collector.leave_out(unwanted)
            return None
        self._collector.came_from(decoded(name))
        text = value.decode("latin-1")
        return text if "/" in text or "-" in text else text + self._lengths.get(name, "")
