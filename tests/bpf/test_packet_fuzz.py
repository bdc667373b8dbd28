# SPDX-License-Identifier: GPL-2.0
"""100,000 packets of every kind against the oracle; and if one of both is wrong, the other sees it."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw
from scapy.utils import PcapWriter
from support import fuzzing, oracle
from support.bench import one_cpu
from support.corpus import frames_of
from support.fuzzing import FRAMES, POLICIES, Asked, Difference, Fuzz
from support.mutation import Frames, consistent, joined, split

ROUNDS = {"plain": (1, 2, 3, 4), "observe": (5, 6), "unchecked": (7, 8, 9)}
ETHER = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
REASONS = {"pass", "allow", "non_ip", "malformed", "deny", "closed_port", "fragment", "filter", "filter_limit"}


@contextmanager
def fuzz(variant: str = "plain", edit: Callable[[str], str] | None = None) -> Iterator[Fuzz]:
    with one_cpu(), Fuzz(variant, edit) as made:
        yield made


@pytest.mark.parametrize("variant", ROUNDS)
@pytest.mark.timeout(600)
def test_program_and_oracle_agree(variant: str, capsys: pytest.CaptureFixture[str]) -> None:
    seeds = list(ROUNDS[variant])
    if variant == "plain":
        seeds.append(int.from_bytes(os.urandom(4), "big"))
        with capsys.disabled():
            print(f"\npacket_fuzz --seed {seeds[-1]}")
    with fuzz(variant) as its:
        packets = sum(its.round(seed) for seed in seeds)
    assert packets == len(seeds) * FRAMES * POLICIES
    assert set(its.reasons) == REASONS | (set() if variant == "unchecked" else {"bad_flags", "bad_source"})
    assert len(its.shapes) > 250


def test_the_rounds_are_a_hundred_thousand_packets() -> None:
    assert (sum(map(len, ROUNDS.values())) + 1) * FRAMES * POLICIES == 100_000


WRONG = {
    "bound of the chain": ("#define XG_MAX_EXTENSIONS 8", "#define XG_MAX_EXTENSIONS 7"),
    "reason": (
        "return packet->needed ? XG_NEXT : XG_REASON_allow;",
        "return packet->needed ? XG_NEXT : XG_REASON_pass;",
    ),
    "bytes of a rule": ("row->bytes += packet->length;", "row->bytes += packet->length + 1;"),
    "a filter's field": ("= ip->tos >> 2;", "= ip->tos >> 3;"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_program_that_is_wrong_is_seen(name: str) -> None:
    right, wrong = WRONG[name]

    def edit(text: str) -> str:
        assert right in text
        return text.replace(right, wrong)

    with fuzz(edit=edit) as its, pytest.raises(Difference) as caught:
        for seed in range(1, 5):
            its.round(seed)
    assert "in force:" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        (oracle, "_MAX_EXTENSIONS", 7),
        (oracle, "_OTHER_EXTENSIONS", {135, 139}),
        (oracle, "bad_flags", lambda flags: flags & 0x17 not in {0x02, 0x12, 0x04, 0x14, 0x10}),
        (fuzzing, "_DROPPING", {"malformed", "deny", "closed_port", "filter", "bad_flags", "bad_source"}),
    ],
    ids=["bound of the chain", "kinds of extensions", "flags", "verdict"],
)
def test_an_oracle_that_is_wrong_is_seen(
    monkeypatch: pytest.MonkeyPatch, place: object, name: str, value: object
) -> None:
    monkeypatch.setattr(place, name, value)
    with fuzz() as its, pytest.raises(Difference, match="the oracle says"):
        for seed in range(1, 5):
            its.round(seed)


CHAIN = IPv6(src="2001:db8::7") / IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment(m=1)
FRAMES_OF_SCAPY: list[Packet] = [
    ETHER / IP(src="192.0.2.1", options=[b"\x94\x04\x00\x00"]) / TCP(options=[("MSS", 1460)]) / Raw(b"x"),
    ETHER / Dot1AD(vlan=5) / Dot1Q(vlan=7) / CHAIN / UDP(sport=53) / Raw(b"answer"),
]


@pytest.mark.parametrize(("packet", "headers"), list(zip(FRAMES_OF_SCAPY, (3, 7), strict=True)), ids=["ipv4", "ipv6"])
def test_a_frame_is_split_into_its_headers_and_joined_again(packet: Packet, headers: int) -> None:
    frame = bytes(packet)
    parts = split(frame)
    assert joined(parts) == joined(consistent(parts)) == frame
    assert len(parts) == headers + 1  # and the payload


def test_a_corpus_is_begun_from_and_added_to(tmp_path: Path) -> None:
    odd = bytes(ETHER / IP(ihl=15)) + bytes(9)
    with PcapWriter(str(tmp_path / "a.pcap")) as writer:
        for packet in FRAMES_OF_SCAPY:
            writer.write(packet)
    (tmp_path / "b.frame").write_bytes(odd)
    corpus = frames_of(tmp_path)
    assert corpus == [*map(bytes, FRAMES_OF_SCAPY), odd]
    kept: list[bytes] = []
    with fuzz() as its:
        its.run([Asked(frame, oracle.dissect(frame)) for frame in corpus], 1)
        its.round(1, corpus, kept.append)
    known = {oracle.dissect(frame).shape for frame in corpus}
    shapes = [oracle.dissect(frame).shape for frame in kept]
    assert len(shapes) > 100
    assert not known & set(shapes)
    assert len(set(shapes)) == len(shapes), "one of each kind"


def test_the_same_seed_is_the_same_packets() -> None:
    def drawn(seed: int) -> list[bytes]:
        frames = Frames(random.Random(seed))
        return [frames.draw() for _ in range(50)]

    assert drawn(1) == drawn(1) != drawn(2)
