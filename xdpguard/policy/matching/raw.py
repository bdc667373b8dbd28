# SPDX-License-Identifier: GPL-2.0
"""Bytes at fixed places: ``@th,16,16 53``, with offset and length in bits as in nftables."""

from __future__ import annotations

from xdpguard.policy.matching.model import Base, Bytes
from xdpguard.policy.matching.ranges import Ranges, prefixes, without
from xdpguard.policy.matching.relations import relation
from xdpguard.policy.matching.selectors import Kind, Operand
from xdpguard.policy.matching.tokens import Token, Tokens
from xdpguard.policy.matching.values import number

FURTHEST = 255  # bytes, as in the kernel's nft_payload
LONGEST = 16  # bytes
MOST = 8  # tests of bytes that one comparison may become
_BASES = {it.value: it for it in Base}
_FORM = "write @BASE,OFFSET,LENGTH in bits; the base is ll, nh, th or ih: @th,16,16 is the destination port"


def raw(tokens: Tokens, sign: Token) -> list[Bytes]:
    """Take what follows the @ of bytes at a fixed place."""
    base = tokens.take()
    if base.text not in _BASES:
        tokens.fail(f"{base.text!r} is not a base" if base.text else "expected a base, found the end", _FORM, base)
    place = _number(tokens)
    length = _number(tokens)
    offset, skipped = divmod(place, 8)
    size = (skipped + length + 7) // 8
    if length == 0 or size > LONGEST or offset > FURTHEST:
        tokens.fail(
            f"{length} bits from bit {place} on cannot be looked at",
            f"at most {LONGEST} bytes are, that begin at most {FURTHEST} bytes behind the base",
            base,
        )
    words = f"@{base.text},{place},{length}"
    found = relation(tokens, Operand(words, Kind.NUMBER, length))
    whole = Bytes(_BASES[base.text], offset, size, 0, 0)
    mask = (1 << length) - 1 if found.mask is None else found.mask
    if not any(not it[0] & ~mask for it in prefixes(found.wanted, length)):
        tokens.fail("no packet can match this", "compare with a value that the bits can have", sign)
    tests = tested(whole, size * 8 - skipped - length, mask, found.wanted, length)
    if tests is None:
        tokens.fail(
            f"the values of {words} are too many separate ones", "write several filters, or compare with a mask", sign
        )
    return tests


def tested(place: Bytes, shift: int, mask: int, wanted: Ranges, bits: int) -> list[Bytes] | None:
    """Return tests that together say that bits under a mask are among the wanted; None if it would take too many.

    One test if the wanted are a prefix, else a negated one for each prefix of what is not wanted.
    """
    inside = [it for it in prefixes(wanted, bits) if not it[0] & ~mask]
    if len(inside) == 1:
        return [_test(place, shift, mask, inside[0], False)]
    everything = ((0, (1 << bits) - 1),)
    outside = [it for it in prefixes(without(everything, wanted), bits) if not it[0] & ~mask]
    return [_test(place, shift, mask, it, True) for it in outside] if len(outside) <= MOST else None


def _test(place: Bytes, shift: int, mask: int, prefix: tuple[int, int], negated: bool) -> Bytes:
    value, prefix_mask = prefix
    return place._replace(mask=(mask & prefix_mask) << shift, value=value << shift, negated=negated)


def _number(tokens: Tokens) -> int:
    tokens.expect(",", _FORM)
    return number(tokens, tokens.take(), 16, _FORM)
