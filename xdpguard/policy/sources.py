# SPDX-License-Identifier: GPL-2.0
"""Sources as people type them: also ranges, wildcards and lists; and what to say of words that are something else."""

from __future__ import annotations

import re

from xdpguard.errors import UsageError
from xdpguard.policy.duration import looks_like_one
from xdpguard.policy.target import Prefix, parse_prefix

_LAST = re.compile(r"(\d{1,3}\.\d{1,3}\.\d{1,3}\.)(\d{1,3})-(\d{1,3})")
_STARS = re.compile(r"((?:\d{1,3}\.){1,3})\*(?:\.\*){0,2}")
_PORT = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?(/(tcp|udp))?|(tcp|udp)/[0-9]{1,5}")
_WITH_PORT = re.compile(r"([0-9.]+|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})")
_MAC = re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}")
_NUMBERS = re.compile(r"[0-9]+(\.[0-9]+){0,3}(/[0-9]+)?")


def parse_sources(text: str) -> list[tuple[Prefix, bool]]:
    """Parse addresses, prefixes, ranges (a-b) and wildcards (198.51.100.*), several with commas between them.

    Returns prefixes, and of each whether host bits were set, and cleared. Raises UsageError.
    """
    found: list[tuple[Prefix, bool]] = []
    for part in text.split(",") if "," in text else [text]:
        word = part.strip()
        if stars := _STARS.fullmatch(word):
            numbers = stars[1].count(".")
            word = f"{stars[1]}{'.'.join('0' * (4 - numbers))}/{8 * numbers}"
        if "-" in word and "/" not in word and (last := _range(word)):
            found += [(prefix, False) for prefix in last]
            continue
        try:
            found.append(parse_prefix(word))
        except UsageError as error:
            raise of_word(word, error) from error
    return found


def _range(word: str) -> list[Prefix] | None:
    """Return the prefixes that a range stands for, as few as can be; None if it is none. Raise UsageError."""
    import ipaddress

    short = _LAST.fullmatch(word)
    first, last = (f"{short[1]}{short[2]}", f"{short[1]}{short[3]}") if short else map(str.strip, word.split("-", 1))
    if not ({".", ":"} & {*first} and {".", ":"} & {*last}) or _MAC.fullmatch(word):
        return None
    ends = []
    for text in (first, last):
        try:
            ends.append(ipaddress.ip_address(str(parse_prefix(text)[0])))
        except UsageError as error:
            wrong = of_word(text, error)
            raise UsageError(f"not a range: {_shown(word)}: {wrong}", wrong.remedy) from error
    low, high = ends
    if low.version != high.version:
        raise UsageError(f"not a range: {_shown(word)}", "write both ends as IPv4 or both as IPv6")
    if int(low) > int(high):
        raise UsageError(f"not a range: {_shown(word)} runs backwards", f"write {high}-{low}")
    nets = ipaddress.summarize_address_range(low, high)
    return [Prefix(it.network_address.packed, it.prefixlen) for it in nets]


def of_word(word: str, error: UsageError) -> UsageError:
    """Return what to say of a word that is no source. ``error``: what `parse_prefix` says of it."""
    remedy = _hint(word)
    return UsageError(str(error), remedy) if remedy else error


def _hint(word: str) -> str:
    address = word.partition("/")[0]
    numbers = address.split(".")
    digits = all(it.isdecimal() and it.isascii() for it in numbers)
    if digits and len(numbers) == 4:
        large = next((it for it in numbers if len(it) > 3 or int(it) > 255), "")
        zero = next((it for it in numbers if len(it) > 1 and it[0] == "0"), "")
        if large:
            return f"{large} is above 255: each of the four numbers is 0 to 255"
        return f"write {int(zero)} for {zero}: the four numbers have no leading zeros" if zero else ""
    if port := _WITH_PORT.fullmatch(word):
        return (
            "leave out the port: a rule joins no source and port; use a filter: xdpguard filter add NAME"
            f" '{'ip6' if ':' in port[1] else 'ip'} saddr {port[1].strip('[]')} tcp dport {port[2]}' --drop"
        )
    if digits and _NUMBERS.fullmatch(word) and "." in word and len(numbers) < 4:
        zeros = ".".join([*numbers, *["0"] * (4 - len(numbers))])
        return f"an IPv4 address has four numbers: write {zeros}/{8 * len(numbers)} for all that begin with {address}"
    hints = (
        ("%" in word, "leave out the zone: rules apply to addresses as packets carry them"),
        (_PORT.fullmatch(word), f"a port has an option of its own: --port {word}"),
        (looks_like_one(word), f"a duration is given with --for {word}"),
        ("://" in word, f"that is a URL: load what it serves as a list: xdpguard lists load NAME {word}"),
        (_MAC.fullmatch(word), "that is a MAC address: rules are for IP addresses"),
        (word[:1] == "[" and word[-1:] == "]", f"write it without brackets: {word.strip('[]')}"),
        (word[:1] == "@", f"a list is named in a filter: xdpguard filter add NAME 'ip saddr {word}' --drop"),
        (word.startswith("!"), "to let one address through, allow it: xdpguard allow ADDRESS"),
        (word.startswith("--"), f"{word} is an option: write it before --"),
        (len(numbers) > 4 and digits, "an IPv4 address has four numbers"),
        (word == "", "a word is empty, as of a variable that is not set"),
    )
    return next((hint for fits, hint in hints if fits), "")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
