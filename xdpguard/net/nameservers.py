# SPDX-License-Identifier: GPL-2.0
"""The name servers this host asks: those of resolv.conf, and those behind a stub on this host.

systemd-resolved and NetworkManager write the real ones to files of their own; dnsmasq, unbound, BIND and others have
them in their configuration, or get them from resolvconf.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from xdpguard.errors import UsageError
from xdpguard.policy.target import Prefix, parse_prefix

_ROOT = Path("/")
_RESOLV_CONF = "etc/resolv.conf"
_REAL = (
    "run/systemd/resolve/resolv.conf",
    "run/NetworkManager/no-stub-resolv.conf",
    "run/NetworkManager/resolv.conf",
    "run/dnsmasq/resolv.conf",
    "run/resolvconf/resolv.conf",
    "run/resolvconf/interface/*",
    "etc/resolv.dnsmasq*",
)
_SERVERS = (
    "etc/dnsmasq.conf",
    "etc/dnsmasq.d/*",
    "run/NetworkManager/dnsmasq.d/*",
    "etc/NetworkManager/dnsmasq.d/*",
    "run/dnsmasq/*.conf",
    "etc/unbound/*.conf",
    "etc/unbound/unbound.conf.d/*",
    "run/systemd/netif/state",
    "run/systemd/resolve/netif/*",
    "etc/systemd/resolved.conf",
    "etc/systemd/resolved.conf.d/*",
)
# Compiled where they are used: compiling costs more than all else here.
_NAMESERVER = r"(?m)^\s*nameserver\s+(\S+)"
# dnsmasq: server=/domain/ADDRESS#PORT@INTERFACE; unbound: forward-addr: ADDRESS@PORT#NAME; systemd:
# DNS=ADDRESS:PORT#NAME ...
_SERVER = r"(?m)^\s*(?:server=(?:/.*/)?|forward-addr:\s*|DNS=|FallbackDNS=)(.*)"
# Other resolvers, each with its own way to name them.
_OTHERS = (
    ("etc/bind/named.conf*", r"(?s)\bforwarders\b[^{};]*\{([^}]*)\}"),
    ("etc/named.conf", r"(?s)\bforwarders\b[^{};]*\{([^}]*)\}"),
    ("etc/powerdns/recursor.conf", r"(?m)^\s*forward-zones(?:-recurse)?\+?=(.*)"),
    ("etc/powerdns/recursor.d/*", r"(?m)^\s*forward-zones(?:-recurse)?\+?=(.*)"),
    ("etc/pihole/pihole.toml", r"(?ms)^\s*upstreams\s*=\s*\[(.*?)\]"),
    ("etc/coredns/Corefile", r"(?m)^\s*forward\s+\S+\s+(.*)"),
    ("etc/stubby/stubby.yml", r"(?m)^\s*(?:-\s+)?address_data:\s*(\S+)"),
)
_COMMENTS = r"(?s)/\*.*?\*/|(?m:(?:^|\s)(?://|#).*$)"
_BETWEEN = r"[\s;,=\"']+|\b(?:dns|tls)://"
_FILE = r"(?m)^\s*resolv-file=(\S+)"


def read() -> tuple[list[Prefix], list[Prefix]]:
    """Return the name servers, and the addresses of stubs on loopback that resolv.conf names."""
    direct = _addresses(_RESOLV_CONF, _NAMESERVER)
    stubs = [it for it in direct if it.is_loopback]
    found = [it for it in direct if not it.is_loopback]
    for pattern in _REAL:
        found += _addresses(pattern, _NAMESERVER)
    for pattern in _SERVERS:
        found += _addresses(pattern, _SERVER)
        for text in _texts(pattern):
            for name in re.findall(_FILE, text):
                found += _addresses(name.lstrip("/"), _NAMESERVER)
    for pattern, forwarding in _OTHERS:
        found += _forwarded(pattern, forwarding)
    return [it for it in dict.fromkeys(found) if not it.is_loopback], stubs


def _addresses(pattern: str, line: str) -> list[Prefix]:
    found = []
    for text in _texts(pattern):
        for words in re.findall(line, text):
            for word in words.split():
                address = _address(word)
                if address is not None:
                    found.append(address)
    return found


def _forwarded(pattern: str, forwarding: str) -> list[Prefix]:
    found = []
    for text in _texts(pattern):
        for words in re.findall(forwarding, re.sub(_COMMENTS, " ", text)):
            found += [address for word in re.split(_BETWEEN, words) if (address := _address(word)) is not None]
    return found


def _address(word: str) -> Prefix | None:
    """Return the address that a word begins with, without port, interface and name of a certificate."""
    text = re.split(r"[#@%]", word, maxsplit=1)[0]
    if match := re.fullmatch(r"\[(.+)\](?::\d+)?|([0-9.]+):\d+", text):
        text = match[1] or match[2]
    try:
        found = parse_prefix(text)[0]
    except UsageError:
        return None
    return found if found.is_address and any(found.network) else None


def _texts(pattern: str) -> Iterator[str]:
    for path in sorted(_ROOT.glob(pattern)):
        try:
            yield path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
