# SPDX-License-Identifier: GPL-2.0
"""Only the host's own destinations are answered for: those of its local routing table."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from support.command import Command
from support.field import (
    HOST4,
    HOST_MAC,
    INTERFACE,
    NETWORK,
    OUTSIDE4,
    OUTSIDE_MAC,
    PORT,
    Field,
    reasons,
    shown,
    watching,
)
from support.traffic import eventually

from xdpguard.dataplane.tables import guard
from xdpguard.net import locals as destinations
from xdpguard.policy.target import Prefix, parse_prefix

VIP4 = "198.51.100.9"


@pytest.fixture
def field() -> Iterator[Field]:
    with Field(f"xglo{os.getpid()}") as made:
        made.run(made.outside, f"ip route add 198.51.100.0/24 via {HOST4}")
        yield made


@pytest.fixture
def always(field: Field, command: Command) -> Command:
    command.ok("attach", INTERFACE, "--netns", field.host)
    command.ok("guard", "set", "mode=always")
    return command


def syn(destination: str = HOST4, source: str = OUTSIDE4) -> bytes:
    """An initial SYN to the host's address on the link."""
    ether = Ether(src=OUTSIDE_MAC, dst=HOST_MAC)
    return bytes(ether / IP(src=source, dst=destination) / TCP(sport=4000, dport=PORT, flags="S"))


def answers(field: Field, command: Command, destination: str = HOST4, source: str = OUTSIDE4) -> bool:
    """Whether the guard answers such a SYN."""
    before = reasons(command)["cookie_sent"]
    field.send(syn(destination, source))
    return reasons(command)["cookie_sent"] > before


def prefix(text: str) -> Prefix:
    return parse_prefix(text)[0]


def test_the_local_table_is_read(field: Field) -> None:
    """All of it but multicast, of both IP versions; anycast as what is not answered."""
    for line in (
        "ip route add local 203.0.113.0/25 dev lo",
        f"ip -6 address add 2001:db8:1::1/64 dev {INTERFACE} nodad",
        "sysctl -qw net.ipv6.conf.all.forwarding=1",
    ):
        field.run(field.host, line)
    found = destinations.read(field.host)
    expected = {HOST4: 1, f"{NETWORK}.255": 2, "203.0.113.0/25": 1, "127.0.0.0/8": 1, "::1": 1, "2001:db8:1::1": 1}
    assert {str(it): found[it] for it in map(prefix, expected)} == expected
    assert found[prefix("2001:db8:1::")] == guard.BROADCAST, "the anycast address of the subnet's routers"
    assert not any(it.version == 6 and it.network[0] == 0xFF for it in found)
    count = 0
    for family in ("-4", "-6"):
        lines = field.run(field.host, f"ip {family} route show table local").splitlines()
        count += sum(not line.startswith("multicast") for line in lines)
    assert len(found) == count


def test_a_namespace_without_addresses_has_none_to_answer_for(field: Field) -> None:
    """An empty mapping would mean every address."""
    bare = f"{field.name}-bare"
    subprocess.run(["ip", "netns", "add", bare], check=True)
    try:
        assert destinations.read(bare) == {prefix("127.0.0.0/8"): guard.LOCAL}
    finally:
        subprocess.run(["ip", "netns", "del", bare], check=True)


def test_only_local_destinations_are_answered(field: Field, always: Command) -> None:
    """Forwarding is off, and a listener has every address: what is not the host's own is not its listener's."""
    with field.serving():
        assert answers(field, always), "positive control"
        assert not answers(field, always, VIP4)
        assert not answers(field, always, f"{NETWORK}.255"), "broadcast"
        assert not answers(field, always, source=f"{NETWORK}.255"), "an answer to everybody"
        assert field.connects()


def test_addresses_that_come_and_go(field: Field, always: Command) -> None:
    """A VIP, and a whole network by AnyIP, while `run` follows."""
    with watching(always), field.serving():
        assert not answers(field, always, VIP4)
        field.run(field.host, f"ip address add {VIP4}/32 dev lo")
        assert eventually(lambda: answers(field, always, VIP4), 30)
        assert field.connects(VIP4)
        field.run(field.host, f"ip address del {VIP4}/32 dev lo")
        assert eventually(lambda: not answers(field, always, VIP4), 30), "it has moved away"
        field.run(field.host, "ip route add local 198.51.100.0/24 dev lo")
        assert eventually(lambda: answers(field, always, VIP4), 30)
        assert field.connects("198.51.100.77")


def test_more_than_the_tables_take(field: Field, always: Command) -> None:
    """Then every destination counts as local, and that is said."""
    lines = "".join(f"route add local 100.64.{n // 256}.{n % 256}/32 dev lo\n" for n in range(16_384))
    field.run(field.host, "ip -batch -", lines)
    always.ok("guard", "set", "mode=always")
    state = shown(always)
    assert any("16,384" in note and "every destination counts as local" in note for note in state["notes"])
    assert "every destination counts as local" in always.ok("guard", "show")
    with field.serving():
        assert answers(field, always, VIP4)
        field.run(field.host, "ip -batch -", lines.replace("add", "del"))
        always.ok("guard", "set", "mode=always")
        assert shown(always)["notes"] == []
        assert not answers(field, always, VIP4)
