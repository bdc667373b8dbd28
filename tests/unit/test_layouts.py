# SPDX-License-Identifier: GPL-2.0
"""What is derived from the declaration of a struct that C and Python share: no kernel needed."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from xdpguard.dataplane.build.assertions import LAYOUTS, asserted, assertions
from xdpguard.dataplane.build.bundle import bundle
from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.sys.layouts import counts, filters, guard, rules, tcp
from xdpguard.dataplane.sys.layouts.arrays import dtype
from xdpguard.dataplane.sys.layouts.base import (
    Layout,
    c_name,
    fields,
    octets,
    packer,
    padding,
    places,
    u8,
    u16,
    u32,
    u64,
)
from xdpguard.dataplane.tables.guard import State


class Inner(Layout):
    _fields_ = (("a", u16), ("b", u16))


class Whole(Layout):
    _fields_ = (
        ("number", u64),
        ("inner", Inner),
        ("many", Inner * 2),
        ("name", octets(3)),
        ("small", u8),
        ("hole", padding(4)),
        ("words", u32 * 3),
    )


class Gap(Layout):
    _fields_ = (("small", u8), ("large", u32))


def test_a_packer_has_the_fields_in_order() -> None:
    made = packer(Whole)
    assert made.size == ctypes.sizeof(Whole)
    values = (1, 2, 3, 4, 5, 6, 7, b"abc", 8, 9, 10, 11)
    packed = made.pack(*values)
    assert made.unpack(packed) == values
    read = Whole.from_buffer_copy(packed)
    assert (read.number, read.inner.b, read.many[1].a, bytes(read.name), read.small) == (1, 3, 6, b"abc", 8)
    assert list(read.words) == [9, 10, 11]
    assert list(places(Whole).values()) == [0, 1, 3, 7, 8, 9, 9]


def test_a_layout_has_no_gaps() -> None:
    with pytest.raises(TypeError, match="Gap has gaps: 5 of 8 bytes"):
        packer(Gap)


def test_a_dtype_reads_what_a_packer_has_written() -> None:
    kind = dtype(counts.Tuple4, source=">u4", destination_port=">u2")
    raw = abi.TUPLE4.pack(b"\x01\x02\x03\x04", b"\x05\x06\x07\x08", b"\x00\x50", b"\x01\xbb", 3, 4, 5)
    row = np.frombuffer(raw, kind)[0]
    assert (row["source"], row["destination_port"], row["cpu"], row["syns"], row["syns_elsewhere"]) == (
        0x01020304,
        443,
        3,
        4,
        5,
    )
    assert bytes(row["destination"]) == b"\x05\x06\x07\x08"


def test_a_dtype_has_the_fields_of_a_struct_within_it() -> None:
    kind = dtype(tcp.Transition)
    assert kind.itemsize == ctypes.sizeof(tcp.Transition)
    assert kind.fields is not None
    assert kind.fields["netns"][1] == tcp.Transition.ends.offset + tcp.Ends.netns.offset
    assert kind.names is not None
    assert kind.names[3:8] == ("local", "remote", "local_port", "remote_port", "netns")


@pytest.mark.parametrize(("formats", "words"), [({"source": ">u8"}, "not of the size"), ({"x": "u1"}, "no field x")])
def test_a_dtype_refuses_formats_that_do_not_fit(formats: dict[str, str], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        dtype(counts.Tuple4, **formats)


def test_names_in_c() -> None:
    assert c_name(guard.GuardPolicy) == "xg_guard_policy"
    assert c_name(counts.Source4) == "xg_source4"


def test_every_layout_is_asserted_in_some_program() -> None:
    declared = {
        it
        for module in (rules, filters, counts, guard, tcp)
        for it in vars(module).values()
        if isinstance(it, type) and issubclass(it, Layout) and it is not Layout
    }
    assert declared == {it for found in LAYOUTS.values() for it in found}


@pytest.mark.parametrize("main", LAYOUTS)
def test_a_program_ends_with_its_assertions(main: str) -> None:
    assert assertions(main).count("_Static_assert") >= 3
    assert bundle(main=main).endswith(assertions(main))


def test_sizes_offsets_and_numbers_are_asserted() -> None:
    lines = asserted([rules.Hits], {"XG_LISTS": 1024}).splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "_Static_assert(sizeof(struct xg_hits) == 16",
        "_Static_assert(__builtin_offsetof(struct xg_hits",
        "_Static_assert(sizeof(((struct xg_hits *)0)->packets) == 8",
        "_Static_assert(__builtin_offsetof(struct xg_hits",
        "_Static_assert(sizeof(((struct xg_hits *)0)->bytes) == 8",
        "_Static_assert(XG_LISTS == 1024",
    ]
    assert "bytes) == 8, " in lines[3]


def test_the_guards_state_names_the_fields_of_its_layout() -> None:
    assert State._fields == tuple(field.name for field in fields(guard.Guard))
