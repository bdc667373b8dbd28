# SPDX-License-Identifier: GPL-2.0
"""Lists in one JSON text: `nft -j`, decisions of CrowdSec. Only one element of an export at a time is in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from xdpguard.errors import UsageError
from xdpguard.lists.formats.collector import Collector
from xdpguard.lists.formats.decisions import skip_reason
from xdpguard.lists.formats.documents import Document
from xdpguard.lists.formats.ends import end_of
from xdpguard.lists.formats.nftables import RULED
from xdpguard.lists.formats.reasons import packed

_BATCH = 20_000
_DOCUMENT = re.compile(rb"""\s*(?:\{\s*["}]|\[\s*(?:[\["\]]|\{(?!'))|null\s*$)""")
_READINGS = {
    "nftables": "elements of nftables sets, from JSON",
    "crowdsec": "decisions of CrowdSec, from JSON",
    "json": "JSON with nothing in it",
}
_USUAL = (("scope", "ip"), ("type", "ban"), ("duration", ""))


def is_document(head: bytes) -> bool:
    """Return whether this is the beginning of a JSON text."""
    return _DOCUMENT.match(head) is not None


class Export:
    """Reads a document, detecting its format."""

    def __init__(self, name: str, blocks: Iterator[bytes], collector: Collector) -> None:
        self._name = name
        self._document = Document(name, blocks)
        self._collector = collector
        self._values: list[str] = []
        self._numbers: list[int] = []
        self._ends: list[int] = []
        self._form = ""
        self._members = 0  # that are of no known format
        self._timeout = 0.0  # seconds, of the set's elements that name none

    def read(self) -> str:
        """Read everything; return the format."""
        first = self._document.peek()
        if first == "[":
            self._decisions()
        elif first == "{":
            for key in self._document.members():
                if key == "nftables" and self._document.peek() == "[":
                    self._form = "nftables"
                    for _ in self._document.items():
                        self._command()
                elif key in ("new", "decisions") and self._document.peek() == "[":  # CrowdSec's local API
                    self._decisions()
                elif key in ("new", "decisions", "deleted"):
                    self._none("crowdsec")
                else:
                    self._members += 1
                    self._document.skip()
            if not self._members and not self._form:
                self._form = "json"
        else:
            self._none("json")
        if self._document.peek():
            raise UsageError(f"{self._name}:{self._document.line}: something follows the JSON text", "check what it is")
        self._flush()
        if not self._form:
            raise UsageError(
                f"{self._name}: no entries; it is JSON without decisions or sets",
                "take the addresses out of it first, one per line",
            )
        self._collector.reading = _READINGS[self._form]
        return self._form

    def _none(self, form: str) -> None:
        """Read past a value; null says that there are none."""
        if self._document.peek() == "n":
            self._form = form
        self._document.skip()

    def _command(self) -> None:
        """Read an object of the ruleset: a set, or a command that creates sets."""
        if self._document.peek() != "{":
            self._document.skip()
            return
        for key in self._document.members():
            if key in ("add", "create") and self._document.peek() == "{":
                for inner in self._document.members():
                    self._object(inner)
            else:
                self._object(key)

    def _object(self, key: str) -> None:
        if key == "rule":
            line = self._document.line
            found: set[bool] = set()
            self._document.skip(lambda it: found.add(isinstance(it, str) and packed(it) is not None))
            if True in found:
                self._collector.notes.remark(RULED, line)
            return
        if key not in ("set", "element", "map") or self._document.peek() != "{":
            self._document.skip()
            return
        unwanted = "elements of maps" if key == "map" else ""
        name = ""
        self._timeout = 0.0
        for member in self._document.members():
            if member == "elem" and self._document.peek() == "[":
                for _ in self._document.items():
                    line = self._document.line
                    self._element(self._document.value(), line, unwanted, name)
            elif member == "name":
                name = str(self._document.value())
            elif member == "timeout":
                self._timeout = _seconds(self._document.value())
            elif member == "type":
                kind = self._document.value()
                unwanted = unwanted or _unwanted(kind)
            else:
                self._document.skip()

    def _element(self, value: Any, line: int, unwanted: str, name: str) -> None:
        seconds = self._timeout
        if isinstance(value, dict) and isinstance(inner := value.get("elem"), dict):
            seconds = _seconds(inner.get("expires") or inner.get("timeout")) or seconds
            value = inner.get("val")
        notes = self._collector.notes
        match value:
            case _ if unwanted:
                self._collector.notes.leave_out(unwanted)
            case "*":
                self._collector.notes.leave_out("catch-all elements (*)")
            case {"concat": _}:
                self._collector.notes.leave_out("elements with a port or another part")
            case str(text) | {"prefix": {"addr": str(text), "len": int()}} | {"range": [str(text), str()]}:
                if isinstance(value, dict):
                    text += f"/{value['prefix']['len']}" if "prefix" in value else f"-{value['range'][1]}"
                if (end := notes.end(notes.now + seconds if seconds else None)) is not None:
                    notes.came_from(name)
                    self._add(text, line, end)
            case _:
                self._collector.fault(line, _shown(value), "not an address, prefix or range")

    def _decisions(self) -> None:
        found = False
        for _ in self._document.items():
            line, found = self._document.line, True
            if self._document.peek() != "{":
                self._document.skip()
                continue
            own: dict[str, Any] = {}
            for key in self._document.members():
                if key == "decisions" and self._document.peek() == "[":
                    self._form = "crowdsec"
                    for _ in self._document.items():
                        line = self._document.line
                        self._decision(self._document.value(), line)
                elif key == "decisions":
                    self._none("crowdsec")
                elif key in ("scope", "type", "value", "duration", "until", "simulated"):
                    own[key] = self._document.value()
                else:
                    self._document.skip()
            if "scope" in own and "value" in own:  # a decision outside an alert
                self._form = "crowdsec"
                self._decision(own, line)
        if not found:
            self._form = self._form or "json"

    def _decision(self, value: Any, line: int) -> None:
        if not isinstance(value, dict) or not isinstance(value.get("value"), str):
            self._collector.fault(line, _shown(value), "not a decision")
            return
        scope, kind, duration = (str(value.get(key, usual)) for key, usual in _USUAL)
        if reason := skip_reason(scope, kind, duration, value.get("simulated") is True):
            self._collector.notes.leave_out(reason)
        elif (end := self._end(duration, str(value.get("until") or ""))) is not None:
            self._add(value["value"], line, end)

    def _end(self, duration: str, until: str) -> int | None:
        """Return the end of a decision, 0 for none; None if it has ended."""
        notes = self._collector.notes
        end = end_of(duration, notes.now)
        if not isinstance(end, float):
            end = end_of(until, notes.now)
        return notes.end(end if isinstance(end, float) else None)

    def _add(self, text: str, line: int, end: int) -> None:
        self._values.append(text)
        self._numbers.append(line)
        self._ends.append(end)
        if len(self._values) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        self._collector.values(self._values, self._numbers, self._ends)
        self._values, self._numbers, self._ends = [], [], []


def _shown(value: Any) -> str:
    """Format a value; for one that may be nested, only its kind."""
    if isinstance(value, dict):
        return "{...}"
    return "[...]" if isinstance(value, list) else json.dumps(value)


def _seconds(value: Any) -> float:
    return float(value) if isinstance(value, int) and 0 < value < 1 << 40 else 0.0


def _unwanted(kind: Any) -> str:
    if isinstance(kind, list):
        return "elements with a port or another part"
    return "" if kind in ("ipv4_addr", "ipv6_addr") or not isinstance(kind, str) else f"elements of type {kind}"
