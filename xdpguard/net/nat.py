# SPDX-License-Identifier: GPL-2.0
"""Whether a network namespace translates addresses: a segment without a socket may then belong to somebody behind."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from xdpguard.net.netns import entered

_NETLINK_NETFILTER = 12  # linux/netlink.h
_GET_CHAINS = 10 << 8 | 4  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETCHAIN
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_DONE, _ERROR = 3, 2
_CHAIN_TYPE, _CHAIN_USE = 7, 6  # NFTA_CHAIN_*, linux/netfilter/nf_tables.h
_LEGACY = ("ip_tables_names", "ip6_tables_names")


def translates(netns: str) -> bool:
    """Whether there is a chain of type nat with a rule, made with nftables or either iptables, or an IPVS service.

    What cannot be found out counts as a yes, which leaves more alone.
    """
    with entered(netns):
        for name in _LEGACY:
            try:
                if "nat" in Path(f"/proc/thread-self/net/{name}").read_text(encoding="ascii").split():
                    return True
            except OSError:
                continue
        if _balances():
            return True
        try:
            return any(kind == b"nat" and rules for kind, rules in _chains())
        except OSError as error:
            # Without netfilter in the kernel, or without nftables in it, there is nothing that could translate.
            return error.errno not in (errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.EINVAL)


def _balances() -> bool:
    """Whether IPVS has services: their connections have no sockets here."""
    try:
        lines = Path("/proc/thread-self/net/ip_vs").read_text(encoding="ascii").splitlines()
    except OSError:
        return False
    return any(line.startswith(("TCP", "FWM")) for line in lines)


def _chains() -> Iterator[tuple[bytes, int]]:
    """Type and number of rules of every chain of nftables; the type is empty for one that hangs on no hook."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as link:
        link.settimeout(2)
        link.sendto(struct.pack("=IHHIIBBH", 20, _GET_CHAINS, _REQUEST_DUMP, 1, 0, 0, 0, 0), (0, 0))
        while True:
            data = link.recv(1 << 17)
            while data:
                length, kind = struct.unpack_from("=IH", data)
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    code = -struct.unpack_from("=i", data, 16)[0]
                    raise OSError(code, os.strerror(code))
                found = dict(_attributes(data[20:length]))
                rules = int.from_bytes(found.get(_CHAIN_USE, b"\0"), "big")
                yield found.get(_CHAIN_TYPE, b"").rstrip(b"\0"), rules
                data = data[(length + 3) & ~3 :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            return
        yield kind & 0x3FFF, data[4:length]
        data = data[(length + 3) & ~3 :]
