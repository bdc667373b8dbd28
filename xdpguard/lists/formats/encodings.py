# SPDX-License-Identifier: GPL-2.0
"""What the first bytes of a file say: an encoding of text, or a format that is not text."""

from __future__ import annotations

import codecs
import re

_HEAD = 64  # bytes that tell UTF-16 without a byte order mark
_UNPACK = "unpack it first"
_TEXT = "export it as text"
# What it begins with, what it is, and what to do.
_FORMATS = tuple(
    (re.compile(pattern, re.DOTALL), what, remedy)
    for pattern, what, remedy in (
        (rb"PK\x03\x04", "a zip archive, or a spreadsheet", f"{_UNPACK}, or export it as CSV"),
        (rb"\x1f\x8b", "gzip data inside gzip data", _UNPACK),
        (rb"BZh[1-9]1AY&SY", "bzip2 data", _UNPACK),
        (rb"\xfd7zXZ\0", "xz data", _UNPACK),
        (rb"\x28\xb5\x2f\xfd", "zstd data", _UNPACK),
        (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
        (rb".{257}ustar", "a tar archive", _UNPACK),
        (rb"\xd0\xcf\x11\xe0", "an old spreadsheet or document", _TEXT),
        (rb"%PDF-", "a PDF document", _TEXT),
        (rb"SQLite format 3", "an SQLite database", _TEXT),
        (rb"\xff\xff\xff\xffP2B", "a P2B list", "use the list in its text form"),
        (rb"\xff\xfe\0\0|\0\0\xfe\xff", "UTF-32", "convert it to UTF-8"),
    )
)


def not_text(head: bytes) -> tuple[str, str] | None:
    """Return what a file that begins like this is, and what to do; None if it may be text."""
    return next(((what, remedy) for pattern, what, remedy in _FORMATS if pattern.match(head)), None)


def encoding(head: bytes) -> str:
    """Return the encoding of UTF-16, by its mark or by the zeros of every other byte; empty for all others."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    even, odd = head[0:_HEAD:2], head[1:_HEAD:2]
    if len(head) < 8 or (any(even) and any(odd)):
        return ""
    if all(even) and not any(odd):
        return "utf-16-le"
    return "utf-16-be" if all(odd) and not any(even) else ""
