# SPDX-License-Identifier: GPL-2.0
"""Captures of every kind, written by hand and by scapy, intact and damaged."""

from __future__ import annotations

import errno
import gzip
import io
import os
import random
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, CookedLinux, CookedLinuxV2, Dot1Q, Ether, Loopback
from scapy.packet import Packet, Raw
from scapy.utils import PcapNgWriter, PcapWriter, RawPcapNgReader, RawPcapReader
from support.captures import block, enhanced, interface, old, option, pcap, section, simple

from xdpguard.capture.direction import Own
from xdpguard.capture.reader import Capture, Frame
from xdpguard.capture.stream import opened
from xdpguard.errors import UsageError
from xdpguard.policy.target import Prefix, parse_prefix

ETHER = Ether(src="02:00:00:00:00:02", dst="02:00:00:00:00:01")
PACKETS = [
    bytes(ETHER / IP(src="198.51.100.7", dst="203.0.113.1") / TCP(flags="S", dport=80)),
    bytes(ETHER / IPv6(src="2001:db8::7", dst="2001:db8:1::1") / TCP(flags="A") / Raw(b"x" * 31)),
    bytes(ETHER / Dot1Q(vlan=5) / IP() / TCP() / Raw(b"y" * 700)),
    bytes(ETHER / ARP()),
]

NOISY = [bytes(random.Random(number).randbytes(number % 300 + 14)) for number in range(300)]  # that cannot be packed


def frames(data: bytes) -> tuple[list[Frame], Capture]:
    capture = Capture("a.pcap", io.BytesIO(data))
    return list(capture), capture


def contents(data: bytes) -> list[bytes]:
    found, capture = frames(data)
    assert not capture.fault
    assert [frame.number for frame in found] == list(range(1, len(found) + 1))
    return [frame.data for frame in found]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nano", [False, True])
def test_pcap(order: Any, nano: bool, tmp_path: Path) -> None:
    data = pcap(PACKETS, order, nano=nano)
    assert contents(data) == PACKETS
    assert contents(gzip.compress(data)) == PACKETS
    path = tmp_path / "a.pcap"
    path.write_bytes(data)
    with path.open("rb") as file:
        assert [packet for packet, _ in RawPcapReader(cast(Any, file))] == PACKETS, "scapy reads the same of it"
    _, capture = frames(data)
    assert capture.format == f"pcap, {'big' if order == '>' else 'little'}-endian, {'nano' if nano else 'micro'}seconds"


@pytest.mark.parametrize("nano", [False, True])
def test_times_of_pcap(nano: bool) -> None:
    times = [1_700_000_000_123_456_000, 1_700_000_001_000_000_000]
    found, _ = frames(pcap(PACKETS[:2], nano=nano, times=times))
    assert [frame.at for frame in found] == times


@pytest.mark.parametrize(
    ("options", "at"),
    [
        (b"", ((5 << 32) + 6) * 1000),  # microseconds
        (option(9, b"\x09"), (5 << 32) + 6),
        (option(9, b"\x03"), ((5 << 32) + 6) * 1_000_000),
        (option(9, b"\x94"), ((5 << 32) + 6) * 1_000_000_000 >> 20),  # 2 ** -20 s
        (option(9, b"\x09") + option(14, (77).to_bytes(8, "little")), (5 << 32) + 6 + 77_000_000_000),
        (option(9, b"\x00"), (1 << 63) - 1),  # seconds, of a far future
        (option(14, (-(1 << 60)).to_bytes(8, "little", signed=True)), 0),  # before 1970
        (option(14, (1 << 60).to_bytes(8, "little")), (1 << 63) - 1),
    ],
)
def test_times_of_pcapng(options: bytes, at: int) -> None:
    """By the interface's own resolution and offset; a simple packet has none."""
    found, _ = frames(section() + interface(options=options) + enhanced(PACKETS[0]) + simple(PACKETS[1]))
    assert [frame.at for frame in found] == [at, 0]


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng(order: Any, tmp_path: Path) -> None:
    one, two, three, four = PACKETS
    raw = two[14:]
    data = b"".join(
        (
            section(order, option(4, b"written by hand", order) + option(0, b"", order)),
            interface(1, order, options=option(2, b"eth0", order) + option(9, b"\x09", order)),
            enhanced(one, 0, order, options=option(1, b"a comment", order) + option(0, b"", order)),
            block(4, struct.pack(order + "HH", 0, 0), order),
            interface(101, order),
            enhanced(raw, 1, order),
            block(0x0BAD, b"of somebody's own", order),
            old(three, 0, order),
            simple(four, order),
            section("<"),
            interface(1, "<"),
            enhanced(one),
            section(">"),
            interface(1, ">"),
            enhanced(three, 0, ">"),
        )
    )
    found = contents(data)
    assert found[0] == one
    assert found[1][12:] == two[12:]
    assert found[2:] == [three, four, one, three]
    assert contents(gzip.compress(data)) == found
    path = tmp_path / "a.pcapng"
    path.write_bytes(data)
    with path.open("rb") as file:
        theirs = [packet for packet, _ in RawPcapNgReader(cast(Any, file))]
    assert theirs[0] == one
    assert theirs[1] == raw


def test_files_of_scapy(tmp_path: Path) -> None:
    for name, writer in (("a.pcap", PcapWriter), ("a.pcapng", PcapNgWriter)):
        path = tmp_path / name
        made = writer(str(path))
        for packet in PACKETS:
            made.write(Ether(packet))
        made.close()
        assert contents(path.read_bytes()) == PACKETS


def test_a_simple_block_is_cut_at_the_snap_length() -> None:
    data = section() + interface(1, most=40) + simple(PACKETS[0][:40], length=len(PACKETS[0]))
    found, _ = frames(data)
    assert [(frame.data, frame.length) for frame in found] == [(PACKETS[0][:40], len(PACKETS[0]))]


def test_what_was_cut_is_said() -> None:
    found, _ = frames(pcap([PACKETS[2][:60], PACKETS[0]], lengths=[len(PACKETS[2]), len(PACKETS[0])]))
    assert [(frame.data, frame.length) for frame in found] == [(PACKETS[2][:60], len(PACKETS[2])), (PACKETS[0], 54)]


V4 = IP(src="198.51.100.7", dst="203.0.113.1") / TCP(flags="S", dport=80)
V6 = IPv6(src="2001:db8::7", dst="2001:db8:1::1") / TCP(flags="S", dport=80)


def converted(link: int, packet: bytes, order: Any = "<") -> bytes:
    (found,) = contents(pcap([packet], order, link))
    return found


@pytest.mark.parametrize("ip", [V4, V6], ids=["v4", "v6"])
@pytest.mark.parametrize("link", [12, 14, 101])
def test_raw_ip(link: int, ip: Packet) -> None:
    found = Ether(converted(link, bytes(ip)))
    assert bytes(found.payload) == bytes(ip)
    assert found.type == (0x0800 if ip is V4 else 0x86DD)
    assert found.dst == "02:00:00:00:00:01"


def test_raw_ip_of_one_version() -> None:
    assert bytes(Ether(converted(228, bytes(V4)))[IP]) == bytes(V4)
    assert bytes(Ether(converted(229, bytes(V6)))[IPv6]) == bytes(V6)


@pytest.mark.parametrize("ip", [V4, V6], ids=["v4", "v6"])
@pytest.mark.parametrize("tag", [None, Dot1Q(vlan=7)], ids=["plain", "vlan"])
def test_linux_cooked(ip: Packet, tag: Packet | None) -> None:
    inner = tag / ip if tag else ip
    for link, cooked in ((113, CookedLinux(src=b"\2\0\0\0\0\2")), (276, CookedLinuxV2(src=b"\2\0\0\0\0\2"))):
        found = Ether(converted(link, bytes(cooked / inner)))
        assert bytes(found.payload) == bytes(inner)
        assert found.haslayer(Dot1Q) == bool(tag)


def test_linux_cooked_tells_what_the_host_sent() -> None:
    for link, kind in ((113, CookedLinux), (276, CookedLinuxV2)):
        data = pcap([bytes(kind(pkttype=number) / V4) for number in (0, 4, 1)], link=link)
        assert [frame.sent for frame in frames(data)[0]] == [None, "packet_type", None]
        own = list(Capture("a", io.BytesIO(data), own=Own(prefixes=[prefix("198.51.100.7")])))
        assert [frame.sent for frame in own] == [None, "packet_type", None], "the type decides, where there is one"


def prefix(text: str) -> Prefix:
    return parse_prefix(text)[0]


def sent(data: bytes, *macs: str, own: str = "") -> list[str | None]:
    """How each frame is known to be sent by a host with these MAC addresses, and this prefix of its own."""
    its = Own([bytes.fromhex(it.replace(":", "")) for it in macs], [prefix(own)] if own else [])
    return [frame.sent for frame in Capture("a", io.BytesIO(data), own=its)]


@pytest.mark.parametrize("order", ["<", ">"])
def test_flags_of_pcapng_tell_the_direction(order: Any) -> None:
    one = PACKETS[0]
    flags = [0, 1, 2, 3, 0xFFFF_FFFC, 2 | 0x124, 1 | 0x124]
    data = section(order) + interface(1, order)
    for bits in flags:
        options = option(1, b"why", order) + option(2, struct.pack(order + "I", bits), order) + option(0, b"", order)
        data += enhanced(one + b"odd", 0, order, options=options)
    data += simple(one, order) + old(one, 0, order) + old(one, 0, order, option(2, struct.pack(order + "I", 2), order))
    assert sent(data) == [None, None, "flag", None, None, "flag", None, None, None, "flag"]
    known = [None if bits & 3 == 1 else "flag" if bits & 3 == 2 else "mac" for bits in flags]
    assert sent(data, ETHER.src) == [*known, "mac", "mac", "flag"], "what came in is not what an address says"


def test_options_that_are_damaged_tell_nothing() -> None:
    head = section() + interface()
    good = option(2, struct.pack("<I", 2))
    for options in (option(2, b"\2"), good[:4], b"\2\0\xff\xff", option(0, b"") + good, option(2, bytes(8))):
        assert sent(head + enhanced(PACKETS[0], options=options)) == [None]
    assert sent(head + enhanced(PACKETS[0], options=good)) == ["flag"], "positive control"


def test_addresses_of_the_host_tell_the_direction() -> None:
    data = pcap(PACKETS)
    assert sent(data) == [None] * 4
    assert sent(data, ETHER.src) == ["mac"] * 4
    assert sent(data, "02:00:00:00:00:09", own="198.51.100.7") == [None] * 4, "a forged source, from another MAC"
    assert sent(data, own="198.51.100.0/24") == ["address", None, None, None]
    assert sent(data, own="2001:db8::7") == [None, "address", None, None]
    tagged = bytes(ETHER / Dot1Q(vlan=5) / Dot1Q(vlan=6) / V4)
    assert sent(pcap([tagged, tagged[:30]]), own="198.51.100.7") == ["address", None], "cut before its source"
    raw = pcap([bytes(V4), bytes(V6)], link=101)
    assert sent(raw, "02:00:00:00:00:02", own="198.51.100.7") == ["address", None], "no MAC of its own there"


def test_a_described_interface_tells_its_addresses() -> None:
    mac = option(6, bytes.fromhex("020000000002"))
    four = option(4, bytes([198, 51, 100, 7, 255, 255, 255, 0]))
    six = option(5, prefix("2001:db8::7").network + b"\x40")
    for options, wanted in (
        (mac, ["mac", "mac"]),
        (four, ["address", None]),
        (six, [None, "address"]),
        (four + six, ["address", "address"]),
        (option(6, bytes(6)) + option(4, bytes(4)), [None, None]),
    ):
        data = section() + interface(options=options) + enhanced(PACKETS[0]) + enhanced(PACKETS[1])
        assert sent(data) == wanted
    elsewhere = section() + interface(options=option(6, bytes.fromhex("020000000009"))) + enhanced(PACKETS[0])
    assert sent(elsewhere, ETHER.src) == [None], "captured on another interface, to which this one sends"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("family", "ip"), [(2, V4), (10, V6), (24, V6), (28, V6), (30, V6)])
def test_loopback(order: Any, family: int, ip: Packet) -> None:
    null = struct.pack(order + "I", family) + bytes(ip)
    loop = struct.pack(">I", family) + bytes(ip)
    for found in (Ether(converted(0, null, order)), Ether(converted(108, loop, order))):
        assert found.type == (0x0800 if ip is V4 else 0x86DD)
        assert bytes(found.payload) == bytes(ip)
    if family == 2:
        assert bytes(Loopback(null if order == "<" else struct.pack("<I", family) + bytes(ip)).payload) == bytes(ip)


def test_loopback_of_something_else_is_not_ip() -> None:
    assert Ether(converted(0, struct.pack("<I", 7) + bytes(40))).type == 0xFFFF


@pytest.mark.parametrize(("link", "header"), [(113, 16), (276, 20), (0, 4), (108, 4)])
def test_lengths_are_those_of_the_frame(link: int, header: int) -> None:
    packet = bytes(header) + bytes(V4)
    found, _ = frames(pcap([packet], link=link, lengths=[1000]))
    assert (found[0].length, len(found[0].data)) == (1000 - header + 14, 14 + len(V4))


def test_other_link_types_are_left_out_and_said() -> None:
    data = section() + interface(105) + interface(1) + enhanced(PACKETS[0], 0) + enhanced(PACKETS[1], 1)
    found, capture = frames(data)
    assert [(frame.number, frame.data) for frame in found] == [(2, PACKETS[1])]
    (note,) = capture.notes()
    assert "link type 105" in note


def test_records_that_are_not_frames_are_skipped_and_reported() -> None:
    found, capture = frames(pcap([b"\0" * 13, PACKETS[0], b""]))
    assert [frame.number for frame in found] == [2]
    (note,) = capture.notes()
    assert note.startswith("skipped 2 packets")
    found, capture = frames(pcap([bytes(15)], link=113))
    assert (found, capture.short) == ([], 1)


@pytest.mark.parametrize("flavour", ["pcap", "pcapng"])
def test_cut_off_at_every_byte(flavour: str) -> None:
    packets = PACKETS[:2]
    if flavour == "pcap":
        begin, data = 24, pcap(packets)
        ends = [24, 24 + 16 + len(packets[0]), len(data)]
    else:
        head = section() + interface()
        one = enhanced(packets[0])
        begin, data = len(head), head + one + enhanced(packets[1])
        ends = [begin, begin + len(one), len(data)]
    for length in range(begin, len(data) + 1):
        found, capture = frames(data[:length])
        whole = sum(end <= length for end in ends) - 1
        assert [frame.data for frame in found] == packets[:whole]
        assert bool(capture.fault) == (length not in ends), length
        if capture.fault:
            assert capture.fault.startswith(f"packet {whole + 1} ")


def test_cut_off_in_the_header() -> None:
    for length in range(4, 24):
        found, capture = frames(pcap(PACKETS)[:length])
        assert not found
        assert capture.fault


def test_of_cut_off_gzip_all_that_is_there_is_read() -> None:
    whole = pcap(NOISY)
    data = gzip.compress(whole)
    for length in (len(data) - 1, len(data) - 9, len(data) // 2, 200):
        there = zlib.decompressobj(31).decompress(data[:length])
        found, capture = frames(data[:length])
        wanted, _ = frames(there)
        assert wanted
        assert [frame.data for frame in found] == [frame.data for frame in wanted]
        assert capture.fault == f"packet {len(found) + 1:,} is incomplete: the gzip data ends prematurely"


def test_of_damaged_gzip_all_that_is_before_it_is_read() -> None:
    member, other = gzip.compress(pcap(NOISY)), gzip.compress(pcap(NOISY)[24:])
    reserved = b"\x07"  # where a block begins: its last one, of the kind that is reserved
    packed = zlib.compressobj(wbits=31)
    begin = packed.compress(pcap(NOISY)) + packed.flush(zlib.Z_FULL_FLUSH)
    for data, count in (
        (begin + reserved + bytes(50), len(NOISY)),
        (member[:-6] + b"\xff" + member[-5:], len(NOISY)),
        (member + other[:10] + reserved + bytes(50), len(NOISY)),
        (member + bytes(10) + b"garbage", len(NOISY)),
    ):
        found, capture = frames(data)
        assert [frame.data for frame in found][: count - 1] == NOISY[: count - 1]
        assert len(found) >= count - 1, "a byte may be lost beside the damage, and its packet with it"
        assert capture.fault.startswith(f"packet {len(found) + 1:,} is incomplete: the gzip data is corrupt (")


def test_gzip_of_several_members() -> None:
    data = pcap(NOISY)
    parts = [gzip.compress(data[at : at + 997]) for at in range(0, len(data), 997)]
    assert contents(b"".join(parts)) == NOISY
    assert contents(bytes(100_000).join(parts)) == NOISY, "padded"
    assert contents(parts[0] + gzip.compress(b"") + b"".join(parts[1:])) == NOISY
    assert contents(gzip.compress(pcap([bytes(60)] * 60_000))) == [bytes(60)] * 60_000, "far longer than packed"


class _Failing(io.BytesIO):
    """A file on a bad disk."""

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        if not found:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return found


@pytest.mark.parametrize(
    "data", [b"", pcap(PACKETS), gzip.compress(pcap(PACKETS))[:-9]], ids=["empty", "plain", "gzip"]
)
def test_a_file_that_the_disk_does_not_give_is_named(data: bytes) -> None:
    with pytest.raises(UsageError, match=r"cannot read a\.pcap: Input/output error"):
        list(Capture("a.pcap", _Failing(data)))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"a", "not a capture file"),
        (b"[rules]\nblock = []\n", "not a capture file"),
        (bytes(4000), "not a capture file"),
        (struct.pack("<I", 0xA1B2CD34) + bytes(40), "modified pcap"),
        (b"\x28\xb5\x2f\xfd" + bytes(40), "zstd"),
        (b"\x1f\x8b\x08", "gzip"),
        (gzip.compress(b"", mtime=0), "is empty"),
    ],
)
def test_files_that_are_not_captures(data: bytes, says: str) -> None:
    with pytest.raises(UsageError, match=says) as error:
        frames(data)
    assert error.value.remedy


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(UsageError, match="cannot be read"):
            opened(str(path))


def test_damage_ends_the_reading_and_is_named() -> None:
    good = pcap(PACKETS[:1])
    for bad, says in (
        (struct.pack("<IIII", 1, 1, 1 << 30, 1 << 30), "1,073,741,824 bytes"),
        (bytes(4096), "all zeros"),
    ):
        found, capture = frames(good + bad)
        assert len(found) == 1
        assert says in capture.fault
    head = section() + interface() + enhanced(PACKETS[0])
    for bad, says in (
        (bytes(64), "block of 0 bytes"),
        (struct.pack("<II", 6, 1 << 31), "block of"),
        (enhanced(PACKETS[0], 7), "interface 7"),
        (enhanced(PACKETS[0])[:-4] + struct.pack("<I", 4), "two lengths differ"),
        (block(6, struct.pack("<IIIII", 0, 0, 0, 5000, 5000)), "more than its block holds"),
        (block(6, b"1234"), "too short"),
        (block(1, b"1234"), "too short"),
        (struct.pack("<III", 0x0A0D0D0A, 28, 5) + bytes(16), "byte order"),
    ):
        found, capture = frames(head + bad)
        assert len(found) == 1
        assert says in capture.fault, (says, capture.fault)


def test_a_sparse_file_is_neither_read_into_memory_nor_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "sparse.pcap"
    with path.open("wb") as file:
        file.write(pcap(PACKETS))
        file.truncate(10 << 30)
    tracemalloc.start()
    with path.open("rb") as file:
        capture = Capture("sparse", file)
        assert len(list(capture)) == len(PACKETS)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    assert "all zeros" in capture.fault


def test_a_long_capture_is_not_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.pcap"
    with path.open("wb") as file:
        file.write(pcap([]))
        record = pcap([PACKETS[2]])[24:]
        for _ in range(100):
            file.write(record * 1000)
    tracemalloc.start()
    with path.open("rb") as file:
        assert sum(1 for _ in Capture("long", file)) == 100_000
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


@given(st.binary(max_size=400), st.sampled_from([pcap(PACKETS[:1]), section() + interface(), section(">"), b""]))
def test_noise_never_raises_anything_else(noise: bytes, begin: bytes) -> None:
    try:
        list(Capture("noise", io.BytesIO(begin + noise)))
    except UsageError as error:
        assert error.remedy


@given(st.lists(st.binary(min_size=14, max_size=300), max_size=5), st.sampled_from(["<", ">"]), st.booleans())
def test_whatever_the_packets_hold(packets: list[bytes], order: Any, nano: bool) -> None:
    assert contents(pcap(packets, order, nano=nano)) == packets
    ng = section(order) + interface(1, order) + b"".join(enhanced(packet, 0, order) for packet in packets)
    assert contents(ng) == packets
