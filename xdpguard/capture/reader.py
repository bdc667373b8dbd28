# SPDX-License-Identifier: GPL-2.0
"""Read a capture file of any supported format: its packets as Ethernet frames in order, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import IO, NamedTuple

from xdpguard.capture import ethernet, pcap, pcapng
from xdpguard.capture.direction import INBOUND, NOBODY, OUTBOUND, How, Own
from xdpguard.capture.stream import Stream
from xdpguard.errors import UsageError

_OTHERS = {
    b"\xa1\xb2\xcd\x34": "a modified pcap file",
    b"\x34\xcd\xb2\xa1": "a modified pcap file",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"\xfd7zX": "compressed with xz",
    b"BZh9": "compressed with bzip2",
    b"snoo": "a snoop file",
}
_CONVERT = "convert it with editcap -F pcap, or decompress it first; pcap and pcapng are supported, also gzipped"


class Frame(NamedTuple):
    """Packet ``number``, from 1: the captured part of its frame, its original length in bytes.

    ``sent``: how the packet is known to be sent by the capturing host; None: received, as far as is known. ``at``: Unix
    time in ns; 0: not recorded.
    """

    number: int
    data: bytes
    length: int
    sent: How | None
    at: int = 0


class Capture:
    """A capture. Iterate over it once; the other fields are complete only afterwards."""

    def __init__(self, name: str, file: IO[bytes], mac: bytes = ethernet.OWN_MAC, own: Own = NOBODY) -> None:
        """Raise UsageError if it is not a capture. ``mac``: destination for packets without an Ethernet header.

        ``own``: the addresses of the host that sent the outgoing packets, unless the capture names its own.
        """
        self.name = name if name != "-" else "standard input"
        self._mac, self._own = mac, own
        self._stream = Stream(file, self.name)
        self.fault = ""  # where and why reading stopped before the end
        self.unknown: Counter[int] = Counter()  # packets by unsupported link type
        self.too_short: list[int] = []  # numbers of the first packets too short for a link header
        self.short = 0  # how many such packets
        self.format = self._recognized()

    def __iter__(self) -> Iterator[Frame]:
        read = pcapng.read if self.format.startswith("pcapng") else pcap.read
        number = 0
        try:
            for number, (link, data, length, way, own, at) in enumerate(read(self._stream), start=1):
                told: bool | None = None
                if link != ethernet.ETHERNET:
                    if not ethernet.supported(link):
                        self.unknown[link] += 1
                        continue
                    made = ethernet.convert(link, data, length, self._mac)
                    if made is None:
                        self._skip(number)
                        continue
                    data, length, told = made  # noqa: PLW2901
                if len(data) < 14:
                    self._skip(number)
                    continue
                sent: How | None = "flag" if way == OUTBOUND else "packet_type" if told else None
                if sent is None and way != INBOUND and told is None:
                    sent = (own or self._own).sent(data, link == ethernet.ETHERNET)
                yield Frame(number, data, length if length > len(data) else len(data), sent, at)
        except pcap.Damaged as error:
            self.fault = f"packet {number + 1:,} {error}"

    def _skip(self, number: int) -> None:
        self.short += 1
        if len(self.too_short) < 5:
            self.too_short.append(number)

    def _recognized(self) -> str:
        stream = self._stream
        stream.fill(4)
        magic = stream.data[stream.at : stream.at + 4]
        zipped = ", gzip" if stream.zipped else ""
        if magic == pcapng.MAGIC:
            return "pcapng" + zipped
        if magic in pcap.MAGIC:
            return pcap.describe(stream) + zipped
        if stream.broken:
            raise UsageError(f"{self.name}: {stream.broken}", "get the whole file")
        if not magic:
            raise UsageError(f"{self.name} is empty", "capture with tcpdump -w FILE")
        what = _OTHERS.get(magic, "not a capture file")
        raise UsageError(f"{self.name} is {what}", _CONVERT)

    def left_out(self) -> int:
        """Return the number of packets that were skipped."""
        return self.short + sum(self.unknown.values())

    def notes(self) -> Iterator[str]:
        """Yield notes on the file; call this after reading it."""
        if self.fault:
            yield f"{self.name}: {self.fault}; the packets before it were read"
        for link, count in sorted(self.unknown.items()):
            yield f"{_packets(count)} of link type {link}, which is not supported"
        if self.short:
            first = ", ".join(f"{number:,}" for number in self.too_short)
            yield f"{_packets(self.short)} without a complete link header (the first: {first})"


def _packets(count: int) -> str:
    return f"skipped {count:,} packet{'' if count == 1 else 's'}"
