# SPDX-License-Identifier: GPL-2.0
"""Zones of rbldnsd: an address or prefix per line, exclusions with !, values and directives to pass over."""

from __future__ import annotations

import re

from xdpguard.lists.formats.collector import Collector
from xdpguard.lists.formats.entries import decoded

_FIRST = re.compile(r"\$(?:SOA|NS|TTL|TIMESTAMP|MAXRANGE4|DATASET)\s|:127\.", re.IGNORECASE)
_TIMESTAMP = re.compile(r"\$TIMESTAMP\s+\S+\s+[^\s;#]", re.IGNORECASE)
_ENDS = "an end of the whole zone ($TIMESTAMP), which is not read"
_VALUE = re.compile(r"\s:|:127\.|\s")


def is_zone(line: str) -> bool:
    """Return whether a file that begins with this line is a zone."""
    return _FIRST.match(line) is not None


class Zone:
    """Reads the entries of a zone; the most specific one decides."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        collector.reading = "a zone of rbldnsd"

    def block(self, text: bytes, number: int) -> None:
        """Add whole lines."""
        values: list[str] = []
        numbers: list[int] = []
        for at, line in enumerate(decoded(text).split("\n"), start=number):
            bare = line.strip()
            if not bare or bare[0] in "#;$:":
                if _TIMESTAMP.match(bare):
                    self._collector.notes.remark(_ENDS, at)
                continue
            value = _VALUE.split(bare.removeprefix("!").strip(), maxsplit=1)[0]
            if bare[0] == "!":
                self._collector.let_in(value, at, "exclusions (!)")
                if "/" not in value and "." in value and value.count(".") != 3:
                    self._collector.exception(value, at)  # shortened: cannot be read
            else:
                values.append(value)
                numbers.append(at)
        self._collector.values(values, numbers)
