# SPDX-License-Identifier: GPL-2.0
"""The words of filters on the wire: the program counts for each text what the language means, as nft does.

test_filters_nft compares the same texts, and the same kind of packets, with nftables.
"""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Sequence
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.command import Command
from support.expressions import conjunctions, texts
from support.matching import Sample, matches, sample
from support.traffic import eventually
from topology import INTERFACE, SERVER_MAC, Lab

from xdpguard.net.netns import entered
from xdpguard.policy.matching.error import MatchError
from xdpguard.policy.matching.model import Field
from xdpguard.policy.matching.parsing import parse

PACKETS = 400
ATTEMPTS = 3  # the kernel sends packets of its own now and then, and these are counted as well
FLAGS = (2, 4, 0x10, 0x11, 0x12, 0x14, 0x18)  # combinations that are no reason to drop a packet before filters
NEIGHBOURS = 135  # solicitations pass before filters


def packets(seed: int) -> list[Sample]:
    chosen = random.Random(seed)
    made = (sample(chosen, number, FLAGS) for number in range(PACKETS))
    to_server = bytes.fromhex(SERVER_MAC.replace(":", ""))
    return [it._replace(frame=to_server + it.frame[6:]) for it in made if it.fields.get(Field.ICMP_TYPE) != NEIGHBOURS]


def compare(command: Command, lab: Lab, tmp_path: Path, matching: Sequence[str], seed: int) -> None:
    """Assert that filters that count have counted what their texts mean."""
    filters = {f"f{at}": text for at, text in enumerate(matching)} | {"all": "meta nfproto { ipv4, ipv6 }"}
    file = tmp_path / "filters.toml"
    table = '[[filters]]\nname = "{}"\nmatch = {}\naction = "count"\n'
    file.write_text("\n".join(table.format(name, json.dumps(text)) for name, text in filters.items()))
    sent = packets(seed)
    for _ in range(ATTEMPTS):
        command.ok("import", str(file))
        send(lab, sent)
        assert eventually(lambda: counted(command)["all"] >= len(sent)), "positive control: all come to the filters"
        found = counted(command)
        command.ok("filter", "remove", *filters)
        if found["all"] == len(sent):
            break
    expected = {name: sum(matches(parse(text), it) for it in sent) for name, text in filters.items()}
    assert {filters[it]: found[it] for it in filters} == {filters[it]: expected[it] for it in filters}


def send(lab: Lab, sent: Sequence[Sample]) -> None:
    with entered(lab.outside), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((INTERFACE, 0))
        for it in sent:
            wire.send(it.frame)


def counted(command: Command) -> dict[str, int]:
    return {it["name"]: it["packets"] for it in command.json("filter", "list")}


def test_texts_count_the_packets_that_they_mean(attached: Command, lab: Lab, tmp_path: Path) -> None:
    compare(attached, lab, tmp_path, texts(), 1)


def can_match(text: str) -> bool:
    try:
        parse(text)
    except MatchError:
        return False
    return True


def test_random_conjunctions_count_the_packets_that_they_mean(attached: Command, lab: Lab, tmp_path: Path) -> None:
    @settings(max_examples=3, phases=(Phase.generate,), suppress_health_check=list(HealthCheck))
    @given(st.lists(conjunctions().filter(can_match), min_size=60, max_size=60), st.integers(0, 1000))
    def one(matching: list[str], seed: int) -> None:
        compare(attached, lab, tmp_path, matching, seed)

    one()
