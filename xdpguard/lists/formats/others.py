# SPDX-License-Identifier: GPL-2.0
"""Files that are something else than a list of addresses to block, though they have addresses in them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from xdpguard.errors import UsageError

_ACCESS = re.compile(r"\S+ \S+ \S+ \[[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:")
_HOSTS = re.compile(r"(?:0\.0\.0\.0|127\.[0-9.]+|::1?|255\.255\.255\.255|fe80::1%lo0)\s+[A-Za-z0-9_*][A-Za-z0-9_.-]*")
_DELEGATED = re.compile(r"(?:[0-9.]+\|)?(?:afrinic|apnic|arin|iana|lacnic|ripencc|nro)\|")
_ACL = re.compile(r"acl\s+\S+\s*\{|(?:blackhole|deny-answer-addresses)\s*\{")
_NEIGHBOUR = re.compile(r"\S+ (?:dev \S+ |via )")
_ASN = re.compile(r'\{[^{}]*"asn"\s*:')
_OBJECT = re.compile(r'\{\s*"[^"]+"\s*:')
_KINDS = (
    (_ACCESS, "a web server's access log", "take the addresses to block out of it first"),
    (_HOSTS, "a hosts file, whose addresses are not what it blocks", "use a list of addresses"),
    (_DELEGATED, "a registry's statistics, with the number of addresses in place of a prefix length", "use prefixes"),
    (_ACL, "an address match list of BIND, in which the order of the lines counts", "write prefixes, one per line"),
    (_NEIGHBOUR, "a table of routes or neighbours", "use a list of addresses"),
    (_ASN, "a list of AS numbers, not of addresses", "use a list of the prefixes they announce"),
    (_OBJECT, 'JSON lines without "cidr"', "take the addresses out of it first, one per line"),
)


def refuse_others(name: str, sample: Sequence[str]) -> None:
    """Raise UsageError if most of the first lines are of a known kind that is no list."""
    for pattern, what, remedy in _KINDS:
        if sum(pattern.match(line.strip()) is not None for line in sample) * 2 > len(sample) or (
            pattern in (_ACL, _DELEGATED) and pattern.match(sample[0].strip())
        ):
            raise UsageError(f"{name}: no entries; it is {what}", remedy)
