# SPDX-License-Identifier: GPL-2.0
"""Format addresses, times and process names; formatted addresses are cached."""

from __future__ import annotations

import socket
import time
from functools import lru_cache

from xdpguard.policy.target import MAPPED


@lru_cache(maxsize=65_536)
def address(packed: bytes) -> str:
    """Format an address of 16 bytes; IPv4-mapped ones as IPv4."""
    if packed.startswith(MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed)


def end(packed: bytes, port: int) -> str:
    """Format address and port: ``192.0.2.1:80``, ``[2001:db8::1]:80``; port 0 is ``*``."""
    text = address(packed)
    shown = str(port) if port else "*"
    return f"[{text}]:{shown}" if ":" in text else f"{text}:{shown}"


def prefix(packed: bytes, length4: int, length6: int) -> str:
    """Format a masked address of 16 bytes with its prefix length, which is omitted for a whole address."""
    text = address(packed)
    length, whole = (length6, 128) if ":" in text else (length4, 32)
    return text if length == whole else f"{text}/{length}"


class Clock:
    """Converts monotonic nanoseconds to wall-clock time."""

    def __init__(self) -> None:
        self._offset = time.time_ns() - time.monotonic_ns()
        self._second = -1
        self._text = ""

    def unix(self, monotonic: int) -> float:
        """Return the Unix time, s."""
        return (monotonic + self._offset) / 1e9

    def time_of_day(self, monotonic: int) -> str:
        """Return local time as ``12:34:56.789012``. Fast for ascending times."""
        second, rest = divmod(monotonic + self._offset, 1_000_000_000)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%H:%M:%S", time.localtime(second))
        return f"{self._text}.{rest // 1000:06d}"


def process_name(raw: bytes) -> str:
    """Decode a process name as the kernel stores it, with control characters replaced."""
    text = raw.rstrip(b"\0").decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in text)
