# SPDX-License-Identifier: GPL-2.0
"""Files that are something else than a list of addresses to block, though they have addresses in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from xdpguard.errors import UsageError

_TAKE_OUT = "take the addresses out of it first, one per line"
_NGINX_MAP = ("a map of nginx, whose values say which addresses block", "write the addresses to block, one per line")
_PREFIXES = "write the prefixes to block, one per line"


class _Kind(NamedTuple):
    """Something else: what lines of it look like, what it is, and what to do. ``first``: the first line tells it."""

    pattern: re.Pattern[str]
    what: str
    remedy: str
    first: bool = False


_KINDS = (
    _Kind(
        re.compile(r"\S+ \S+ \S+ \[[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:"),
        "a web server's access log",
        "take the addresses to block out of it first",
    ),
    _Kind(
        re.compile(r"(?:0\.0\.0\.0|127\.[0-9.]+|::1?|255\.255\.255\.255|fe80::1%lo0)\s+[A-Za-z0-9_*][A-Za-z0-9_.-]*"),
        "a hosts file, whose addresses are not what it blocks",
        "use a list of addresses",
    ),
    _Kind(
        re.compile(r"(?:[0-9.]+\|)?(?:afrinic|apnic|arin|iana|lacnic|ripencc|nro)\|"),
        "a registry's statistics, with the number of addresses in place of a prefix length",
        "use prefixes",
        first=True,
    ),
    _Kind(
        re.compile(r"acl\s+\S+\s*\{|(?:blackhole|deny-answer-addresses)\s*\{"),
        "an address match list of BIND, in which the order of the lines counts",
        "write prefixes, one per line",
        first=True,
    ),
    _Kind(
        re.compile(r"\S+ (?:dev \S+(?: |$)|via )|(?:blackhole|unreachable|prohibit|throw) [0-9a-f]|\S+\s+ether\s"),
        "a table of routes or neighbours",
        "use a list of addresses",
    ),
    _Kind(
        re.compile(r'\{[^{}]*"asn"\s*:'),
        "a list of AS numbers, not of addresses",
        "use a list of the prefixes they announce",
    ),
    _Kind(
        re.compile(r'\{\s*"[^"]+"\s*:'),
        'JSON lines without "cidr"',
        _TAKE_OUT,
    ),
    _Kind(
        re.compile(r"(?:ip6?tables(?:-restore)?\s|-[AID]\s+\S+\s+-|-[PN]\s+[A-Z]|\*(?:filter|raw|mangle|nat)$)"),
        "a set of iptables rules, which also match on other things than an address",
        _PREFIXES,
        first=True,
    ),
    _Kind(
        re.compile(r"(?:add|insert)\s+rule\s"),
        "a script of nftables rules; only the sets of nftables are read",
        "load what nft list ruleset prints if it has a set, or a list of addresses",
        first=True,
    ),
    _Kind(
        re.compile(r"(?:ipset\s+(?:-\S+\s+)*|-!\s+)(?:create|add|-N|-A)\s|Name:\s+\S+$|<ipsets?[ >]"),
        "a listing or a script of ipset, not what ipset save prints",
        "load what ipset save prints",
        first=True,
    ),
    _Kind(
        re.compile(r"\[?\{?'[^']+'\s*[:,]"),
        "a text of Python, as fail2ban-client banned prints it",
        "fail2ban-client get JAIL banip prints the addresses of a jail",
        first=True,
    ),
    _Kind(
        re.compile(r"[0-9A-Fa-f:.]+(?:/[0-9]+)?\s+[^\s;]+;\s*(?:#.*)?$"),
        *_NGINX_MAP,
    ),
    _Kind(
        re.compile(
            r"(?:no\s+)?(?:ip(?:v6)?\s+)?(?:access-list|prefix-list)\s|object-group\s|policy-options\s"
            r"|set\s+(?:policy-options|firewall|security)\s|config firewall\s|define\s+\S+\s*=\s*\["
            r"|network-object\s|shun\s|ip route\s|(?:standard|extended) ip access list|\s*[0-9]+ (?:deny|permit) "
            r"|/ip(?:v6)? firewall|add (?:\S+=\S+ )*address="
        ),
        "a router's or firewall's configuration",
        _PREFIXES,
        first=True,
    ),
    _Kind(
        re.compile(r"(?:route6?|inet6?num):\s"),
        "a list of objects of a routing registry",
        _PREFIXES,
        first=True,
    ),
    _Kind(
        re.compile(r"Status for the jail"),
        "what fail2ban-client status prints",
        "fail2ban-client get JAIL banip prints the addresses of a jail",
        first=True,
    ),
    _Kind(
        re.compile(r"[a-z]+://[^\s,;|]+$", re.IGNORECASE),
        "a list of URLs, which are more than an address",
        _TAKE_OUT,
    ),
    _Kind(
        re.compile(r"geo\s+(?:\$\S+\s+)?\$\S+\s*\{|map\s+\S+\s+\$\S+\s*\{"),
        *_NGINX_MAP,
        first=True,
    ),
    _Kind(
        re.compile(
            r"(?:deny|allow)\s+[^\s;]+;|(?:deny|allow)\s+from\s|order\s+(?:deny|allow)\b|<?require\w*\s|http_access\s"
            r"|acl\s+\S+\s+(?:src|dst)\s|(?:block|pass)\s+(?:in|out|drop|quick)\b|(?:all|[a-z]+d)\s*:\s+(?!\S+\s*-)\S",
            re.IGNORECASE,
        ),
        "a configuration of rules, not a list",
        _PREFIXES,
    ),
    _Kind(
        re.compile(r"(?:\$ORIGIN|@\s+(?:IN\s+)?SOA)\s|\S+\s+(?:[0-9]+\s+)?IN\s+(?:A|AAAA|CNAME|PTR)\s"),
        "a zone of DNS, which is read only in the form of rbldnsd",
        _TAKE_OUT,
    ),
    _Kind(
        re.compile(r"(?:\+\+\+|diff|Index:)\s+\S+|@@ -[0-9]"),
        "a patch, not a list",
        "apply it, and load the list",
        first=True,
    ),
    _Kind(
        re.compile(r"[\w.-]+:$|-\s+[\"']?[0-9A-Fa-f.:/]+[\"']?$|---$"),
        "YAML, of which no lists are read",
        _TAKE_OUT,
    ),
    _Kind(
        re.compile(r"\||\+[-=]|[\u2500-\u257f]"),
        "a table drawn with lines",
        "export it as CSV, or take the addresses out of it first",
    ),
    _Kind(
        re.compile(r"<\?xml|<[A-Za-z][\w.:-]*(?:\s|>|/)"),
        "XML or HTML",
        _TAKE_OUT,
        first=True,
    ),
    _Kind(
        re.compile(r"<!doctype html|<html", re.IGNORECASE),
        "a web page",
        "check where it was fetched from",
        first=True,
    ),
    _Kind(
        re.compile(r"version https://git-lfs\."),
        "a pointer of Git LFS to the file, not the file",
        "git lfs pull gets it",
        first=True,
    ),
)


def refuse_others(name: str, sample: Sequence[str]) -> None:
    """Raise UsageError if most of the first lines are of a known kind that is not a list."""
    for kind in _KINDS:
        if (kind.first and kind.pattern.match(sample[0].strip())) or sum(
            kind.pattern.match(line.strip()) is not None for line in sample
        ) * 2 > len(sample):
            raise UsageError(f"{name}: no entries; it is {kind.what}", kind.remedy)
