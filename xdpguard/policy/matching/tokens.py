# SPDX-License-Identifier: GPL-2.0
"""The words and signs of a match, each with its place."""

from __future__ import annotations

import re
from typing import NamedTuple, NoReturn

from xdpguard.policy.matching.error import MatchError
from xdpguard.units import visible

LONGEST = 65_536  # characters of a match; longer sets of addresses belong in a list
_SHOWN = 40
# An IPv6 address; a number or an IPv4 address; a name, which may contain dashes as in nftables; a sign.
_TOKEN = re.compile(
    r"[0-9A-Fa-f]*:[0-9A-Fa-f:.]*|[0-9][0-9A-Za-z_.]*|[A-Za-z_][0-9A-Za-z_.-]*|==|!=|<=|>=|[<>!{}(),|/@&-]"
)
_LIST = re.compile(r"[0-9A-Za-z_.-]+")
_SPELLED = {"eq": "==", "ne": "!=", "lt": "<", "gt": ">", "le": "<=", "ge": ">=", "not": "!", "or": "|"}


class Token(NamedTuple):
    """A word or sign; ``at`` counts characters from 0. The end of the text is an empty one."""

    text: str
    at: int


class Tokens:
    """A text as tokens, read from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._at = 0
        self.next = Token("", 0)
        if len(text) > LONGEST:
            raise MatchError(
                f"a match is at most {LONGEST:,} characters long", "put addresses in a list: @NAME", text, LONGEST
            )
        self._read()

    def take(self) -> Token:
        """Return the next token and go on behind it."""
        taken = self.next
        self._read()
        return taken

    def taken(self, *texts: str) -> Token | None:
        """Take the next token if it is one of these, or is spelled as one: ``ne`` for ``!=``, which it then is."""
        text = _SPELLED.get(self.next.text, self.next.text)
        return self.take()._replace(text=text) if text and text in texts else None

    def expect(self, text: str, remedy: str) -> Token:
        """Take the next token, which must be this one."""
        return self.taken(text) or self.fail(f"expected {text!r}, found {self.found()}", remedy)

    def list_name(self) -> Token:
        """Take the name of a list, that may begin with a digit and contain dots and dashes."""
        found = _LIST.match(self.text, self.next.at)
        if found is None:
            self.fail(f"expected the name of a list, found {self.found()}", "write @NAME, without a space")
        self._at = found.end()
        self._read()
        return Token(found[0], found.start())

    def found(self) -> str:
        """Return the next token as messages show it."""
        return shown(self.next.text) if self.next.text else "the end"

    def fail(self, message: str, remedy: str, at: Token | None = None) -> NoReturn:
        """Raise MatchError at a token, the next one unless it is given."""
        place = self.next if at is None else at
        raise MatchError(message, remedy, self.text, place.at + 1)

    def _read(self) -> None:
        while self._at < len(self.text) and self.text[self._at].isspace():
            self._at += 1
        if self._at == len(self.text):
            self.next = Token("", self._at)
            return
        found = _TOKEN.match(self.text, self._at)
        if found is None:
            sign = Token(self.text[self._at], self._at)
            self.fail(
                f"{shown(sign.text)} has no meaning here", "signs are == != < > <= >= ! { } ( ) , | & / - and @", sign
            )
        self.next = Token(found[0], self._at)
        self._at = found.end()


def shown(text: str) -> str:
    """Return a text in quotes, shortened."""
    return f"'{visible(text if len(text) <= _SHOWN else text[: _SHOWN - 3] + '...')}'"
