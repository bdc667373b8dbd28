# SPDX-License-Identifier: GPL-2.0
"""The JSON values of a text: one, or several after another, as a stream of events has them."""

from __future__ import annotations

import json

from xdpguard.errors import UsageError


def is_json(text: str) -> bool:
    """Return whether a text could be JSON: no route and no command begins like it."""
    begin = text.lstrip()
    return begin[:1] == "[" or (begin[:1] == "{" and begin[1:].lstrip()[:1] in ('"', "}"))


def values(text: str) -> list[object]:
    """Parse all values; raise UsageError if one is invalid."""
    decoder, at = json.JSONDecoder(), 0
    found = []
    end = len(text.rstrip())
    while at < end:
        while text[at].isspace():
            at += 1
        try:
            value, at = decoder.raw_decode(text, at)
            json.dumps(value, ensure_ascii=False).encode()  # raises for halves of surrogate pairs
        except (ValueError, RecursionError) as error:
            raise UsageError("not valid JSON", "write what gobgp -j or an ExaBGP process shows") from error
        found.append(value)
    return found
