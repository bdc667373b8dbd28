# SPDX-License-Identifier: GPL-2.0
"""The packets that are timed, and the addresses in them: entries of the list, and sources on and off it."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from xdpguard.bench.wire import OUTSIDE_MAC, SERVER4, SERVER6, SERVER_MAC

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Family = Literal[4, 6]
FAMILIES: tuple[Family, ...] = (4, 6)
Pool = Literal["clean", "listed", "blocked", "allowed"]

SOURCES = 10_000
CLOSED_PORT = 23
ALLOWED: dict[Family, str] = {4: "198.51.0.0/16", 6: "2001:db8:a::/48"}
_BLOCKED: dict[Family, str] = {4: "203.0.0.0/16", 6: "2001:db8:b::/48"}
# First bytes of entries and of clean sources: all but those used otherwise, including by the lab and above.
_FIRST_BYTES = [it for it in range(1, 224) if it not in (10, 100, 127, 169, 172, 192, 198, 203)]
_FIRST6, _FREE6 = 0x2400 << 48, 1 << 58  # entries are /64s of 2400::/6
_SEED = 1
_MIX = 0x9E3779B97F4A7C15  # any odd number yields hosts that differ from each other and from their networks
_ACK, _SYN = 0x10, 0x02
_LENGTH: dict[Family, int] = {4: 62, 6: 78}  # bytes: two plus words of four, as the packet maker writes them


class Way(NamedTuple):
    """A path through the program: the pool its sources are drawn from, and the reason it must be counted under."""

    key: str
    name: str
    pool: Pool
    reason: str
    flags: int = _ACK
    port: int = 80
    surplus: int = 0  # bytes that the IP header claims but the frame lacks


WAYS = (
    Way("pass_ack", "ACK passes", "clean", "pass"),
    Way("pass_syn", "SYN passes", "clean", "pass", _SYN),
    Way("denied", "denied by the list", "listed", "deny"),
    Way("malformed", "malformed", "clean", "malformed", surplus=100),
    Way("blocked", "blocked by hand", "blocked", "deny"),
    Way("allowed", "allowed", "allowed", "allow"),
    Way("closed_port", "closed port", "clean", "closed_port", _SYN, CLOSED_PORT),
)


def frame(way: Way, family: Family, source: bytes) -> bytes:
    """Build a TCP segment as it arrives from the wire; checksums are the kernel's job, and zero here."""
    tcp = struct.pack("!HHIIBBHHH", 40_000, way.port, 1, 1, 0x50, way.flags, 64_240, 0, 0)
    length = len(tcp) + way.surplus
    if family == 4:
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0x4000, 64, 6, 0) + source + socket.inet_aton(SERVER4)
    else:
        ip = struct.pack("!IHBB", 6 << 28, length, 6, 64) + source + socket.inet_pton(socket.AF_INET6, SERVER6)
    mac = bytes.fromhex((SERVER_MAC + OUTSIDE_MAC).replace(":", ""))
    kind = 0x0800 if family == 4 else 0x86DD
    return (mac + struct.pack("!H", kind) + ip + tcp).ljust(_LENGTH[family], b"\0")


def size(family: Family) -> int:
    """Return the size of a frame in bytes."""
    return _LENGTH[family]


class Addresses:
    """Random addresses, the same in every run: list entries and sources. A shorter list is a prefix of a longer one.

    IPv4 addresses are numbers; an IPv6 address is represented by its upper half, and listed as a /64.
    """

    def __init__(self, largest: int) -> None:
        import numpy as np

        self._random = np.random.default_rng(_SEED)
        self._listed, self._pools = {}, {}
        for family in FAMILIES:
            # Duplicates are removed, so draw a few more.
            drawn = np.unique(self._draw(family, (largest + SOURCES) * 51 // 50 + 1000))
            drawn = self._random.permutation(drawn)[: largest + SOURCES]
            within = self._random.permutation(1 << 16)[:SOURCES].astype(np.uint64)
            self._listed[family] = drawn[:largest]
            self._pools[family] = {
                "clean": drawn[largest:],
                "blocked": within + np.uint64(_number(_BLOCKED[family])),
                "allowed": within + np.uint64(_number(ALLOWED[family])),
            }

    def sources(self, pool: Pool, family: Family, entries: int) -> bytes:
        """Return SOURCES packed addresses in network byte order; listed ones are from the first ``entries``."""
        import numpy as np

        chosen = self._listed[family][:entries] if pool == "listed" else self._pools[family][pool]
        return _packed(family, np.resize(chosen, SOURCES))

    def blocked(self) -> Iterator[str]:
        """Yield the addresses that are blocked by hand."""
        for family in FAMILIES:
            yield from texts(family, self.sources("blocked", family, 0))

    def write(self, path: Path, entries: int, families: tuple[Family, ...] = FAMILIES, skip: int = 0) -> None:
        """Write a list, one entry per line: ``entries`` of each family, without the first ``skip``."""
        with path.open("w", encoding="ascii") as file:
            for family in families:
                suffix = "" if family == 4 else "/64"
                addresses = _packed(family, self._listed[family][skip : skip + entries], host=False)
                file.writelines(f"{text}{suffix}\n" for text in texts(family, addresses))

    def _draw(self, family: Family, count: int) -> NDArray[np.uint64]:
        import numpy as np

        if family == 6:
            return np.uint64(_FIRST6) + self._random.integers(0, _FREE6, count, dtype=np.uint64)
        first = self._random.choice(np.array(_FIRST_BYTES, dtype=np.uint64), count)
        return first << np.uint64(24) | self._random.integers(0, 1 << 24, count, dtype=np.uint64)


def texts(family: Family, packed: bytes) -> list[str]:
    """Format packed addresses as text."""
    width = 4 if family == 4 else 16
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    return [socket.inet_ntop(kind, packed[at : at + width]) for at in range(0, len(packed), width)]


def _packed(family: Family, numbers: NDArray[np.uint64], host: bool = True) -> bytes:
    """Pack addresses in network byte order. Without ``host`` the lower half of an IPv6 address is zero."""
    import numpy as np

    if family == 4:
        return numbers.astype(">u4").tobytes()
    lower = numbers * _MIX if host else np.zeros_like(numbers)
    return np.stack([numbers, lower], axis=1).astype(">u8").tobytes()


def _number(prefix: str) -> int:
    """Return a prefix's first address as a number; for IPv6 its upper half."""
    address = ipaddress.ip_network(prefix).network_address
    return int(address) >> (64 if address.version == 6 else 0)
