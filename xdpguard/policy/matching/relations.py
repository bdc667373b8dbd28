# SPDX-License-Identifier: GPL-2.0
"""What follows the name of a field: a mask, a comparison, and a value, a range, a set or a list.

With ``&``, ``|`` and ``/`` as nftables means them. For flags ``syn,ack`` alone is any of them, ``== syn,ack`` exactly
those, ``! syn`` none of them, ``syn / syn,ack`` of these two the first alone.
"""

from __future__ import annotations

from typing import NamedTuple

from xdpguard.policy.matching.ranges import Ranges, joined, without
from xdpguard.policy.matching.selectors import Kind, Operand
from xdpguard.policy.matching.tokens import Token, Tokens
from xdpguard.policy.matching.values import value

_COMPARISONS = ("==", "!=", "<=", ">=", "<", ">", "!")
_SETS = "a set is compared by == or !=, or without a comparison"


class Relation(NamedTuple):
    """What the field, under the mask if there is one, must be; or the list it must be in, or, negated, must not."""

    wanted: Ranges = ()
    mask: int | None = None
    list_name: str = ""
    negated: bool = False


def relation(tokens: Tokens, operand: Operand) -> Relation:
    """Take a mask, a comparison and what the field is compared with."""
    mask = _mask(tokens, operand)
    comparison = tokens.taken(*_COMPARISONS)
    sign = _sign(comparison)
    if tokens.next.text == "@" and operand.kind in (Kind.ADDRESS4, Kind.ADDRESS6):
        _only_equal(tokens, comparison, mask)
        tokens.take()
        return Relation(list_name=tokens.list_name().text, negated=sign == "!=")
    if opening := tokens.taken("{"):
        if sign not in ("", "==", "!="):
            tokens.fail("a set cannot be compared by size", _SETS, comparison)
        found = _set(tokens, operand, opening)
        return Relation(without(operand.everything, found) if sign == "!=" else found, mask)
    return _compared(tokens, operand, comparison, mask)


def _compared(tokens: Tokens, operand: Operand, comparison: Token | None, mask: int | None) -> Relation:
    sign, place = _sign(comparison), tokens.next
    found = _constant(tokens, operand, commas=operand.kind is Kind.FLAGS)
    if tokens.taken("-"):
        found = _range(tokens, operand, found, place)
    elif operand.kind is Kind.FLAGS and mask is None:
        if tokens.next.text == "/":
            return _of_these(tokens, operand, comparison, found)
        if sign in ("", "!"):
            none = ((0, 0),)
            return Relation(none if sign else without(operand.everything, none), found[0][0])
    if sign == "!":
        tokens.fail("only flags are negated by '!'", "write != for unequal", comparison)
    single = len(found) == 1 and found[0][0] == found[0][1]
    if sign in ("<", ">", "<=", ">=") and not single:
        tokens.fail(f"{sign!r} takes one value", "a range is compared by == or !=, or without a comparison", place)
    return Relation(_beyond(operand, sign, found), mask)


def _beyond(operand: Operand, sign: str, found: Ranges) -> Ranges:
    least, most = operand.everything[0]
    first = found[0][0]
    sides = {"<": (least, first - 1), "<=": (least, first), ">": (first + 1, most), ">=": (first, most)}
    if sign in sides:
        low, high = sides[sign]
        return ((low, high),) if low <= high else ()
    return without(operand.everything, found) if sign == "!=" else found


def _of_these(tokens: Tokens, operand: Operand, comparison: Token | None, found: Ranges) -> Relation:
    tokens.take()
    mask = _constant(tokens, operand, commas=True)[0][0]
    if _sign(comparison) not in ("", "==", "!="):
        tokens.fail("flags of a mask are compared by == or !=", "write tcp flags syn / syn,ack", comparison)
    return Relation(_beyond(operand, _sign(comparison), found), mask)


def _mask(tokens: Tokens, operand: Operand) -> int | None:
    """Take ``& MASK``; a mask of several values stands in parentheses, because | binds weaker than & does."""
    if not tokens.taken("&") and (tokens.next.text != "and" or not tokens.take()):
        return None
    if operand.kind is Kind.NAME:
        tokens.fail(f"{operand.words} takes no mask", "compare it with a name")
    place = tokens.next
    inside = place.text == "("
    found = _constant(tokens, operand, commas=False) if inside else value(tokens, operand)
    if tokens.next.text in ("|", "or", ","):
        tokens.fail("a mask of several values needs parentheses", "write & (A | B) == C")
    if found[0][0] != found[0][1]:
        tokens.fail("a mask is a single value", "write the mask as a number or an address: & 255.255.0.0", place)
    return found[0][0]


def _constant(tokens: Tokens, operand: Operand, commas: bool) -> Ranges:
    """Take a value, or several joined by | or, where they can be, by commas: their bits together."""
    opening = tokens.taken("(")
    found = value(tokens, operand)
    joins = ("|", ",") if commas and not opening else ("|",)
    while operand.kind not in (Kind.NAME, Kind.ADDRESS4, Kind.ADDRESS6) and tokens.taken(*joins):
        number = found[0][0] | value(tokens, operand)[0][0]
        found = ((number, number),)
    if opening and not tokens.taken(")"):
        tokens.fail(f"expected ')', found {tokens.found()}", "close what was opened, or join values by |")
    return found


def _range(tokens: Tokens, operand: Operand, first: Ranges, place: Token) -> Ranges:
    last = _constant(tokens, operand, commas=False)
    if any(len(it) != 1 or it[0][0] != it[0][1] for it in (first, last)):
        tokens.fail("a range runs between two single values", "write FIRST-LAST", place)
    if first[0][0] > last[0][0]:
        tokens.fail("the range ends before it begins", "write the smaller value first", place)
    return ((first[0][0], last[0][0]),)


def _set(tokens: Tokens, operand: Operand, opening: Token) -> Ranges:
    found: list[tuple[int, int]] = []
    while not tokens.taken("}"):
        if not tokens.next.text:
            tokens.fail("the set is not closed", "write '}' at its end", opening)
        place = tokens.next
        element = _constant(tokens, operand, commas=False)
        if tokens.taken("-"):
            element = _range(tokens, operand, element, place)
        found += element
        if tokens.next.text != "}" and tokens.next.text:
            tokens.expect(",", "separate the elements of a set by commas, and close it by '}'")
    if not found:
        tokens.fail("the set is empty", "write its values between the braces: { 80, 443 }", opening)
    return joined(found)


def _only_equal(tokens: Tokens, comparison: Token | None, mask: int | None) -> None:
    if mask is not None or _sign(comparison) not in ("", "==", "!="):
        remedy = "write ip saddr @NAME or ip saddr != @NAME"
        tokens.fail("a list is compared by == or !=, and without a mask", remedy, comparison)


def _sign(comparison: Token | None) -> str:
    return "" if comparison is None else comparison.text
