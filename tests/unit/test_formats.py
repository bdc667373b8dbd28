# SPDX-License-Identifier: GPL-2.0
"""Block lists: every format, every oddity, and the fast path against the slow one and against `ipaddress`."""

from __future__ import annotations

import gzip
import io
import ipaddress
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xdpguard.errors import UsageError
from xdpguard.lists import formats
from xdpguard.lists.formats import Parsed, Request, blocks, collector, read, read_file, sources
from xdpguard.lists.formats.entries import Entry, entry
from xdpguard.lists.formats.lines import Meaning, meaning


def parsed(text: str | bytes, name: str = "list", request: Request | None = None) -> Parsed:
    return read(name, io.BytesIO(text.encode() if isinstance(text, str) else text), request)


def without_ends(found: Parsed) -> set[str]:
    """The notes, without that on entries that have an end."""
    return {note for note in found.notes if " an end (" not in note}


def four(found: Parsed) -> list[str]:
    pairs = zip(found.first4.tolist(), found.last4.tolist(), strict=True)
    return [f"{ipaddress.IPv4Address(first)}-{ipaddress.IPv4Address(last)}" for first, last in pairs]


def six(found: Parsed) -> list[str]:
    triples = zip(found.high6.tolist(), found.low6.tolist(), found.length6.tolist(), strict=True)
    its = [ipaddress.IPv6Network((high << 64 | low, length)) for high, low, length in triples]
    ends = zip(*(half.tolist() for end in found.ranges6 for half in end), strict=True)
    for a, b, c, d in ends:
        its += ipaddress.summarize_address_range(ipaddress.IPv6Address(a << 64 | b), ipaddress.IPv6Address(c << 64 | d))
    return [str(it) for it in its]


def one(address: str) -> str:
    return f"{address}-{address}"


def refused(text: str | bytes) -> UsageError:
    with pytest.raises(UsageError) as caught:
        parsed(text)
    assert caught.value.remedy
    assert str(caught.value).startswith("list")
    return caught.value


def whys(text: str) -> list[tuple[int, str]]:
    return [(fault.line, fault.why) for fault in parsed("192.0.2.1\n" + text).faults]


# -- one a line


def test_plain() -> None:
    found = parsed(
        "192.0.2.1\n\n  198.51.100.0/24\t# who\n2001:db8::/32 ; what\n;\n# 9.9.9.9\n2001:db8::1#x\n0.0.0.0/0\n"
    )
    assert found.format == "plain"
    assert four(found) == [one("192.0.2.1"), "198.51.100.0-198.51.100.255", "0.0.0.0-255.255.255.255"]
    assert six(found) == ["2001:db8::/32", "2001:db8::1/128"]
    assert (found.cleared, found.skipped, found.faults, found.notes) == (0, 0, [], [])


def test_types_of_the_arrays() -> None:
    for text in ("192.0.2.1\n", "2001:db8::1\n"):
        kinds = [part.dtype.name for part in parsed(text)[1:6]]
        assert kinds == ["uint32", "uint32", "uint64", "uint64", "uint8"]


def test_order_of_the_file_and_repetitions_are_kept() -> None:
    text = "9.0.0.1\n1.0.0.0-1.0.0.9\n 8.0.0.1 # x\n::ffff:7.0.0.1\n9.0.0.1\n3.0.0.1 -  3.0.0.2\n6.0.0.0/08\n2.0.0.1\n"
    starts = [pair.split("-")[0] for pair in four(parsed(text))]
    assert starts == ["9.0.0.1", "1.0.0.0", "8.0.0.1", "7.0.0.1", "9.0.0.1", "3.0.0.1", "6.0.0.0", "2.0.0.1"]
    text = "2001:db8:9::\n2001:db8:1::2-2001:db8:1::3\n2001:db8:8::/048\n2001:db8:9::\n"
    assert six(parsed(text)) == ["2001:db8:9::/128", "2001:db8:1::2/127", "2001:db8:8::/48", "2001:db8:9::/128"]


def test_netset_of_firehol() -> None:
    header = "#\n# firehol_level1\n#\n# ipv4 hash:net ipset\n#\n# Maintainer: a, b; c\n# Entries  : 2\n#\n"
    found = parsed(header + "0.0.0.0/8\n1.10.16.0/20\n")
    assert found.format == "plain"
    assert four(found) == ["0.0.0.0-0.255.255.255", "1.10.16.0-1.10.31.255"]
    assert found.notes == []


def test_ends_of_the_number_space() -> None:
    found = parsed(
        "0.0.0.0\n255.255.255.255\n128.0.0.0/1\n0.0.0.0-255.255.255.255\n::/0\n8000::/1\n" + "ffff:" * 7 + "ffff\n"
    )
    assert found.first4.tolist() == [0, 2**32 - 1, 2**31, 0]
    assert found.last4.tolist() == [0, 2**32 - 1, 2**32 - 1, 2**32 - 1]
    assert six(found) == ["::/0", "8000::/1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"]


def test_host_bits_are_cleared_and_counted() -> None:
    found = parsed(
        "192.0.2.1/24\n192.0.2.0/24\n192.0.2.9/08 # x\n2001:db8::1/64\n2001:db8::8000:0:0:1/64\n::ffff:10.1.1.1/104\n"
    )
    assert four(found) == [
        "192.0.2.0-192.0.2.255",
        "192.0.2.0-192.0.2.255",
        "192.0.0.0-192.255.255.255",
        "10.0.0.0-10.255.255.255",
    ]
    assert six(found) == ["2001:db8::/64", "2001:db8::/64"]
    assert found.cleared == 5


def test_mapped_addresses_are_ipv4() -> None:
    found = parsed(
        "::ffff:192.0.2.1\n::ffff:192.0.2.0/120\n::FFFF:c000:201\n::ffff:0:0/96\n::fffe:0:0/95\n::fffe:192.0.2.1\n"
    )
    assert four(found) == [one("192.0.2.1"), "192.0.2.0-192.0.2.255", one("192.0.2.1"), "0.0.0.0-255.255.255.255"]
    assert six(found) == ["::fffe:0:0/95", "::fffe:c000:201/128"]
    found = parsed("::ffff:192.0.2.1-::ffff:192.0.2.6\n::fffe:ffff:ffff-::ffff:0:1\n")
    assert four(found) == ["192.0.2.1-192.0.2.6", "0.0.0.0-0.0.0.1"]
    assert six(found) == ["::fffe:ffff:ffff/128"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("fe80::1%eth0", "zone"),
        ("fe80::%eth0/64", "zone"),
        ("010.1.1.1", "leading zero"),
        ("10.1.1.01/32", "leading zero"),
        ("10.1.1.00", "leading zero"),
        ("256.1.1.1", "above 255"),
        ("1.2.3.999", "above 255"),
        ("1.2.3", "a shortened address"),
        ("1.2.3.4.5", "not an address"),
        ("1.2.3.4.", "not an address"),
        ("www.example.org", "names are not looked up"),
        ("1.2.3.4/33", "prefix length"),
        ("1.2.3.4/", "prefix length"),
        ("1.2.3.4/255.0.255.0", "not a netmask"),
        ("2001:db8::/129", "prefix length"),
        ("2001:db8::/-1", "a range with a prefix"),
        ("1.2.3.4 5.6.7.8", "several addresses on one line"),
        ("1.2.3.0 24", "may be its prefix length"),
        ("1.2.3.4:80", "port"),
        ("[2001:db8::1]", "brackets"),
        ("1.2.3.9-1.2.3.8", "reversed"),
        ("1.2.3.9 - 1.2.3.8", "reversed"),
        ("2001:db8::2-2001:db8::1", "reversed"),
        ("1.2.3.4-2001:db8::1", "family"),
        ("1.2.3.4-", "not an address"),
        ("1.2.3.4-1.2.3.256", "above 255"),
        ("1.2.3.0/24-1.2.4.0", "a range with a prefix"),
        ("64:ff9b::1.2.3.4-1.2.3.8", "family"),
        ("1.2.3.4x # a:9.9.9.8-9.9.9.9", "not an address"),
        ("\uff11.2.3.4", "not an address"),
        ("-", "not an address"),
        (":", "not an address"),
        ("/8", "not an address"),
        ("a" * 4097, "longer than 4096"),
        ("1.2.3.4 #" + "a" * 4097, "longer than 4096"),
    ],
)
def test_faults(line: str, why: str) -> None:
    found = parsed(f"192.0.2.1\n{line}\n192.0.2.2\n")
    assert four(found) == [one("192.0.2.1"), one("192.0.2.2")]
    assert six(found) == []
    assert found.skipped == 1
    (fault,) = found.faults
    assert fault.line == 2
    assert any(part in fault.why for part in why.split("|"))
    assert line.startswith(fault.text.removesuffix("..."))
    assert len(fault.text) <= 60


def test_the_longest_line_that_is_read() -> None:
    assert four(parsed("1.2.3.4 #" + "a" * (4096 - 9) + "\n")) == [one("1.2.3.4")]


def test_no_more_than_twenty_faults_are_kept_and_those_are_the_first() -> None:
    lines = [f"bad{number}" for number in range(1, 100)]
    lines[40] = "x" * 5000  # found earlier than the others of its block
    whatever = Request("plain")
    assert "99 lines are not entries and 1 is" in str(refused("\n".join([*lines, "192.0.2.1"])))
    found = parsed("\n".join([*lines, "192.0.2.1"]), request=whatever)
    assert found.skipped == 99
    assert [fault.line for fault in found.faults] == list(range(1, 21))
    lines[3] = "y" * 5000
    assert [fault.text[:4] for fault in parsed("\n".join([*lines, "192.0.2.1"]), request=whatever).faults[2:5]] == [
        "bad3",
        "yyyy",
        "bad5",
    ]


def test_what_is_shown_of_a_fault_is_fit_for_a_terminal() -> None:
    (fault,) = parsed("192.0.2.1\n\x1b[31m\u202eevil\u2028" + "é" * 100 + "\n").faults
    assert fault.text.isprintable()
    assert fault.text.startswith("\\x1b[31m\\u202eevil")
    assert len(fault.text) == 60


# -- how the bytes arrive


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_ends_of_lines(end: str, last: bool) -> None:
    found = parsed(end.join(["192.0.2.1", "", "nonsense", "2001:db8::1", "192.0.2.2"]) + (end if last else ""))
    assert four(found) == [one("192.0.2.1"), one("192.0.2.2")]
    assert six(found) == ["2001:db8::1/128"]
    assert [fault.line for fault in found.faults] == [3]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("coding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    "text",
    [
        "# a comment, so that this is long enough\r\n\r\n192.0.2.1\r\n\r\nbad\r\n\r\n198.51.100.0/24 # é\r\n",
        'table ip t {\n\tset s {\n\n\t\telements = { 192.0.2.1 comment "} , #",\nbad,\n198.51.100.0/24 }\n\t}\n}\n',
        '{"nftables": [{"set": {\n\n"handle": 123456789,\n\n'
        '"elem": ["192.0.2.1", "bad", {"prefix": {"addr": "198.51.100.0", "len": 24}}]}}]}',
    ],
)
def test_blocks_may_be_cut_anywhere(
    monkeypatch: pytest.MonkeyPatch, size: int, pack: Callable[[bytes], bytes], coding: str, text: str
) -> None:
    data = pack(text.encode(coding))
    # The first block is what a list is known by.
    pieces = [data[:50], *(data[at : at + size] for at in range(50, len(data), size))]
    monkeypatch.setattr(sources, "_raw", lambda _name, _stream: iter(pieces))
    monkeypatch.setattr(sources, "BLOCK", 50)
    found = parsed("")
    assert four(found) == [one("192.0.2.1"), "198.51.100.0-198.51.100.255"]
    assert [(fault.line, fault.text) for fault in found.faults] == [(5, "bad")]


def test_line_numbers_go_on_from_block_to_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "BLOCK", 64)
    lines = ["192.0.2.1"] * 100
    lines[70] = lines[33] = "bad"
    lines[50] = "b" * 5000
    assert [fault.line for fault in parsed("\n".join(lines)).faults] == [34, 51, 71]


@pytest.mark.parametrize("coding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"])
def test_codings(coding: str) -> None:
    mark = "\ufeff" if coding in ("utf-16-le", "utf-16-be") else ""
    found = parsed((mark + "192.0.2.1 # Zürich\n# São Paulo\n2001:db8::/32\n").encode(coding))
    assert four(found) == [one("192.0.2.1")]
    assert six(found) == ["2001:db8::/32"]
    assert found.skipped == 0


def test_a_byte_order_mark_where_two_files_were_joined() -> None:
    assert four(parsed("192.0.2.1\n\ufeff192.0.2.2\n\ufeff198.51.100.0/24 # x\n"))[1:] == [
        one("192.0.2.2"),
        "198.51.100.0-198.51.100.255",
    ]


def test_gzip() -> None:
    text = b"192.0.2.1\n" * 300_000
    assert len(parsed(gzip.compress(text)).first4) == 300_000
    members = gzip.compress(b"192.0.2.1\n") + gzip.compress(b"") + gzip.compress(b"192.0.2.2\n") + bytes(100)
    assert four(parsed(members)) == [one("192.0.2.1"), one("192.0.2.2")]


def test_damaged_gzip() -> None:
    whole = gzip.compress(random.Random(1).randbytes(5000).hex().encode())
    assert "prematurely" in str(refused(whole[:-1]))
    assert "prematurely" in str(refused(whole[:2]))
    assert "prematurely" in str(refused(whole[:1000]))
    assert "corrupt" in str(refused(whole[:1000] + b"xxxx" + whole[1004:]))
    assert "corrupt" in str(refused(whole[:-8] + bytes(8)))
    assert "corrupt" in str(refused(gzip.compress(b"192.0.2.1\n") + b"trailing"))


def test_a_gzip_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LARGEST", 8 << 20)
    assert "8 MiB" in str(refused(gzip.compress(b"192.0.2.1\n" * (1 << 20))))
    assert "8 MiB" in str(refused(gzip.compress(b"#" * (9 << 20))))
    assert "not text" in str(refused(gzip.compress(bytes(9 << 20))))  # before it is unpacked to the end
    assert sources.BLOCK < 8 << 20


def test_the_bound_is_a_gibibyte() -> None:
    assert sources.LARGEST == 1 << 30


@pytest.mark.parametrize(
    "data",
    [
        b"192.0.2.1\n" * 99 + b"\0\n",
        b"\x7fELF\x02\x01\x01\0",
        b"192.0.2.1\n\0",
        bytes(range(1, 32)) * 9,
        random.Random(3).randbytes(400),
    ],
)
def test_what_is_no_text(data: bytes) -> None:
    assert "not text" in str(refused(data))


def test_an_endless_binary_stream_is_given_up_early() -> None:
    class Endless(io.RawIOBase):
        taken = 0

        def read(self, size: int = -1) -> bytes:
            self.taken += size
            return bytes(size)

    stream = Endless()
    with pytest.raises(UsageError, match="not text"):
        read("zero", stream)  # type: ignore[arg-type]
    assert stream.taken <= 4 << 20


def test_a_line_without_end_is_one_fault_and_is_not_kept() -> None:
    class Long(io.RawIOBase):
        left = 100

        def read(self, size: int = -1) -> bytes:
            self.left -= 1
            return b"a" * size if self.left > 0 else b"\n192.0.2.1\n" if self.left == 0 else b""

    held = []

    def watched(*args: object) -> object:
        held.append(len(args[0]))  # type: ignore[arg-type]
        return bounded(*args)  # type: ignore[arg-type]

    bounded = sources._bounded
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "_bounded", watched)
        found = read("long", Long())  # type: ignore[arg-type]
    assert four(found) == [one("192.0.2.1")]
    assert [(fault.line, fault.text[:3]) for fault in found.faults] == [(1, "aaa")]
    assert max(held) < 3 << 20


def test_nothing_in_it() -> None:
    for text in ("", "\n\n", "# only\n; comments\n", "\ufeff", "[]", "null", "\n" * 5000):
        assert "no entries" in str(refused(text))
    assert "no entries" in str(refused(gzip.compress(b"")))
    error = refused("# x\n\nwww.example.org\nother\n")
    assert str(error).startswith("list:3: no entries")
    assert "www.example.org" in str(error)


# -- files


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "any.json"  # the name means nothing
    path.write_bytes(gzip.compress(b"192.0.2.1\n"))
    assert four(read_file(path)) == [one("192.0.2.1")]
    for wrong in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError, match="cannot be read") as caught:
            read_file(wrong)
        assert str(wrong) in str(caught.value)


@pytest.mark.parametrize("how", ["grows", "same size"])
def test_a_file_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    path = tmp_path / "list"
    path.write_text("192.0.2.1\n")
    os.utime(path, ns=(1, 1))

    def meddled(*args: object) -> Parsed:
        found = read(*args)  # type: ignore[arg-type]
        path.write_text("192.0.2.2\n" * (2 if how == "grows" else 1))
        if how == "grows":
            os.utime(path, ns=(1, 1))
        return found

    monkeypatch.setattr(formats, "read", meddled)
    with pytest.raises(UsageError, match="changed while it was read"):
        read_file(path)


# -- ranges


def test_ranges() -> None:
    found = parsed("1.2.3.4-1.2.3.8\n1.2.3.4 - 1.2.4.1 # x\n1.2.3.4\t-\t1.2.3.4\n10.0.0.0/8\n2001:db8::1-2001:db8::4\n")
    assert found.format == "ranges"
    assert four(found) == ["1.2.3.4-1.2.3.8", "1.2.3.4-1.2.4.1", one("1.2.3.4"), "10.0.0.0-10.255.255.255"]
    assert six(found) == ["2001:db8::1/128", "2001:db8::2/127", "2001:db8::4/128"]


def test_named_ranges() -> None:
    lines = ["# comment:9.9.9.1-9.9.9.2", "Some name:1.2.3.4-1.2.3.8", "A: B - C, 10.0.0.1 (x):2.2.3.4 - 2.2.3.8 "]
    lines += ["No; 1 #2:3.2.3.4-3.2.3.8", "Reversed:1.2.3.9-1.2.3.8", "bad name:1.2.3.4"]
    found = parsed("\n".join(lines))
    assert found.format == "ranges"
    assert four(found) == ["1.2.3.4-1.2.3.8", "2.2.3.4-2.2.3.8", "3.2.3.4-3.2.3.8"]
    assert [fault.line for fault in found.faults] == [5, 6]


@given(st.integers(0, 2**128 - 1), st.integers(0, 2**70))
@example(0, 2**128 - 1)
@example(0, 0)
def test_ipv6_ranges_are_the_fewest_prefixes(first: int, size: int) -> None:
    last = min(first + size, 2**128 - 1)
    ends = ipaddress.IPv6Address(first), ipaddress.IPv6Address(last)
    mapped = range(0xFFFF << 32, (0xFFFF << 32) + 2**32)
    if first in mapped or last in mapped:
        return
    expected = [str(network) for network in ipaddress.summarize_address_range(*ends)]
    assert six(parsed(f"{ends[0]}-{ends[1]}\n")) == expected


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("::1-::ffff:0.0.0.9", (["0.0.0.0-0.0.0.9"], "::1", "::fffe:ffff:ffff")),
        ("::ffff:9.9.9.9-::1:0:0:7", (["9.9.9.9-255.255.255.255"], "::1:0:0:0", "::1:0:0:7")),
        ("::fffe:0:1-::ffff:255.255.255.255", (["0.0.0.0-255.255.255.255"], "::fffe:0:1", "::fffe:ffff:ffff")),
        ("::fffe:0:0-::ffff:255.255.255.255", ([], "::fffe:0:0", "::ffff:ffff:ffff")),
    ],
)
def test_ranges_over_the_edge_of_the_mapped_addresses(text: str, parts: tuple[list[str], str, str]) -> None:
    found = parsed(f"{text}\n")
    assert four(found) == parts[0]
    ends = ipaddress.IPv6Address(parts[1]), ipaddress.IPv6Address(parts[2])
    assert six(found) == [str(it) for it in ipaddress.summarize_address_range(*ends)]


def test_a_range_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe\n" * 10
    assert parsed(text).given == 10
    monkeypatch.setattr(collector, "MOST", 9)
    assert "more than 9 entries" in str(refused(text))


# -- columns


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize(
    "name", ["ip", "IP Address", "address", "ip_address", "network", "CIDR", "prefix", "range", "value", "src_ip"]
)
def test_a_column_by_name(mark: str, quote: str, name: str) -> None:
    rows = [["seen by", name, "port"], ["10.0.0.1", "192.0.2.1", "80"], ["10.0.0.1", " 198.51.100.0/24 ", "1"]]
    text = "\n".join(mark.join(quote + cell + quote for cell in row) for row in rows)
    found = parsed(text)
    assert found.format == "csv"
    assert four(found) == [one("192.0.2.1"), "198.51.100.0-198.51.100.255"]
    assert found.skipped == 0
    assert "column 2" in found.reading


def test_the_likelier_column_of_two() -> None:
    assert four(parsed("dst_ip,ip\n10.0.0.1,192.0.2.1\n10.0.0.1,192.0.2.2\n")) == [one("192.0.2.1"), one("192.0.2.2")]
    assert four(parsed("ip,address\nhost,192.0.2.1\nname,192.0.2.2\n")) == [one("192.0.2.1"), one("192.0.2.2")]


@pytest.mark.parametrize("header", ["", "Zeit,Wer,Was\n", "# time,ip,what\n", "#\n# Terms, of use\n"])
def test_a_column_by_content(header: str) -> None:
    text = f'{header}2024-01-01 00:00:00,192.0.2.1,"a, 9.9.9.9"\n\n# x\n; y, z\n2024-01-01 00:00:01,2001:db8::/32,"b"\n'
    found = parsed(text)
    assert found.format == "csv"
    assert four(found) == [one("192.0.2.1")]
    assert six(found) == ["2001:db8::/32"]
    assert found.skipped == 0


def test_a_comment_that_is_the_header() -> None:
    found = parsed("# Terms of use\n# peer,ip,port\n10.0.0.2,192.0.2.1,1\n10.0.0.1,192.0.2.2,2\n")
    assert four(found) == [one("192.0.2.1"), one("192.0.2.2")]
    assert found.skipped == 0


def test_one_column_and_a_header() -> None:
    for header in ("ip", '"ip"', "IP,"):
        found = parsed(f"{header}\n192.0.2.1\n192.0.2.2\n")
        assert (found.format, len(found.first4), found.skipped) == ("csv", 2, 0)


def test_the_first_column_and_words_after_it() -> None:
    assert four(parsed("192.0.2.1,spam,US\n192.0.2.2,scan\n")) == [one("192.0.2.1"), one("192.0.2.2")]


def test_rows_without_an_address_are_faults() -> None:
    found = parsed(
        'when,ip\n1,192.0.2.1\n2,\n3\n4,host\n5,"192.0.2.2\n6,192.0.2.3\n7,1.2.3.4:80\n8,192.0.2.4\n9,192.0.2.5\n'
    )
    assert four(found) == [one(f"192.0.2.{last}") for last in (1, 2, 3, 4, 5)]
    assert [(fault.line, fault.text) for fault in found.faults] == [(3, ""), (4, ""), (5, "host"), (8, "1.2.3.4:80")]


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("start_ip,end_ip,country", ["1.0.0.0,1.0.0.9,AU", "9.9.9.9,9.9.9.9,US"]),
        ("country,ip_from,ip_to", ["AU,16777216,16777225", "US,151587081,151587081"]),
        ("id\tstart\tend", ["1\t1.0.0.0\t1.0.0.9", "2\t9.9.9.9\t9.9.9.9"]),
        ("", ["1.0.0.0,1.0.0.9,AU", "9.9.9.9,9.9.9.9,US"]),
        ("von,bis", ["1.0.0.0,1.0.0.9", "9.9.9.9,9.9.9.9"]),
        ("", ["1.0.0.0;1.0.0.9", "9.9.9.9;9.9.9.9"]),
        ("", ['"16777216","16777225","AU"', '"151587081","151587081","US"']),
    ],
)
def test_a_pair_of_columns(header: str, rows: list[str]) -> None:
    found = parsed("\n".join([header, *rows]))
    assert found.format == "csv"
    assert four(found) == ["1.0.0.0-1.0.0.9", one("9.9.9.9")]
    assert found.skipped == 0


def test_integers_beyond_ipv4() -> None:
    first = int(ipaddress.IPv6Address("2001:db8::"))
    mapped = int(ipaddress.IPv6Address("::ffff:1.0.0.0"))
    found = parsed(f"ip_from,ip_to\n{mapped},{mapped + 9}\n{first},{first + 2**96 - 1}\n{2**128},{2**128}\n9,1\n")
    assert four(found) == ["1.0.0.0-1.0.0.9"]
    assert six(found) == ["2001:db8::/32"]
    assert found.skipped == 2


def test_times_are_not_ranges() -> None:
    found = parsed("ip,start,end\n192.0.2.1,1700000000,1700000100\n192.0.2.2,1700000000,1700000900\n")
    assert four(found) == [one("192.0.2.1"), one("192.0.2.2")]
    assert "no entries" in str(refused("1,1700000000\n2,1700000001\n"))


@pytest.mark.parametrize(
    "text", ["1.2.3.4,9.9.9.9\n9.9.9.9,1.1.1.1\n", "1.2.3.4,5.6.7.8\n", "1.1.1.1,9.9.9.9\n2.2.2.2,8.8.8.8\n"]
)
def test_two_columns_of_hosts_are_not_taken_for_ranges(text: str) -> None:
    error = refused(text)
    assert "columns 1, 2" in str(error)
    assert four(parsed("src_ip,dst_ip\n" + text))[0] in (one("1.2.3.4"), one("1.1.1.1"))


# -- Spamhaus


def test_spamhaus_text() -> None:
    found = parsed(
        "; Spamhaus DROP List 2024/01/01 - (c) 2024\n; Last-Modified\n1.10.16.0/20 ; SBL256894\n2001:db8::/32 ; SBL1\n"
    )
    assert found.format == "spamhaus"
    assert four(found) == ["1.10.16.0-1.10.31.255"]
    assert six(found) == ["2001:db8::/32"]


def test_spamhaus_json() -> None:
    lines = [
        '{"cidr":"1.10.16.0/20","sblid":"SBL256894","rir":"apnic"}',
        '{"sblid": "SBL1", "cidr": "2001:db8::/32"}',
        '{"sblid": "SBL2"}',
        "[" * 2000,
        '{"cidr": "host"}',
        '{"type":"metadata","timestamp":1700000000,"size":2,"copyright":"(c) 2024"}',
    ]
    found = parsed("\n".join(lines) + "\n")
    assert found.format == "spamhaus"
    assert four(found) == ["1.10.16.0-1.10.31.255"]
    assert six(found) == ["2001:db8::/32"]
    assert [fault.line for fault in found.faults] == [3, 4, 5]
    assert found.skipped == 3
    assert parsed('{"type":"metadata","size":1}\n{"cidr":"1.2.3.4/32"}\n').format == "spamhaus"


# -- nftables

RULESET = """\
table inet t {
    set bl {
        type ipv4_addr
        flags interval,timeout
        counter
        elements = { 1.2.3.4 counter packets 0 bytes 0 timeout 1d expires 9s6ms, 10.0.0.0/8 comment "a, } b",
                 11.0.0.5-11.0.0.9 counter packets 0 bytes 0, 12.1.1.1 counter packets 0 bytes 0,
                 host.example.org, 14.1.1.1 }
    }

    set b6 {
        typeof ip6 saddr
        flags interval
        elements = { 2001:db8::/32,
                 2001:db9::5-2001:db9::6 }
    }

    set pairs {
        type ipv4_addr . inet_service
        elements = { 1.2.3.4 . 80, 1.2.3.4 . 81 }
    }

    set ports {
        type inet_service
        elements = { 80, 443 }
    }

    set everything {
        type ipv4_addr
        elements = { 4.4.4.4, * }
    }

    map m {
        type ipv4_addr : verdict
        elements = { 5.5.5.5 : drop }
    }

    chain c {
        type filter hook input priority filter; policy accept;
        ip saddr { 6.6.6.6, 7.7.7.7 } drop
        ip saddr @bl drop # elements = { 8.8.8.8 }
    }
}
"""
RULESET4 = [
    one("1.2.3.4"),
    "10.0.0.0-10.255.255.255",
    "11.0.0.5-11.0.0.9",
    one("12.1.1.1"),
    one("14.1.1.1"),
    one("4.4.4.4"),
]
RULESET_NOTES = {
    "left out: elements with a port or another part (2)",
    "left out: elements of type inet_service (2)",
    "left out: catch-all elements (*) (1)",
    "left out: elements of maps (1)",
    "entries of 3 sets: bl, b6, everything",
}
RULED = "addresses in rules, or elsewhere outside sets, not taken: 1 line: 40"


def test_ruleset() -> None:
    found = parsed(RULESET)
    assert found.format == "nftables"
    assert four(found) == RULESET4
    assert six(found) == ["2001:db8::/32", "2001:db9::5/128", "2001:db9::6/128"]
    assert [(fault.line, fault.text) for fault in found.faults] == [(8, "host.example.org")]
    assert without_ends(found) == {*RULESET_NOTES, RULED}


@pytest.mark.parametrize("size", [1, 5, 64, 100])
def test_ruleset_in_small_blocks(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    whole = parsed(RULESET)
    # What the format is known by has to be in the first one; the rest comes in pieces.
    text = RULESET.encode()
    pieces = [text[:16], *(text[at : at + size] for at in range(16, len(text), size))]
    monkeypatch.setattr(sources, "text", lambda _name, _stream: iter(pieces))
    found = parsed("")
    assert four(found) == four(whole)
    assert six(found) == six(whole)
    assert found.faults == whole.faults
    assert sorted(found.notes) == sorted(whole.notes)


@pytest.mark.parametrize(
    "text",
    [
        "set bl {\n type ipv4_addr\n elements = { 1.2.3.4,\n 1.2.3.5 }\n}\n",
        "elements = { 1.2.3.4, 1.2.3.5, }",
        "#!/usr/sbin/nft -f\n\nflush ruleset\nadd table inet t\nadd element inet t bl { 1.2.3.4, 1.2.3.5 }\n",
        "create element t bl { 1.2.3.4 timeout 1h }\nadd element t bl { 1.2.3.5 }",
        "define bad = { 1.2.3.4, # x, y\n 1.2.3.5 }\n",
        "table ip t { set bl { type ipv4_addr; flags interval; elements = { 1.2.3.4, 1.2.3.5 }; } ; }",
    ],
)
def test_other_nft_texts(text: str) -> None:
    found = parsed(text)
    assert (found.format, four(found), found.skipped) == ("nftables", [one("1.2.3.4"), one("1.2.3.5")], 0)


def test_elements_with_a_port_in_a_set_of_unknown_type() -> None:
    found = parsed("add element t s { 1.2.3.4 . 80, 1.2.3.5 }")
    assert (four(found), found.skipped) == ([one("1.2.3.5")], 0)
    assert found.notes == ["left out: elements with a port or another part (1)"]


def test_nft_elements_on_one_line_of_megabytes() -> None:
    numbers = range(300_000)
    text = "add element inet t bl { " + ", ".join(str(ipaddress.IPv4Address(number)) for number in numbers) + " }\n"
    found = parsed(text)
    assert found.first4.tolist() == list(numbers)
    assert found.skipped == 0


def test_nft_text_that_ends_too_early_or_never_says_anything() -> None:
    found = parsed("table ip t {\n set s {\n elements = { 1.2.3.4,\n 1.2.3")
    assert four(found) == [one("1.2.3.4")]
    assert [fault.why for fault in found.faults][1] == "the file ends in the middle of the elements"
    found = parsed("elements = { 1.2.3.4, " + "x" * (3 << 20) + ", 1.2.3.5 }")
    assert four(found)[0] == one("1.2.3.4")
    assert "too long" in found.faults[0].why


def test_nft_json() -> None:
    ruleset = {
        "nftables": [
            {"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
            {"rule": {"expr": [{"match": {"right": {"set": ["6.6.6.6"]}}}, {"drop": None}]}},
            {
                "set": {
                    **{"family": "inet", "name": "bl", "type": "ipv4_addr", "handle": 2, "flags": ["interval"]},
                    "elem": [
                        {"elem": {"val": "1.2.3.4", "timeout": 86400, "counter": {"packets": 0, "bytes": 0}}},
                        {"elem": {"val": {"prefix": {"addr": "10.0.0.0", "len": 8}}, "comment": "a, } b"}},
                        {"range": ["11.0.0.5", "11.0.0.9"]},
                        "12.1.1.1",
                        "host.example.org",
                        {"prefix": {"addr": "12.1.1.1"}},
                        "14.1.1.1",
                    ],
                    "stmt": [{"counter": None}],
                }
            },
            {"set": {"name": "b6", "type": "ipv6_addr", "elem": [{"prefix": {"addr": "2001:db8::", "len": 32}}]}},
            {
                "set": {
                    "name": "pairs",
                    "type": ["ipv4_addr", "inet_service"],
                    "elem": [{"concat": ["1.2.3.4", 80]}] * 2,
                }
            },
            {"set": {"name": "ports", "type": "inet_service", "elem": [80, 443]}},
            {"add": {"set": {"name": "everything", "type": "ipv4_addr", "elem": ["4.4.4.4", "*"]}}},
            {"map": {"name": "m", "type": "ipv4_addr", "map": "verdict", "elem": [["5.5.5.5", {"drop": None}]]}},
        ]
    }
    for text in (json.dumps(ruleset), json.dumps(ruleset, indent=2)):
        found = parsed(text)
        assert found.format == "nftables"
        assert four(found) == RULESET4
        assert six(found) == ["2001:db8::/32"]
        assert sorted(fault.text for fault in found.faults) == ["host.example.org", "{...}"]
        assert found.skipped == 2
        notes = without_ends(found)
        assert any(note.startswith("addresses in rules") for note in notes)
        assert {note for note in notes if not note.startswith("addresses in rules")} == RULESET_NOTES


def test_lines_are_counted_in_json() -> None:
    text = '{"nftables":[\n{"set":{\n"type":"ipv4_addr","elem":[\n"1.2.3.4",\n\n"bad",\n"1.2.3.5"]}}]}'
    assert [(fault.line, fault.text) for fault in parsed(text).faults] == [(6, "bad")]


# -- ipset


def test_ipset() -> None:
    text = """\
create a hash:ip family inet hashsize 1024 maxelem 65536 timeout 100 comment bucketsize 12 initval 0xd556fb81
add a 1.2.3.4 timeout 99 comment "nomatch, x"
create n hash:net family inet hashsize 1024 maxelem 65536
add n 10.1.0.0/16 nomatch
add n 10.0.0.0/8
create p hash:ip,port family inet
add p 1.1.1.1,tcp:80
create m hash:ip family inet hashsize 1024 maxelem 65536 netmask 24 bucketsize 12
add m 1.2.3.0
create b bitmap:ip range 192.168.0.0-192.168.0.255
add b 192.168.0.5
create s hash:net family inet6
add s 2001:db8::/32
create l list:set size 8
add l a
create mac hash:mac
add mac 01:02:03:04:05:06
create odd hash:ip bitmask 255.0.255.0
add odd 1.0.2.0
"""
    found = parsed(text)
    assert found.format == "ipset"
    assert four(found) == [
        *(one("1.2.3.4"), "1.2.3.0-1.2.3.255", one("192.168.0.5")),
        *("10.0.0.0-10.0.255.255", "10.2.0.0-10.255.255.255"),
    ]
    assert found.given == 5
    assert six(found) == ["2001:db8::/32"]
    assert found.skipped == 0
    assert found.ending == 1
    assert without_ends(found) == {
        "left out: exceptions (nomatch) (1)",
        "exceptions: 1, kept out of the entries that hold it",
        "left out: entries with a port or another part (1)",
        "left out: entries of type list:set (1)",
        "left out: entries of type hash:mac (1)",
        "left out: entries of sets with a bitmask (1)",
        "entries of 5 sets: a, n, m, b, s",
    }


def test_ipset_without_its_first_lines() -> None:
    found = parsed("add bl 1.2.3.4\nadd bl 1.2.3.5,80\nadd bl 1.2.3.6-1.2.3.7 -exist\nadd bl host\nwhat is this\n")
    assert four(found) == [one("1.2.3.4"), "1.2.3.6-1.2.3.7"]
    assert [fault.line for fault in found.faults] == [4, 5]
    assert found.notes == ["left out: entries with a port or another part (1)"]


# -- CrowdSec


def decision(value: str, **other: object) -> dict[str, object]:
    return {
        **{"duration": "3h59m", "id": 1, "origin": "CAPI", "scenario": "x", "scope": "Ip", "simulated": False},
        **{"type": "ban", "value": value, **other},
    }


DECISIONS = [
    decision("192.0.2.1"),
    decision("198.51.100.0/24", scope="Range"),
    decision("192.0.2.2", type="captcha"),
    decision("192.0.2.3", duration="-1h2m"),
    decision("192.0.2.4", simulated=True),
    decision("CN", scope="Country"),
    decision("2001:db8::1"),
    decision("host"),
]
DECISION_NOTES = {
    "left out: decisions of type captcha (1)",
    "left out: expired decisions (1)",
    "left out: simulated decisions (1)",
    "left out: decisions for scope Country (1)",
}


@pytest.mark.parametrize(
    "document",
    [
        [{"id": 1, "source": {"scope": "Ip", "value": "9.9.9.9"}, "events": [{}], "decisions": DECISIONS}],
        [
            {"decisions": DECISIONS[:4]},
            {"decisions": None},
            {"decisions": []},
            {"decisions": DECISIONS[4:], "scope": "x"},
        ],
        DECISIONS,
        {"new": DECISIONS, "deleted": [decision("9.9.9.9")]},
    ],
)
def test_crowdsec_json(document: object) -> None:
    for text in (json.dumps(document), json.dumps(document, indent=1)):
        found = parsed(text)
        assert found.format == "crowdsec"
        assert four(found) == [one("192.0.2.1"), "198.51.100.0-198.51.100.255"]
        assert six(found) == ["2001:db8::1/128"]
        assert [fault.text for fault in found.faults] == ["host"]
        assert without_ends(found) == DECISION_NOTES


def test_crowdsec_raw() -> None:
    header = "id,source,ip,reason,action,country,as,events_count,expiration,simulated,alert_id\n"
    rows = [
        f'{number},crowdsec,{made["scope"]}:{made["value"]},"a, b",{made["type"]},US,"64496 ""A"", Inc",1,'
        f"{made['duration']},{str(made['simulated']).lower()},7"
        for number, made in enumerate(DECISIONS)
    ]
    found = parsed(header + "\n".join(rows) + "\n")
    assert found.format == "crowdsec"
    assert four(found) == [one("192.0.2.1"), "198.51.100.0-198.51.100.255"]
    assert six(found) == ["2001:db8::1/128"]
    assert [(fault.line, fault.text) for fault in found.faults] == [(9, "host")]
    assert without_ends(found) == DECISION_NOTES


def test_crowdsec_import() -> None:
    rows = ["24h,ip,192.0.2.1,ban", "24h,range,198.51.100.0/24,", "24h,as,1234,ban", "24h,ip,9.9.9.9,captcha"]
    found = parsed("duration,scope,value,type\n" + "\n".join(rows))
    assert found.format == "crowdsec"
    assert four(found) == [one("192.0.2.1"), "198.51.100.0-198.51.100.255"]
    assert len(without_ends(found)) == 2
    assert found.ending == 2


def test_decisions_that_ban_nobody() -> None:
    error = refused(json.dumps([{"decisions": [decision("192.0.2.1", type="captcha")]}]))
    assert "no entries; left out: decisions of type captcha (1)" in str(error)


# -- JSON that is something else


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"a":' * 200_000,
        '[{"decisions":[{"value":' + "[" * 200_000,
        '[{"decisions":[{"value":' + "[" * 200_000 + "]" * 200_000 + "}]}]",
        '{"nftables":[{"set":{"elem":[' + '{"elem":' * 200_000,
        '{"nftables": [{"set": {"elem": ["1.2.3.4", ',
        '{"nftables": [{"set": {"elem": ["1.2.3.4"}]}',
        '{"nftables": [{"set": {"elem": ["1.2.3.4"]}}]} x',
        '{"nftables": [{"set": {"elem": ["' + "x" * (3 << 20),
        '{"nftables": [{"set": {"elem": [1' + "0" * 10_000 + "]}}]}",
        '{"nftables": [{"set" {}}]}',
        '{"nftables": [{"set": {"elem": ["1.2.3.4"],}}]}',
        '["192.0.2.1"]',
        '{"prefixes": [{"ip_prefix": "192.0.2.0/24"}]}',
    ],
)
def test_json_that_is_not_a_list(text: str) -> None:
    refused(text)


def test_a_value_without_end_is_given_up_early() -> None:
    def endless() -> Iterator[bytes]:
        yield b'{"nftables": [{"set": {"elem": ["'
        for _ in range(9):
            yield b"x" * sources.BLOCK
        raise AssertionError("nine blocks of one string")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "text", lambda _name, _stream: endless())
        assert "enormous value" in str(refused(""))


def test_what_is_passed_in_json_may_be_of_any_size_and_depth() -> None:
    deep = "[" * 500_000 + '"]", {}' + "]" * 500_000
    wide = '{"set": [' + ",".join(['"9.9.9.9"'] * 300_000) + "]}"
    found = parsed(f'{{"nftables": [{{"rule": {deep}}}, {{"rule": {wide}}}, {{"set": {{"elem": ["1.2.3.4"]}}}}]}}')
    assert four(found) == [one("1.2.3.4")]


def test_strings_with_line_feeds_are_one_entry() -> None:
    found = parsed(json.dumps([decision("192.0.2.1\n192.0.2.2"), decision(""), decision("\0"), decision("192.0.2.3")]))
    assert four(found) == [one("192.0.2.3")]
    assert found.skipped == 3


# -- the fast way, the slow way, and ipaddress

ADDRESSES = st.one_of(
    st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address),
    st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address),
    st.integers(0, 2**16 - 1).map(lambda number: ipaddress.IPv6Address(number << 112)),
).map(str)
LENGTHS = st.one_of(st.just(""), st.integers(0, 140).map(lambda length: f"/{length}"))
GOOD = st.builds(lambda address, length: address + length, ADDRESSES, LENGTHS)
RANGES = st.builds(
    lambda first, mark, last: first + mark + last, ADDRESSES, st.sampled_from(["-", " - ", "\t-"]), ADDRESSES
)
NOISE = st.text(st.sampled_from("0123456789abf.:/-%#; \tx"), max_size=24)
NEAR = st.builds(
    lambda text, at, extra: text[: at % (len(text) + 1)] + extra + text[(at + len(extra)) % (len(text) + 1) :],
    st.one_of(GOOD, RANGES),
    st.integers(0, 60),
    st.sampled_from(["", "0", "9", ".", ":", "/", "-", " ", "%1", "#", "é"]),
)
DRESSED = st.builds(
    lambda before, text, after: before + text + after,
    st.sampled_from(["", " ", "\t", "Name:", "a - b:", "\ufeff"]),
    st.one_of(GOOD, RANGES),
    st.sampled_from(["", " ", "\t# x", ";y", " # a:1.2.3.4-1.2.3.5", " x"]),
)
LINES = st.lists(st.one_of(GOOD, RANGES, NOISE, NEAR, DRESSED), min_size=1, max_size=30)


@settings(max_examples=300, deadline=None)
@given(LINES)
@example(["::ffff:1.2.3.4/96", "::ffff:1.2.3.4/95", "::ffff:1.2.3.4/128"])
@example(["1.2.3.4/32", "1.2.3.4/032", "1.2.3.4/33", "1.2.3.4/0", "1.2.3.4/00", "1.2.3.4/0000"])
@example(["", ".", "...", "1...", ".../", "1.2.3./", "1.2.3.4/", "/1.2.3.4", "-", "1.2.3.4-", "-1.2.3.4"])
@example(["a:b:1.2.3.4-1.2.3.5", "::1.2.3.4-1.2.3.5", "x:1.2.3.4-1.2.3.5", "x: 1.2.3.4-1.2.3.5 ", "#:1.2.3.4-1.2.3.5"])
@example(["1.2.3.4 5", "1.2.3.4 /5", "1.2.3.4/ 5", "1. 2.3.4", "1.2.3.4 - 1.2.3.5 - 1.2.3.6"])
def test_fast_and_slow_agree(lines: list[str]) -> None:
    text = "".join(line + "\n" for line in lines).encode()
    fast, slow = collector.Collector("list"), collector.Collector("list")
    fast.block(text, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collector, "solve", everything_open)
        slow.block(text, 1)
    one_way, other = fast.parsed("plain"), slow.parsed("plain")
    assert four(one_way) == four(other)
    assert six(one_way) == six(other)
    assert one_way[6:10] == other[6:10]


def everything_open(text: bytes) -> tuple[blocks.Lines, blocks.Six, list[tuple[int, bytes]]]:
    """Leaves every line to `entry`."""
    found = blocks.Lines(text)
    found.state[:] = blocks.OPEN
    found.cleared[:] = False
    return found, blocks.Six.none(), list(enumerate(text.split(b"\n")[:-1]))


def test_most_lines_take_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def watched(line: str, now: float) -> Meaning:
        seen.append(line)
        return meaning(line, now)

    monkeypatch.setattr(collector, "meaning", watched)
    fast = ["1.2.3.4", "1.2.3.0/24", "1.2.3.4-1.2.3.5", "1.2.3.4 - 1.2.3.5", " 1.2.3.4", "1.2.3.4 # x", "2001:db8::/32"]
    fast += ["2001:db8::1", "::ffff:1.2.3.4", "# x", "Name:1.2.3.4-1.2.3.5", "2001:db8::/33 # x", "1.2.3.0/24;x"]
    made = collector.Collector("list")
    made.block(("\n".join([*fast, "name", *fast, "fe80::1%1", *fast]) + "\n").encode(), 1)
    assert seen == ["name", "fe80::1%1"]
    assert len(made.parsed("plain").first4) == 3 * 9


def strict(line: str) -> bool:
    """Whether a line is an entry and a comment behind # or ;, and nothing that `lines` makes out of others."""
    return meaning(line, 0.0).entry is None or (isinstance(entry(line), Entry) and not meaning(line, 0.0).remark)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(GOOD, NOISE, NEAR), min_size=1, max_size=30))
def test_agrees_with_ipaddress(lines: list[str]) -> None:
    expected4: list[str] = []
    expected6: list[str] = []
    cleared = 0
    for line in lines:
        bare = line.split("#")[0].split(";")[0].strip()
        if "-" in bare or "%" in bare or not strict(line):
            continue
        address, slash, bits = bare.partition("/")
        try:
            interface = ipaddress.ip_interface(bare)
        except ValueError:
            continue
        if slash and not (bits.isdecimal() and len(bits) <= 3) and not bits.startswith(("255", "128")):
            continue  # a wildcard mask
        network = interface.network
        if isinstance(interface.ip, ipaddress.IPv6Address) and interface.ip.ipv4_mapped and network.prefixlen < 96:
            continue  # a length that is IPv4's
        if network.network_address != interface.ip and network.prefixlen < (8 if network.version == 4 else 16):
            continue
        cleared += network.network_address != ipaddress.ip_address(address)
        number, length = int(network.network_address), network.prefixlen
        if network.version == 6 and length >= 96 and number >> 32 == 0xFFFF:
            network = ipaddress.IPv4Network((number & 0xFFFF_FFFF, length - 96))
        if network.version == 4:
            expected4.append(f"{network[0]}-{network[-1]}")
        else:
            expected6.append(str(network))
    made = collector.Collector("list")
    kept = [line for line in lines if "-" not in line.split("#")[0].split(";")[0] and strict(line)]
    made.block("".join(line + "\n" for line in kept).encode(), 1)
    found = made.parsed("plain")
    assert four(found) == expected4
    assert six(found) == expected6
    assert found.cleared == cleared
    blank = sum(not line.split("#")[0].split(";")[0].split("//")[0].strip() for line in kept)
    assert found.skipped == len(kept) - blank - len(expected4) - len(expected6)


def test_a_large_mix_against_ipaddress() -> None:
    chance = random.Random(7)
    lines: list[str] = []
    expected: list[int] = []
    for number in range(120_000):
        if number % 1000 == 7:
            lines.append(chance.choice(["# comment", "", "bad.example.org", "1.2.3.4.5"]))
        first = chance.getrandbits(32)
        lines.append(str(ipaddress.IPv4Address(first)) + chance.choice(["", "/32", " # x"]))
        expected.append(first)
    found = parsed("\n".join(lines))
    assert found.first4.tolist() == expected
    assert found.last4.tolist() == expected
    assert found.skipped == sum(line in ("bad.example.org", "1.2.3.4.5") for line in lines)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
@example(b"{")
@example(b'{"')
@example(b"[{")
@example(b"\xff\xfe")
@example(b"\xff\xfea")
@example(b"\x1f\x8b")
@example(b'"')
@example(b'ip,"\n')
@example(b"elements = {")
@example(b"add a b")
def test_whatever_is_read_nothing_but_a_usage_error_comes_out(data: bytes) -> None:
    try:
        found = parsed(data)
    except UsageError as error:
        assert str(error).isprintable()
        return
    assert len(found.first4) + len(found.length6) > 0


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from('{}[]",:;#=\n\t 0123456789.-/abc'), max_size=200), st.sampled_from(range(8)))
def test_texts_that_begin_like_a_format(text: str, kind: int) -> None:
    beginnings = [
        "elements = {",
        '{"nftables": [',
        '[{"decisions": [',
        "create a hash:ip\nadd a ",
        "ip,b\n",
        '{"cidr": "',
    ]
    try:
        parsed([*beginnings, "id;ip\n", "table ip t {\n"][kind] + text)
    except UsageError as error:
        assert str(error).isprintable()
