# SPDX-License-Identifier: GPL-2.0
"""Connections without a socket here: those that netfilter or IPVS translates or hands to a proxy."""

from __future__ import annotations

import struct
from pathlib import Path

from xdpguard.net import netlink
from xdpguard.net.netlink import attributes
from xdpguard.net.netns import entered

NAT = "NAT rules"
_GET_CHAINS, _GET_RULES = 10 << 8 | 4, 10 << 8 | 7  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETCHAIN and NFT_MSG_GETRULE
_ANY_FAMILY = struct.pack("=BBH", 0, 0, 0)  # struct nfgenmsg
_CHAIN_USE, _CHAIN_TYPE = 6, 7  # NFTA_CHAIN_*, linux/netfilter/nf_tables.h
_LEGACY = ("ip_tables_names", "ip6_tables_names")
# An expression, or the target of iptables-nft, as encoded in a rule: NFTA_EXPR_NAME and NFTA_TARGET_NAME are both 1.
_REASONS = {
    struct.pack("=HH", 11, 1) + b"tproxy\0": "TPROXY rules",
    struct.pack("=HH", 11, 1) + b"TPROXY\0": "TPROXY rules",
    struct.pack("=HH", 8, 1) + b"fwd\0": "nftables rules that forward frames",
}


def reasons(netns: str) -> list[str]:
    """Return why a segment without a socket may belong to someone else, in words; empty if nothing suggests it.

    Finds chains of type nat with a rule, from nftables or either iptables; IPVS services; TPROXY rules, except those of
    iptables-legacy; `fwd` rules. What cannot be determined is a reason too: when in doubt, segments are left alone.
    """
    found = []
    with entered(netns):
        if _translates_legacy():
            found.append(NAT)
        if _balances():
            found.append("IPVS services")
        try:
            return found + [it for it in _nftables() if it not in found]
        except OSError as error:
            return found if error.errno in netlink.MISSING else [*found, f"netfilter cannot be read ({error.strerror})"]


def _translates_legacy() -> bool:
    for name in _LEGACY:
        try:
            if "nat" in Path(f"/proc/thread-self/net/{name}").read_text(encoding="ascii").split():
                return True
        except OSError:
            continue
    return False


def _balances() -> bool:
    """Return whether IPVS has services: their connections have no sockets here."""
    try:
        lines = Path("/proc/thread-self/net/ip_vs").read_text(encoding="ascii").splitlines()
    except OSError:
        return False
    return any(line.startswith(("TCP", "FWM")) for line in lines)


def _nftables() -> list[str]:
    """Read nftables. Rules are read only if no chain translates, since hosts with NAT are the ones with thousands."""
    messages = netlink.ask(netlink.NETFILTER, _GET_CHAINS, _ANY_FAMILY, dump=True)
    chains = [attributes(it, len(_ANY_FAMILY)) for it in messages]
    used = [it.get(_CHAIN_TYPE, b"") for it in chains if any(it.get(_CHAIN_USE, b""))]
    if b"nat\0" in used:
        return [NAT]
    if not any(used):
        return []  # no chain with a rule is at a hook
    rules = netlink.ask(netlink.NETFILTER, _GET_RULES, _ANY_FAMILY, dump=True)
    return sorted({reason for mark, reason in _REASONS.items() if any(mark in rule for rule in rules)})
