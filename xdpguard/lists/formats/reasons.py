# SPDX-License-Identifier: GPL-2.0
"""Why a text is not an address, prefix or range."""

from __future__ import annotations

import re
import socket

NO_ENTRY = "not an address, prefix or range; names are not looked up"
FOLLOWS = "something follows the address"
MAPPED_LENGTH = (
    "an IPv4-mapped address with a prefix length below 96; write an IPv4 prefix, or ::ffff:192.0.2.0/120 for a /24"
)
SHORT_PREFIX = "a very short prefix with host bits set, perhaps a mistake; write its first address, such as 0.0.0.0/4"
_NUMBER = "a number, and not an address"
_SHORTENED = "a shortened address; write all four numbers"
_SHORT_RANGE = "a shortened range; write both of its addresses in full"
VAGUE = frozenset((NO_ENTRY, FOLLOWS, _NUMBER, _SHORTENED))  # what may be said of any word or number
_PORT = re.compile(r"(?:[0-9]+\.){3}[0-9]+:[0-9]+|\[[0-9A-Fa-f:.]*[:.][0-9A-Fa-f:.]*\](?::[0-9]+)?")
_SHORT_END = re.compile(r"\.?[0-9A-Fa-f]{1,4}(?:[.:][0-9A-Fa-f]{1,4}){0,2}")
_DEFANGED = re.compile(r"\[[.:]\]|\(\.\)|\[dot\]", re.IGNORECASE)
_WILDCARD = re.compile(r"(?:[0-9]{1,3}\.){1,3}[*x%](?:\.[*x%])*", re.IGNORECASE)
_PARTS = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){0,2}\.?(?:/[0-9]{1,2})?")


def packed(address: str) -> bytes | None:
    """Return an address as 4 or 16 bytes; None if the text is not one."""
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    except (OSError, ValueError):
        return None


def why_not(text: str) -> str:
    """Return why a text is not an entry."""
    address = text.partition("/")[0]
    parts = address.split(".")
    if "%" in text and ":" in text:
        why = "an address with a zone, which packets do not carry"
    elif len(parts) == 4 and address.isascii() and all(map(str.isdecimal, parts)):
        leading = any(len(part) > 1 and part[0] == "0" for part in parts)
        why = "a leading zero: octal to some programs, not to others" if leading else "a number above 255"
    elif packed(text.split(maxsplit=1)[0].partition("/")[0] if text else "") is not None:
        why = FOLLOWS
    elif text.isascii() and text.isdecimal():
        why = _NUMBER
    else:
        why = next((why for pattern, why in _KINDS if pattern.fullmatch(text)), NO_ENTRY)
        if why == NO_ENTRY and (whole := _DEFANGED.sub(_plain, text)) != text and packed(whole.partition("/")[0]):
            why = "an address made harmless with brackets; write it without them"
    return why


_KINDS = (
    (_PORT, "an address with a port or in brackets"),
    (_WILDCARD, "a wildcard; write a prefix, such as 192.0.2.0/24 for 192.0.2.*"),
    (_PARTS, _SHORTENED),
)


def why_no_range(left: str, right: str) -> str:
    """Return why two texts are not the ends of a range; one of them is not an address."""
    for end in (left, right):
        if "/" in end and packed(end.partition("/")[0]) is not None:
            return "a range with a prefix; write its first and last address"
    if packed(left) is None:
        return why_not(left)
    return _SHORT_RANGE if _SHORT_END.fullmatch(right) else why_not(right)


def why_no_length(bits: str, width: int) -> str:
    """Return why a text after a slash is not a prefix length; ``width``: the bits of the address."""
    if " " in bits or "\t" in bits:
        return FOLLOWS
    raw = packed(bits)
    if raw is not None and len(raw) == 4:
        return "a mask after the slash that is not a netmask; write a prefix length"
    return f"not a prefix length: the range is /0 to /{width}"


def _plain(mark: re.Match[str]) -> str:
    return ":" if mark[0] == "[:]" else "."
