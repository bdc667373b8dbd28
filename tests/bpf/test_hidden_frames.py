# SPDX-License-Identifier: GPL-2.0
"""Frames that carry IP behind something the program does not look into: no rule reaches them."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from support.bench import Bench

SOURCE = "198.51.100.7"
INNER = bytes(IP(src=SOURCE, dst="203.0.113.1") / UDP(sport=1, dport=2) / Raw(bytes(8)))
IN_FRONT = {
    "macsec": (0x88E5, bytes(14)),
    "hsr": (0x892F, bytes(4) + b"\x08\x00"),
    "batman-adv": (0x4305, bytes(24)),
    "pppoe": (0x8864, b"\x11\x00\x00\x01\x00\x26\x00\x21"),
    "mpls": (0x8847, b"\x00\x01\x01\x40"),
    "dsa-edsa": (0xDADA, bytes(6) + b"\x08\x00"),
    "dsa-brcm": (0x2000, b"\x00\x01\x08\x00"),
}


def frame(kind: int, rest: bytes) -> bytes:
    return bytes(Ether(src="02:00:00:00:00:02", dst="02:00:00:00:00:01", type=kind)) + rest


@pytest.mark.parametrize("name", IN_FRONT)
def test_what_stands_in_front_of_the_ip_header_hides_it(bench: Bench, name: str) -> None:
    bench.rule("block", SOURCE)
    kind, header = IN_FRONT[name]
    assert bench.send(frame(kind, header + INNER)).reason == "non_ip"
    assert bench.send(frame(0x0800, INNER)).reason == "deny", "positive control"


@pytest.mark.parametrize("trailer", [b"\x00\x01\xa0\x34\x88\xfb", b"\x05"], ids=["prp", "dsa-ksz"])
def test_what_stands_behind_does_not(bench: Bench, trailer: bytes) -> None:
    whole = frame(0x0800, INNER + trailer)
    assert bench.send(whole).reason == "pass"
    bench.rule("block", SOURCE)
    assert bench.send(whole).reason == "deny"
