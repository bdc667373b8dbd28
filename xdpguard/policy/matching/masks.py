# SPDX-License-Identifier: GPL-2.0
"""Write sets of flags by the mask that says them: ``& (syn | ack) == syn`` for 64 of 256 combinations."""

from __future__ import annotations

from collections.abc import Callable

from xdpguard.policy.matching.names import TCP_FLAGS
from xdpguard.policy.matching.ranges import Ranges, without

_FLAG_BITS = 8


def flags(ranges: Ranges) -> str:
    """Write what tcp flags are compared with: the fewest values under the bits that matter."""
    members = {it for first, last in ranges for it in range(first, last + 1)}
    everything = 1 << _FLAG_BITS
    # A bit does not matter if each member with it is one without it, too.
    free = sum(bit for bit in TCP_FLAGS.values() if all(it ^ bit in members for it in members))
    if free == everything - 1:
        return ">= 0"
    inside = sorted({it & ~free for it in members})
    outside = sorted({it & ~free for it in range(everything) if it not in members})
    sign, values = ("!=", outside) if len(outside) < len(inside) else ("==", inside)
    mask = "" if not free else f"& {_in_parentheses(_names(everything - 1 & ~free))} "
    text = ", ".join(_names(it) for it in values)
    return f"{mask}{sign} {text}" if len(values) == 1 else f"{mask}{sign} {{ {text} }}"


def cube(ranges: Ranges, bits: int, text: Callable[[int], str]) -> str:
    """Write numbers as those that have, or have not, one value under a mask; nothing if they are no such set."""
    everything = ((0, (1 << bits) - 1),)
    for sign, some in (("==", ranges), ("!=", without(everything, ranges))):
        varying = 0
        for first, last in some:
            varying |= first ^ some[0][0] | (1 << (first ^ last).bit_length()) - 1
        if some and varying and sum(last - first + 1 for first, last in some) == 1 << varying.bit_count():
            mask = everything[0][1] & ~varying
            return f"& {text(mask)} {sign} {text(some[0][0] & mask)}" if mask else ""
    return ""


def _in_parentheses(text: str) -> str:
    return f"({text})" if "|" in text else text


def _names(number: int) -> str:
    return " | ".join(name for name, bit in TCP_FLAGS.items() if number & bit) or "0"
