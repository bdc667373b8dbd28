# SPDX-License-Identifier: GPL-2.0
"""The pcapng files that capture writes, read by scapy, by this package, and block by block; and their outputs."""

from __future__ import annotations

import io
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.utils import PcapNgReader, RawPcapNgReader

from xdpguard.capture.output import Output
from xdpguard.capture.reader import Capture
from xdpguard.capture.writer import Writer
from xdpguard.errors import UsageError, XdpguardError

FRAME = bytes(Ether() / IP(src="198.51.100.7", dst="203.0.113.1") / TCP(flags="S"))
AT = 1_795_000_000_123_456_789
DROP, PASS = 1, 2  # enum xdp_action
SECTION, INTERFACE, STATISTICS, PACKET = 0x0A0D0D0A, 1, 5, 6


def written(*interfaces: tuple[str, str]) -> tuple[io.BytesIO, Writer]:
    file = io.BytesIO()
    return file, Writer(file.write, interfaces or [("eth0", "")], 128, "xdpguard 1", "Linux 6")


def blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from("=II", data, at)
        assert length % 4 == 0
        assert struct.unpack_from("=I", data, at + length - 4) == (length,), "the length stands at both ends"
        yield kind, data[at + 8 : at + length - 4]
        at += length
    assert at == len(data)


def options(data: bytes) -> dict[int, bytes]:
    """Until the end of options, behind which nothing may stand."""
    found: dict[int, bytes] = {}
    at = 0
    while True:
        code, length = struct.unpack_from("=HH", data, at)
        at += 4
        if not code:
            assert (length, at) == (0, len(data))
            return found
        found[code] = data[at : at + length]
        assert not any(data[at + length : at + (length + 3 & ~3)]), "padding is zero"
        at += length + 3 & ~3


def test_block_by_block() -> None:
    before = time.time_ns()
    file, writer = written(("eth0", "the first"), ("eth1", ""))
    writer.packet(1, AT, FRAME[:53], 1500, "deny: why", DROP)
    writer.statistics(0, 0, 7)
    (kind, section), first, second, packet, statistics = blocks(file.getvalue())
    assert kind == SECTION
    assert struct.unpack_from("=IHHq", section) == (0x1A2B3C4D, 1, 0, -1)
    assert options(section[16:]) == {3: b"Linux 6", 4: b"xdpguard 1"}
    for (kind, body), wanted in (
        (first, {2: b"eth0", 3: b"the first", 9: b"\x09"}),
        (second, {2: b"eth1", 9: b"\x09"}),
    ):
        assert kind == INTERFACE
        assert struct.unpack_from("=HHI", body) == (1, 0, 128)
        assert options(body[8:]) == wanted
    kind, body = packet
    number, high, low, there, length = struct.unpack_from("=IIIII", body)
    assert (kind, number, high << 32 | low, there, length) == (PACKET, 1, AT, 53, 1500)
    assert body[20:76] == FRAME[:53] + bytes(3)
    assert options(body[76:]) == {1: b"deny: why", 2: struct.pack("=I", 1), 7: b"\x02" + struct.pack("=Q", DROP)}
    kind, body = statistics
    number, high, low = struct.unpack_from("=III", body)
    counted = options(body[12:])
    assert (kind, number) == (STATISTICS, 0)
    assert struct.unpack("=QQ", counted[7] + counted[8]) == (7, 0)
    times = [high << 32 | low for high, low in (struct.unpack("=II", counted[code]) for code in (2, 3))]
    assert before <= times[0] <= times[1] == high << 32 | low <= time.time_ns()


def test_scapy_reads_it(tmp_path: Path) -> None:
    file, writer = written(("eth0@there", "what is dropped"))
    frames = [FRAME, FRAME[:14], FRAME[:15], FRAME + bytes(70)]
    for number, frame in enumerate(frames):
        writer.packet(0, AT + number * 1000, frame, 2000, "c" * number + "ü", PASS)
    writer.statistics(0, len(frames), 3)
    path = tmp_path / "a.pcapng"
    path.write_bytes(file.getvalue())
    with RawPcapNgReader(str(path)) as raw:
        found: list[tuple[bytes, Any]] = list(raw)
    assert [data for data, _ in found] == frames
    assert {meta.wirelen for _, meta in found} == {2000}
    assert [(meta.tshigh << 32) + meta.tslow for _, meta in found] == [AT + number * 1000 for number in range(4)]
    assert {meta.tsresol for _, meta in found} == {1_000_000_000}
    assert {meta.ifname for _, meta in found} == {b"eth0@there"}
    assert {meta.linktype for _, meta in found} == {1}
    with PcapNgReader(str(path)) as reader:
        assert reader.read_packet()[TCP].flags == "S"


@given(
    st.lists(st.tuples(st.binary(min_size=14, max_size=128), st.integers(0, 5000), st.text(max_size=40)), max_size=6)
)
def test_whatever_it_holds(packets: list[tuple[bytes, int, str]]) -> None:
    file, writer = written()
    for data, more, comment in packets:
        writer.packet(0, AT, data, len(data) + more, comment, DROP)
    writer.statistics(0, len(packets), 0)
    capture = Capture("a", io.BytesIO(file.getvalue()))
    assert [(it.data, it.length) for it in capture] == [(data, len(data) + more) for data, more, _ in packets]
    assert not capture.fault
    bodies = [body for kind, body in blocks(file.getvalue()) if kind == PACKET]
    for (data, _, comment), body in zip(packets, bodies, strict=True):
        assert options(body[20 + len(data) + 3 & ~3 :])[1] == comment.encode()


def test_each_block_is_one_piece() -> None:
    pieces: list[bytes] = []
    writer = Writer(pieces.append, [("eth0", "")], 128, "a", "b")
    writer.packet(0, AT, FRAME, len(FRAME), "", DROP)
    writer.statistics(0, 1, 0)
    assert [[kind for kind, _ in blocks(piece)] for piece in pieces] == [[SECTION, INTERFACE], [PACKET], [STATISTICS]]


def test_an_output_is_emptied_and_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old and long")
    with Output(str(path)) as output:
        output.write(b"one")
        output.write(b"two")
        assert path.read_bytes() == b"onetwo", "nothing is held back"


@pytest.mark.parametrize("name", ["", "/", "/dev/null", "/nonexistent/a"])
def test_no_output(name: str) -> None:
    with pytest.raises(UsageError) as error:
        Output(name)
    assert error.value.remedy


def test_half_a_block_is_rolled_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends it: no room, or Ctrl-C."""
    real = os.write
    path = tmp_path / "a"
    for error in (OSError(28, "No space left on device"), KeyboardInterrupt()):
        with Output(str(path)) as output:
            output.write(b"whole")
            calls = iter([True, False])

            def half(descriptor: int, data: bytes, calls: Iterator[bool] = calls, error: BaseException = error) -> int:
                if next(calls):
                    return real(descriptor, data[:3])
                raise error

            monkeypatch.setattr(os, "write", half)
            with pytest.raises(XdpguardError if isinstance(error, OSError) else KeyboardInterrupt):
                output.write(b"half of it")
            monkeypatch.setattr(os, "write", real)
            assert path.read_bytes() == b"whole"
            output.write(b" again")
        assert path.read_bytes() == b"whole again"


def test_a_pipe_that_has_half_a_block_gets_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    real = os.write
    with Output(str(fifo)) as output:
        calls = iter([True, False])

        def half(descriptor: int, data: bytes) -> int:
            if next(calls):
                return real(descriptor, data[:3])
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "write", half)
        with pytest.raises(KeyboardInterrupt):
            output.write(b"half of it")
        monkeypatch.setattr(os, "write", real)
        output.write(b"more")
    assert os.read(reader, 100) == b"hal"
    os.close(reader)
