# SPDX-License-Identifier: GPL-2.0
"""Single values: numbers, names, addresses and prefixes, each as the range of numbers that it stands for."""

from __future__ import annotations

import difflib
import re
import socket

from xdpguard.policy.matching import names
from xdpguard.policy.matching.model import Range
from xdpguard.policy.matching.ranges import Ranges
from xdpguard.policy.matching.selectors import ANY_FRAGMENT, Kind, Operand
from xdpguard.policy.matching.tokens import Token, Tokens, shown
from xdpguard.policy.target import NO_SERVICES, SERVICES, SHORTEST4, SHORTEST6

_NUMBER = re.compile(r"0|[1-9][0-9]*|0[xX][0-9a-fA-F]+")
_LONGEST = 42  # characters of a number: those of 128 bits
_OTHER6, _OTHER4 = "IPv6 addresses are matched by ip6", "IPv4 addresses are matched by ip"
_NO_NAMES = "names are not looked up"
_ADDRESSES = (Kind.ADDRESS4, Kind.ADDRESS6)


def value(tokens: Tokens, operand: Operand) -> Ranges:
    """Take a value: an address with its prefix length, a name or a number."""
    token = tokens.next
    if operand.kind in _ADDRESSES:
        return (_prefix(tokens, operand),)
    tokens.take()
    named = _named(token.text, operand)
    if named is not None:
        return named
    if operand.kind is Kind.NAME or not token.text[:1].isdigit():
        return tokens.fail(f"{_what(token)} is not {_kind(operand)}", _remedy(operand, token.text), token)
    bits = operand.bits
    found = number(tokens, token, bits, _remedy(operand, ""))
    return ((found, found),)


def number(tokens: Tokens, token: Token, bits: int, remedy: str = "write a decimal or a hexadecimal number") -> int:
    """Return the number that a token is; it fits into so many bits."""
    if not _NUMBER.fullmatch(token.text):
        zeros = token.text.lstrip("0")
        if zeros != token.text and zeros.isdecimal():
            remedy = f"leave out the leading zeros, which mean octal in nftables: {zeros}"
        return tokens.fail(f"{_what(token)} is not a number", remedy, token)
    most = (1 << bits) - 1
    found = int(token.text, 0) if len(token.text) <= _LONGEST else most + 1
    if found > most:
        tokens.fail(f"{shown(token.text)} is out of range", f"the range is 0 to {most}", token)
    return found


def _named(text: str, operand: Operand) -> Ranges | None:
    if text in operand.names:
        found = operand.names[text]
        return ((1, 2),) if text == ANY_FRAGMENT else ((found, found),)
    if not text[:1].isalpha():
        return None
    one: int | None = None
    if operand.kind is Kind.PROTOCOL:
        one = names.protocol(text)
    elif operand.kind is Kind.PORT:
        one = names.service(text, operand.transport)
    return None if one is None else ((one, one),)


def _prefix(tokens: Tokens, operand: Operand) -> Range:
    token = tokens.take()
    first = address(tokens, token, operand)
    if not tokens.taken("/"):
        return first, first
    bits = operand.bits
    length_token = tokens.take()
    length = number(tokens, length_token, 8, f"write a prefix length from 0 to {bits}")
    if length > bits:
        tokens.fail(f"{length} is not a prefix length", f"the range is 0 to {bits}", length_token)
    size = 1 << (bits - length)
    network = first & -size
    if network != first and length < (SHORTEST4 if bits == 32 else SHORTEST6):
        tokens.fail(
            f"host bits are set in a prefix of {length} bits",
            f"write {address_text(network, bits)}/{length} if that many addresses are meant",
            token,
        )
    return network, network + size - 1


def address(tokens: Tokens, token: Token, operand: Operand) -> int:
    """Return the number of the address that a token is."""
    family = socket.AF_INET if operand.kind is Kind.ADDRESS4 else socket.AF_INET6
    try:
        return int.from_bytes(socket.inet_pton(family, token.text), "big")
    except (OSError, ValueError):
        return tokens.fail(f"{_what(token)} is not {operand.kind.value}", _remedy(operand, token.text), token)


def address_text(number: int, bits: int) -> str:
    """Write the number of an address of 32 or 128 bits as an address."""
    family = socket.AF_INET if bits == 32 else socket.AF_INET6
    return socket.inet_ntop(family, number.to_bytes(bits // 8, "big"))


def _what(token: Token) -> str:
    return shown(token.text) if token.text else "the end"


def _kind(operand: Operand) -> str:
    return f"a value of {operand.words}" if operand.kind in (Kind.NAME, Kind.NUMBER, Kind.FLAGS) else operand.kind.value


def _remedy(operand: Operand, text: str) -> str:
    known = tuple(names.PROTOCOLS) if operand.kind is Kind.PROTOCOL else tuple(operand.names)
    first, dash, last = text.partition("-")
    if dash and _named(first, operand) and _named(last, operand):
        return f"names may contain dashes: write a range of names with spaces, {first} - {last}"
    longer = [it for it in known if len(text) > 2 and it.startswith(text)]
    close = longer[:3] or (difflib.get_close_matches(text, known, 1) if text else [])
    if close:
        return f"did you mean {' or '.join(close)}?"
    if operand.kind is Kind.PORT and text and not SERVICES.exists():
        return NO_SERVICES
    numbers = f"write a number from 0 to {(1 << operand.bits) - 1}"
    listed = ", ".join(known[:10]) + (", ..." if len(known) > 10 else "")
    forms = "write an address, a prefix, a range, a set in braces or @LIST"
    remedies = {
        Kind.ADDRESS4: f"{forms}: 198.51.100.0/24; {_OTHER6 if ':' in text else _NO_NAMES}",
        Kind.ADDRESS6: f"{forms}: 2001:db8::/32; {_OTHER4 if text.count('.') == 3 else _NO_NAMES}",
        Kind.PORT: f"{numbers}, a range such as 8000-8010, a set in braces, or a name of /etc/services",
        Kind.PROTOCOL: f"{numbers} or a name: tcp, udp, icmp, icmpv6, gre, esp, ...",
        Kind.NAME: f"write {' or '.join(known)}" if len(known) < 4 else f"write one of {listed}",
    }
    return remedies.get(operand.kind, f"{numbers}, or one of {listed}" if listed else numbers)
