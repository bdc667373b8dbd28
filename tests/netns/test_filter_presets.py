# SPDX-License-Identifier: GPL-2.0
"""Every ready-made filter, enforced, on real traffic: what it is for is dropped, what is beside it is not."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from support.command import Command, on
from support.matching import UDP, Sample, matches
from support.presets import CASES
from support.traffic import eventually
from topology import INTERFACE, Lab

from xdpguard.net.netns import entered
from xdpguard.policy.matching.model import Field
from xdpguard.policy.matching.parsing import parse
from xdpguard.policy.presets.catalogue import GROUPS, PRESETS
from xdpguard.policy.presets.preset import Preset

DROPS = [it for it in PRESETS if it.action == "drop"]
LIMITS = [it for it in PRESETS if it.action == "limit"]
PORT = 50000  # to which packets without a port of their own go


def samples(names: Sequence[str], part: int) -> list[Sample]:
    """What presets are for (0), or honest packets beside that (1), of no socket: for those see test_filter_traffic."""
    return [it for name in names for it in CASES[name][part] if not it.fields.get(Field.ESTABLISHED)]


def deciding(sample: Sample) -> str | None:
    """The first of the presets that drops a packet, asked one after the other."""
    return next((it.name for it in DROPS if matches(parse(it.text), sample)), None)


def send(lab: Lab, chosen: Sequence[Sample]) -> None:
    with entered(lab.outside), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((INTERFACE, 0))
        for it in chosen:
            wire.send(it.frame)


def told(command: Command) -> dict[str, Any]:
    return {it["name"]: it for it in command.json("filter", "list")}


def dropped(command: Command, reason: str) -> int:
    found: int = on(command.json("stats"), INTERFACE)["reasons"][reason]["packets"]
    return found


@pytest.fixture
def got(lab: Lab) -> Iterator[socket.socket]:
    """A socket of the server, for the datagrams that its stack gets."""
    with entered(lab.server):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("0.0.0.0", PORT))
    with made:
        made.setblocking(False)
        yield made


def reaching(chosen: Sequence[Sample]) -> list[Sample]:
    """Datagrams that the stack takes: whole, and of IPv4, where a checksum of zero is valid."""
    wanted = {Field.VERSION: 4, Field.PROTOCOL: UDP, Field.FRAGMENT: 0, Field.DPORT: PORT}
    return [it for it in chosen if wanted.items() <= it.fields.items()]


def received(got: socket.socket) -> Counter[int]:
    """The source ports of the datagrams that have come."""
    found: Counter[int] = Counter()
    while True:
        try:
            found[got.recvfrom(65536)[1][1]] += 1
        except BlockingIOError:
            return found


def ports(chosen: Sequence[Sample]) -> Counter[int]:
    return Counter(it.fields[Field.SPORT] for it in chosen)


def test_each_preset_that_drops_does_so_once_it_is_promoted(attached: Command, lab: Lab, got: socket.socket) -> None:
    names = [it.name for it in DROPS]
    floods, honest = samples(names, 0), samples(names, 1)
    attached.ok("filter", "presets", *names, "--add")
    attached.ok("filter", "add", "rest", "meta nfproto { ipv4, ipv6 }", "--count")
    send(lab, [*floods, *honest])
    assert eventually(lambda: told(attached)["rest"]["packets"] == len(floods) + len(honest))
    assert dropped(attached, "filter") == 0
    seen: Counter[int] = Counter()

    def arrived(wanted: Counter[int]) -> bool:
        seen.update(received(got))
        return seen == wanted

    everything = ports(reaching([*floods, *honest]))
    assert eventually(lambda: arrived(everything)), "positive control: in shadow, all of it reaches the socket"
    attached.ok("promote", *(word for name in names for word in ("--filter", name)))
    before = told(attached)["rest"]["packets"]
    send(lab, [*floods, *honest])
    by_filter = Counter(deciding(it) for it in (*floods, *honest))
    passed = by_filter.pop(None)
    assert by_filter.keys() == set(names)
    assert all(deciding(it) for it in floods)
    assert passed >= len(honest) // 2
    assert eventually(lambda: told(attached)["rest"]["packets"] == before + passed)
    found = told(attached)
    assert {name: found[name]["packets"] for name in names} == by_filter
    assert dropped(attached, "filter") == by_filter.total()
    seen.clear()
    assert eventually(lambda: arrived(ports(reaching([it for it in honest if not deciding(it)]))))


@pytest.mark.parametrize("its", LIMITS, ids=[it.name for it in LIMITS])
def test_each_preset_that_limits_drops_what_is_above(attached: Command, lab: Lab, its: Preset) -> None:
    rate = int(its.rate.removesuffix("/s"))
    attached.ok("filter", "presets", its.name, "--add")
    flood, honest = samples([its.name], 0)[:1] * (3 * rate), samples([its.name], 1)
    send(lab, flood)
    assert eventually(lambda: told(attached)[its.name]["packets"] == len(flood))
    assert dropped(attached, "filter_limit") == 0, "positive control: in shadow, nothing is dropped"
    attached.ok("promote", "--filter", its.name)
    began = time.monotonic()
    send(lab, [*flood, *honest])
    took = time.monotonic() - began
    assert eventually(lambda: told(attached)[its.name]["packets"] == len(flood)), "the honest ones do not match"
    above = told(attached)[its.name]["limited_packets"]
    assert dropped(attached, "filter_limit") == above
    # A burst is a second's packets, and there are more in as long as sending takes.
    assert len(flood) - rate * (1.1 + took) - 2 <= above <= len(flood) - rate * 0.9


def test_groups_are_added_once_and_hold_their_sources(attached: Command) -> None:
    attached.ok("filter", "presets", "ntp", "--add", "--enforce")
    said = attached.ok("filter", "presets", "amplification", "--add")
    assert "filter ntp: there already, enforced" in said
    assert "filter ssdp: in shadow, counting what it would drop: udp sport 1900" in said
    found = told(attached)
    assert set(found) == {it.name for it in GROUPS["amplification"]}
    assert {name for name, its in found.items() if its["mode"] == "enforce"} == {"ntp"}
    assert {name: its["reason"] for name, its in found.items()} == {
        it.name: f"preset, {it.source}" for it in GROUPS["amplification"]
    }
    assert "promote --filter ssdp" in attached.refused(1, "filter", "presets", "ssdp", "--add", "--enforce")
    attached.ok("filter", "add", "gre", "ip protocol gre ip ttl 5", "--drop")
    assert "there is another filter gre already" in attached.refused(1, "filter", "presets", "stray", "--add")
    assert "port-0" not in told(attached), "all of a group, or none"
    assert "leave out one" in attached.refused(2, "filter", "presets", "tcp", "--add", "--json")
    assert {it["group"] for it in attached.json("filter", "presets", "tcp", "icmp")} == {"tcp", "icmp"}
