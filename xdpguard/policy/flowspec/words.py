# SPDX-License-Identifier: GPL-2.0
"""What the forms share: comparisons as words, prefixes, names of values."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping

from xdpguard.errors import UsageError
from xdpguard.policy.flowspec.rule import (
    ALL,
    BITMASKS,
    DONT_FRAGMENT,
    EQUAL,
    FIRST_FRAGMENT,
    GREATER,
    IS_FRAGMENT,
    LAST_FRAGMENT,
    LESS,
    NOT,
    Actions,
    Component,
    Op,
    Prefix,
)
from xdpguard.policy.matching.names import PROTOCOLS
from xdpguard.policy.matching.tokens import shown
from xdpguard.policy.matching.values import address_text

_OP = re.compile(r"\s*(&?)\s*(==|=|!=|!|>=|<=|>|<)?\s*([0-9A-Za-z_.+-]+)")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}|0[xX][0-9A-Fa-f]{1,8}")
_SIGNS = {"": EQUAL, "==": EQUAL, "=": EQUAL, ">": GREATER, ">=": GREATER | EQUAL, "<": LESS, "<=": LESS | EQUAL}
_UNEQUAL = LESS | GREATER
_BIT_SIGNS = {"": 0, "=": ALL, "==": ALL, "!": NOT, "!=": NOT | ALL}
FRAGMENT_BITS = {
    "dont-fragment": DONT_FRAGMENT,
    "is-fragment": IS_FRAGMENT,
    "first-fragment": FIRST_FRAGMENT,
    "last-fragment": LAST_FRAGMENT,
}
NOT_A_FRAGMENT = "not-a-fragment"
# The values of components, of which a packet has no larger ones.
_MOST = {
    **dict.fromkeys((Component.PROTOCOL, Component.ICMP_TYPE, Component.ICMP_CODE), 0xFF),
    Component.DSCP: 0x3F,
    Component.FLOW_LABEL: 0xFFFFF,
}
_FASTEST = 1e12
Bits = Callable[[str], int | None]


def numeric_text(ops: tuple[Op, ...], equal: str) -> str:
    """Write numeric comparisons: those that hold together joined by &, others separated by spaces."""
    signs = {EQUAL: equal, GREATER: ">", GREATER | EQUAL: ">=", LESS: "<", LESS | EQUAL: "<=", _UNEQUAL: "!="}
    return _joined(ops, lambda op: f"{signs[op.operator]}{op.value}")


def bitmask_text(ops: tuple[Op, ...], bits: Callable[[int], str]) -> str:
    """Write bitmask comparisons: = all bits, alone any of them, ! negated."""
    signs = {0: "", ALL: "=", NOT: "!", NOT | ALL: "!="}
    return _joined(ops, lambda op: signs[op.operator] + bits(op.value))


def _joined(ops: tuple[Op, ...], text: Callable[[Op], str]) -> str:
    return "".join(("" if at == 0 else "&" if op.both else " ") + text(op) for at, op in enumerate(ops))


def fragment_names(value: int) -> str:
    """Write the bits of a fragment component."""
    return "+".join(name for name, bit in FRAGMENT_BITS.items() if value & bit)


def ops(component: Component, text: str, flags: Bits) -> tuple[Op, ...]:
    """Parse the comparisons of a component; ``flags`` gives the bits of names of TCP flags."""
    found: list[Op] = []
    at = 0
    while text[at:].strip():
        match = _OP.match(text, at)
        if match is None:
            rest = shown(text[at:].strip())
            raise UsageError(f"not a comparison: {rest}", "write [&] [=|>|>=|<|<=|!=] VALUE, or [&] [=|!|!=] BITS")
        both, sign, word = bool(match[1]) and bool(found), match[2] or "", match[3]
        if component in BITMASKS:
            found.append(_bitmask(component, both, sign, word, flags))
        else:
            found.append(_numeric(component, both, sign, word))
        at = match.end()
    if not found:
        raise UsageError("a component without a value", "write what it is compared with: destination-port =80")
    return tuple(found)


def _numeric(component: Component, both: bool, sign: str, word: str) -> Op:
    if word in ("true", "false") and not sign:
        return Op(both, EQUAL | LESS | GREATER if word == "true" else 0, 0)
    value = _number(word)
    if value is None and component is Component.PROTOCOL:
        value = PROTOCOLS.get(word.lower(), {"egp": 8, "igp": 9}.get(word.lower()))
    if value is None or value > _MOST.get(component, 0xFFFF):
        raise UsageError(f"not a value of {component.name.lower()}: {shown(word)}", "write a decimal number in range")
    return Op(both, _UNEQUAL if sign in ("!", "!=") else _SIGNS[sign], value)


def _bitmask(component: Component, both: bool, sign: str, word: str, flags: Bits) -> Op:
    if sign not in _BIT_SIGNS:
        raise UsageError(f"bits are not compared by {sign!r}", "write =BITS for all, BITS for any, ! for none of them")
    if component is Component.FRAGMENT and word.lower() == NOT_A_FRAGMENT:
        return Op(both, 0 if sign in ("!", "!=") else NOT, IS_FRAGMENT | FIRST_FRAGMENT)
    value = _number(word)
    if value is None:
        value = named(word, FRAGMENT_BITS) if component is Component.FRAGMENT else flags(word)
    if value is None or not 0 < value <= (0xFFF if component is Component.TCP_FLAGS else 0xF):
        problem = f"not bits of {component.name.lower()}: {shown(word)}"
        raise UsageError(problem, "write their names joined by +, or a number")
    return Op(both, _BIT_SIGNS[sign], value)


def named(word: str, known: Mapping[str, int]) -> int | None:
    """Return the bits of names that are joined by +; None if one is unknown."""
    found = [known.get(it) for it in word.lower().split("+")]
    return sum({it for it in found if it}) if all(found) else None


def _number(word: str) -> int | None:
    return int(word, 0) if _NUMBER.fullmatch(word) else None


def prefix_text(prefix: Prefix, version: int) -> str:
    """Write a prefix without its offset."""
    return f"{address_text(prefix.number, 32 if version == 4 else 128)}/{prefix.length}"


def prefix(text: str, offset: str = "") -> tuple[int, Prefix]:
    """Parse a prefix; return the IP version, too."""
    address, slash, length = text.partition("/")
    version = 6 if ":" in address else 4
    width = 32 if version == 4 else 128
    try:
        number = int.from_bytes(socket.inet_pton(socket.AF_INET if version == 4 else socket.AF_INET6, address), "big")
    except (OSError, ValueError):
        raise UsageError(f"not a prefix: {shown(text)}", "write 192.0.2.0/24 or 2001:db8::/32") from None
    bits, skipped = _number(length) if slash else width, _number(offset) if offset else 0
    if bits is None or skipped is None or not skipped <= bits <= width or (version == 4 and skipped):
        raise UsageError(f"not a prefix length: {shown(text)}", f"the range is /0 to /{width}; only IPv6 has an offset")
    mask = (1 << width) - (1 << width - bits)
    return version, Prefix(number & mask, bits, skipped)


def rate(text: str) -> float:
    """Parse a rate, in bytes or packets a second."""
    try:
        found = float(text)
    except ValueError:
        found = -1
    if not 0 <= found <= _FASTEST:
        raise UsageError(f"not a rate: {shown(text)}", "write a number a second, up to 1,000,000,000,000")
    return found


def with_kinds(actions: Actions, text: str) -> Actions:
    """Return actions with those of ``action sample``, ``terminal`` or ``sample-terminal``."""
    kinds = text.split("-")
    if not set(kinds) <= {"sample", "terminal"}:
        raise UsageError(f"not an action: {shown(text)}", "write sample, terminal or sample-terminal")
    return actions._replace(sample=actions.sample or "sample" in kinds, further=actions.further or "terminal" in kinds)
