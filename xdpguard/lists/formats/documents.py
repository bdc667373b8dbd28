# SPDX-License-Identifier: GPL-2.0
"""A JSON text of any size, often a single line, parsed value by value, so that only requested values are in memory."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from xdpguard.errors import UsageError

_WIDEST = 1 << 20  # characters of one value
_BLANK = re.compile(r"[ \t\n\r]*")
_MARK = re.compile(r'["{}\[\]]')
_OPENING, _CLOSING = ("{", "["), ("}", "]")
_DECODER = json.JSONDecoder()


class Document:
    """A JSON text that is parsed from front to back."""

    def __init__(self, name: str, blocks: Iterator[bytes]) -> None:
        self._name = name
        self._blocks = blocks
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._at = 0
        self._number = 1
        self._counted = 0

    @property
    def line(self) -> int:
        """The current line number."""
        self._number += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._number

    def peek(self) -> str:
        """Return the next character that is not blank; empty at the end."""
        while True:
            match = _BLANK.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def members(self) -> Iterator[str]:
        """Yield the keys of an object; the caller must read or skip each value before the next key."""
        for _ in self._within("{", "}"):
            key = self.value() if self.peek() == '"' else None
            if not isinstance(key, str) or self.peek() != ":":
                raise self._broken()
            self._at += 1
            yield key

    def items(self) -> Iterator[None]:
        """Step through the items of an array; the caller must read or skip each item before the next step."""
        return self._within("[", "]")

    def _within(self, opening: str, closing: str) -> Iterator[None]:
        if self.peek() != opening:
            raise self._broken()
        self._at += 1
        if self.peek() == closing:
            self._at += 1
            return
        while True:
            self.peek()  # so that `line` is the item's
            yield None
            mark = self.peek()
            self._at += 1
            if mark == closing:
                return
            if mark != ",":
                raise self._broken()

    def value(self) -> Any:
        """Parse the next value completely."""
        self.peek()
        while True:
            try:
                found, end = _DECODER.raw_decode(self._text, self._at)
            except RecursionError as error:
                raise UsageError(f"{self._name}:{self.line}: JSON nested too deeply", "check what it is") from error
            except ValueError as error:
                if len(self._text) - self._at > _WIDEST:
                    raise UsageError(
                        f"{self._name}:{self.line}: corrupt JSON, or an enormous value in it",
                        "check what it is",
                    ) from error
                early = not self._text[getattr(error, "pos", 0) :].strip()
                if not self._more():
                    raise self._broken(early) from error
                continue
            # A number or null at the end of the text may continue.
            if end == len(self._text) and not isinstance(found, (str, list, dict)) and self._more():
                continue
            self._at = end
            return found

    def skip(self, seen: Callable[[Any], None] | None = None) -> None:
        """Skip the next value, of any size and depth; ``seen`` is called with each string and number in it."""
        depth = 0
        while True:
            mark = self.peek() if depth == 0 else self._mark()
            if mark not in _OPENING and mark not in _CLOSING:
                found = self.value()
                if seen:
                    seen(found)
            else:
                depth += 1 if mark in _OPENING else -1
                self._at += 1
            if depth <= 0:
                return

    def _mark(self) -> str:
        """Advance to the next quote or bracket."""
        while not (match := _MARK.search(self._text, self._at)):
            self._at = len(self._text)
            if not self._more():
                raise self._broken()
        self._at = match.start()
        return match[0]

    def _more(self) -> bool:
        block = next(self._blocks, None)
        _ = self.line
        self._text = self._text[self._at :] + self._decoder.decode(block or b"", final=block is None)
        self._at = self._counted = 0
        return block is not None

    def _broken(self, early: bool = False) -> UsageError:
        where = "ends prematurely" if early or not self.peek() else "is corrupt"
        return UsageError(f"{self._name}:{self.line}: the JSON text {where}", "fetch or export it again")
