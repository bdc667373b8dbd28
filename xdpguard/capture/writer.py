# SPDX-License-Identifier: GPL-2.0
"""Write pcapng: https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcapng/.

Uses this host's byte order, and times in nanoseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from struct import pack

_SECTION, _INTERFACE, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 5, 6
_ETHERNET = 1  # LINKTYPE_ETHERNET
_NANOSECONDS = 9  # if_tsresol: the power of ten
_INBOUND = 1  # epb_flags
_XDP = 2  # epb_verdict: eBPF_XDP, followed by enum xdp_action

# Options, by block: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html, sections 4.1 to 4.6
_COMMENT, _OS, _APPLICATION, _NAME, _DESCRIPTION, _RESOLUTION = 1, 3, 4, 2, 3, 9
_FLAGS, _VERDICT = 2, 7
_BEGIN, _END, _DROPPED, _DELIVERED = 2, 3, 7, 8

Options = Sequence[tuple[int, bytes]]


class Writer:
    """Writes a section with its interfaces, then packets; each block is passed on in one piece."""

    def __init__(
        self,
        put: Callable[[bytes], object],
        interfaces: Iterable[tuple[str, str]],
        longest: int,
        application: str,
        system: str,
    ) -> None:
        """``put`` receives the blocks; ``interfaces``: name and description of each; ``longest``: maximum bytes kept
        of a packet.
        """
        self._put = put
        self._began = time.time_ns()
        head = pack("=IHHq", 0x1A2B3C4D, 1, 0, -1)
        blocks = _block(_SECTION, head, [(_OS, system.encode()), (_APPLICATION, application.encode())])
        self._longest = longest
        self._put(blocks + b"".join(self._described(*it) for it in interfaces))

    def interface(self, name: str, description: str) -> None:
        """Add an interface; it gets the next number."""
        self._put(self._described(name, description))

    def packet(self, interface: int, at: int, data: bytes, length: int, comment: str, verdict: int) -> None:
        """Write a received packet. ``at``: Unix time, ns; ``verdict``: enum xdp_action."""
        head = pack("=IIIII", interface, at >> 32, at & 0xFFFFFFFF, len(data), length)
        options = [
            (_COMMENT, comment.encode()),
            (_FLAGS, pack("=I", _INBOUND)),
            (_VERDICT, pack("=BQ", _XDP, verdict)),
        ]
        self._put(_block(_PACKET, head + _padded(data), options))

    def statistics(self, interface: int, written: int, missing: int) -> None:
        """Write an interface's statistics: packets written, and packets that are missing."""
        now = time.time_ns()
        options = [
            (_BEGIN, _moment(self._began)),
            (_END, _moment(now)),
            (_DROPPED, pack("=Q", missing)),
            (_DELIVERED, pack("=Q", written)),
        ]
        self._put(_block(_STATISTICS, pack("=I", interface) + _moment(now), options))

    def _described(self, name: str, description: str) -> bytes:
        options = [(_NAME, name.encode()), (_RESOLUTION, bytes([_NANOSECONDS]))]
        if description:
            options.insert(1, (_DESCRIPTION, description.encode()))
        return _block(_INTERFACE, pack("=HHI", _ETHERNET, 0, self._longest), options)


def _moment(at: int) -> bytes:
    return pack("=II", at >> 32, at & 0xFFFFFFFF)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _block(kind: int, body: bytes, options: Options) -> bytes:
    tail = b"".join(pack("=HH", code, len(value)) + _padded(value) for code, value in options)
    if tail:
        tail += bytes(4)
    length = 12 + len(body) + len(tail)
    return pack("=II", kind, length) + body + tail + pack("=I", length)
