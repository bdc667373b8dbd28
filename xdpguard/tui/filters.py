# SPDX-License-Identifier: GPL-2.0
"""The text of a filter typed after `/`: an address or its beginning, a prefix, a port, or part of a text."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xdpguard.errors import UsageError
from xdpguard.policy.target import Prefix, parse_prefix
from xdpguard.telemetry.ranking import Ends

_BEGIN4 = re.compile(r"(?:[0-9]{1,3}\.){0,3}[0-9]{0,3}")
_BEGIN6 = re.compile(r"[0-9a-fA-F:]*:[0-9a-fA-F:]*")
_PORT = re.compile(r":?([0-9]{1,5})")
_FULL = 0xFFFF_FFFF_FFFF_FFFF

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Filter:
    """What to show; an empty text shows everything."""

    text: str = ""

    def chooses(self, *words: str) -> bool:
        """Return whether one of the words contains the text."""
        wanted = self.text.lower()
        return any(wanted in word.lower() for word in words)

    def ends(self, ends: Ends) -> Mask:
        """Return which ends are inside the prefix, begin like the text, or have the port; none if no address."""
        chosen = np.zeros(len(ends.low), np.bool_)
        if not self.text:
            return ~chosen
        port = _PORT.fullmatch(self.text)
        if port:
            chosen |= (ends.port == int(port[1])) & (int(port[1]) > 0)
        if self.text.startswith(":") and port:
            return chosen
        if "/" in self.text or self.text.count(".") == 3:
            with contextlib.suppress(UsageError):
                return chosen | _inside(parse_prefix(self.text)[0], ends)
        if _BEGIN4.fullmatch(self.text):
            return chosen | _begins4(self.text, ends)
        if _BEGIN6.fullmatch(self.text):
            groups = [group for group in self.text.split("::")[0].split(":") if group]
            with contextlib.suppress(UsageError):
                whole = self.text if self.text.count("::") else ":".join(groups) + "::" * (len(groups) < 8)
                length = 16 * len(groups) if self.text.endswith(":") or "::" not in self.text else 128
                return chosen | _inside(parse_prefix(f"{whole}/{length}")[0], ends)
        return chosen


def _begins4(text: str, ends: Ends) -> Mask:
    """Match a partial IPv4 address; its last part may be incomplete: 198.1 is 198.1.*, 198.18.*, 198.100.*."""
    *whole, last = text.split(".")
    chosen: Mask = ends.version == 4
    for place, part in enumerate([*whole, last]):
        byte = (ends.low >> np.uint64(24 - 8 * place)) & np.uint64(255)
        texts = [str(number) for number in range(256)]
        fits = [text.startswith(part) if place == len(whole) else text == part for text in texts]
        chosen &= np.array(fits)[byte.astype(np.intp)]
    return chosen


def _inside(prefix: Prefix, ends: Ends) -> Mask:
    chosen: Mask = ends.version == prefix.version
    if prefix.version == 4:
        mask = _FULL << (32 - prefix.length) & 0xFFFF_FFFF
        chosen &= (ends.low & np.uint64(mask)) == np.uint64(int.from_bytes(prefix.network, "big"))
        return chosen
    bits = (1 << 128) - (1 << (128 - prefix.length))
    high, low = int.from_bytes(prefix.network[:8], "big"), int.from_bytes(prefix.network[8:], "big")
    chosen &= (ends.high & np.uint64(bits >> 64)) == np.uint64(high)
    chosen &= (ends.low & np.uint64(bits & _FULL)) == np.uint64(low)
    return chosen
