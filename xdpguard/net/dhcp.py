# SPDX-License-Identifier: GPL-2.0
"""What DHCP needs: the servers of this host's leases, and the sources that a client or server on it hears.

A client without an address asks from 0.0.0.0. DHCPv6 is spoken between link-local addresses.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

from xdpguard.net import tcptable
from xdpguard.policy.target import Prefix

NO_ADDRESS = Prefix(bytes(4), 32)
LINK_LOCAL = Prefix(b"\xfe\x80" + bytes(14), 64)  # RFC 4291, 2.5.6: the bits behind the first 10 are zero
_ROOT = Path("/")
_TEXTS = (
    "run/systemd/netif/leases/*",
    "var/lib/NetworkManager/*.lease",
    "run/NetworkManager/devices/*",
)
_DHCLIENT = ("var/lib/dhcp/*.lease*", "var/lib/dhclient/*.lease*", "var/lib/NetworkManager/dhclient-*.lease")
_DHCPCD = ("var/lib/dhcpcd*/*.lease",)
# Compiled where they are used, which is seldom: compiling costs more than all else here.
_SERVER = r"(?m)^(?:SERVER_ADDRESS|dhcp_server_identifier)=([0-9.]+)"
_LEASE = r"(?ms)^lease\s*\{(.*?)^\}"
_IDENTIFIER = r"option\s+dhcp-server-identifier\s+([0-9.]+);"
_EXPIRE = r"expire\s+(?:\d\s+(\d+/\d+/\d+ \d+:\d+:\d+)|epoch\s+(\d+))"
_COOKIE_AT, _COOKIE = 236, b"\x63\x82\x53\x63"  # RFC 2131, 3: the options of a message follow it
_PAD, _IDENTIFIER_OPTION, _END = 0, 54, 255
_SERVER4, _CLIENT6, _SERVER6 = 67, 546, 547  # UDP ports


def servers() -> list[Prefix]:
    """Return the DHCP servers of this host's leases that have not expired."""
    found = {
        _packed(text) for pattern in _TEXTS for data in _files(pattern) for text in re.findall(_SERVER, _text(data))
    }
    for pattern in _DHCLIENT:
        found |= {_packed(it) for data in _files(pattern) for it in dhclient(_text(data), time.time())}
    for pattern in _DHCPCD:
        found |= {_of_message(data) for data in _files(pattern)}
    return sorted(Prefix(it, 32) for it in found if it is not None and any(it))


def dhclient(text: str, now: float) -> Iterator[str]:
    """Yield the servers in a lease file of dhclient; it appends, so there may be old leases (``now``: Unix time)."""
    from calendar import timegm

    for lease in re.findall(_LEASE, text):
        server, expire = re.search(_IDENTIFIER, lease), re.search(_EXPIRE, lease)
        end = now + 1
        if expire:
            end = float(expire[2]) if expire[2] else timegm(time.strptime(expire[1], "%Y/%m/%d %H:%M:%S"))
        if server and end > now:
            yield server[1]


def sources() -> list[tuple[Prefix, str]]:
    """Return the sources that DHCP on this host hears in this network namespace, each with its role."""
    found = []
    if _open("udp", _SERVER4):
        found.append((NO_ADDRESS, "where DHCP clients without an address ask this host's server from"))
    if _open("udp6", _CLIENT6):
        found.append((LINK_LOCAL, "where DHCPv6 servers answer this host from"))
    elif _open("udp6", _SERVER6):
        found.append((LINK_LOCAL, "where DHCPv6 clients ask this host's server from"))
    return found


def _open(name: str, port: int) -> bool:
    return any(line.split()[1].endswith(f":{port:04X}") for line in tcptable.lines(name)[1:])


def _of_message(data: bytes) -> bytes | None:
    """Return the server in a DHCP message, as dhcpcd keeps it; None if it is not one, or of DHCPv6."""
    if data[_COOKIE_AT : _COOKIE_AT + 4] != _COOKIE:
        return None
    at = _COOKIE_AT + 4
    while at + 2 <= len(data) and data[at] != _END:
        if data[at] == _PAD:
            at += 1
            continue
        value = data[at + 2 : at + 2 + data[at + 1]]
        if data[at] == _IDENTIFIER_OPTION and len(value) == 4:
            return value
        at += 2 + data[at + 1]
    return None


def _packed(text: str) -> bytes | None:
    parts = text.split(".")
    return bytes(map(int, parts)) if len(parts) == 4 and all(it and int(it) < 256 for it in parts) else None


def _files(pattern: str) -> Iterator[bytes]:
    for path in sorted(_ROOT.glob(pattern)):
        try:
            yield path.read_bytes()
        except OSError:
            continue


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
