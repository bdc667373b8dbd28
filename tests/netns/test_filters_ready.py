# SPDX-License-Identifier: GPL-2.0
"""Ready-made filters, and those of FlowSpec rules, on real traffic."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from support.command import Command, on
from support.matching import UDP, Sample, matches, packet
from support.presets import CASES, udp
from support.traffic import eventually
from topology import INTERFACE, Lab

from xdpguard.net.netns import entered
from xdpguard.policy.matching.model import Field
from xdpguard.policy.matching.parsing import parse
from xdpguard.policy.presets.catalogue import PRESETS


def send(lab: Lab, samples: list[Sample]) -> None:
    with entered(lab.outside), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((INTERFACE, 0))
        for it in samples:
            wire.send(it.frame)


def counted(command: Command) -> dict[str, int]:
    """How many packets each filter has matched."""
    return {it["name"]: it["packets"] for it in command.json("filter", "list")}


def dropped(command: Command) -> int:
    found: int = on(command.json("stats"), INTERFACE)["reasons"]["filter"]["packets"]
    return found


def test_each_preset_counts_what_it_is_for_and_nothing_honest(attached: Command, lab: Lab) -> None:
    attached.ok("filter", "presets", *(it.name for it in PRESETS), "--add")
    attached.ok("filter", "add", "all", "meta nfproto { ipv4, ipv6 }", "--count")
    # Of sockets that are there, see test_filter_traffic: these packets have none.
    samples = [it for both in CASES.values() for part in both for it in part if not it.fields.get(Field.ESTABLISHED)]
    expected = {it.name: sum(matches(parse(it.text), one) for one in samples) for it in PRESETS}
    assert min(expected.values()) > 0
    send(lab, samples)
    assert eventually(lambda: counted(attached)["all"] >= len(samples)), "positive control: all packets arrive"
    found = counted(attached)
    assert {name: found[name] for name in expected} == expected
    assert dropped(attached) == 0, "a preset is in shadow first"


def test_a_preset_drops_once_it_is_promoted(attached: Command, lab: Lab) -> None:
    flood, honest = CASES["dns"]
    attached.ok("filter", "presets", "dns", "--add")
    send(lab, flood)
    assert eventually(lambda: counted(attached)["dns"] == len(flood))
    assert dropped(attached) == 0
    attached.ok("promote", "--filter", "dns")
    send(lab, [*flood, *honest])
    assert eventually(lambda: counted(attached)["dns"] == len(flood))
    assert dropped(attached) == len(flood)
    attached.ok("filter", "remove", "dns")
    attached.ok("filter", "presets", "ssdp", "--add", "--enforce")
    assert attached.json("filter", "show", "ssdp")["mode"] == "enforce"


def test_what_is_known_of_presets(command: Command) -> None:
    known: Any = command.json("filter", "presets")
    assert [it["name"] for it in known] == [it.name for it in PRESETS]
    assert "CVE-2013-5211, CERT/CC VU#348126" in command.ok("filter", "presets", "ntp")
    assert "did you mean memcached?" in command.refused(2, "filter", "presets", "memcache")
    assert "--add without a name" in command.refused(2, "filter", "presets", "--add")
    assert "go with --add" in command.refused(2, "filter", "presets", "dns", "--enforce")


@pytest.mark.parametrize("form", ["gobgp", "exabgp"])
def test_rules_of_a_filter_are_read_back_and_drop_the_same(
    attached: Command, lab: Lab, tmp_path: Path, form: str
) -> None:
    attached.ok("filter", "add", "x", "udp sport 53 meta length > 512", "--drop")
    rules = tmp_path / "rules"
    rules.write_text(attached.ok("filter", "show", "x", "--flowspec", "--form", form))
    attached.ok("filter", "remove", "x")
    send(lab, [udp(53, 900)])
    said = attached.ok("filter", "import", "--flowspec", str(rules))
    assert "2 filters of" in said
    assert dropped(attached) == 0
    send(lab, [udp(53, 900), udp(53, 900, 6), udp(53, 100), packet(UDP, bytes(900))])
    assert eventually(lambda: dropped(attached) == 2)
    assert sorted(counted(attached).values()) == [1, 1]


def test_rules_that_are_refused_change_nothing(command: Command, tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    add = "gobgp global rib -a ipv4-flowspec add match protocol"
    rules.write_text(f"{add} udp then discard\n{add} tcp then redirect 10:10\n")
    refused = command.refused(2, "filter", "import", "--flowspec", str(rules))
    assert "line 2: the action 'redirect' has no meaning here" in refused
    assert command.json("filter", "list") == []
    assert "give --flowspec" in command.refused(2, "filter", "import", str(rules))
    assert "cannot be read" in command.refused(2, "filter", "import", "--flowspec", str(tmp_path / "none"))
    command.ok("filter", "add", "x", "ip ttl 5", "--drop")
    assert "x: FlowSpec cannot say ip ttl" in command.refused(1, "filter", "show", "x", "--flowspec")
    command.ok("filter", "add", "y", "ip protocol gre", "--limit", "1000/s")
    assert "GoBGP has no words for a limit in packets" in command.refused(1, "filter", "show", "y", "--flowspec")
    rules.write_text(command.ok("filter", "show", "y", "--flowspec", "--form", "exabgp"))
    command.ok("filter", "import", "--flowspec", str(rules), "--shadow", "--for", "1h", "--replace")
    its = command.json("filter", "show", "y")
    assert (its["action"], its["limit"]["rate"], its["mode"], its["reason"]) == (
        "limit",
        "1000/s",
        "shadow",
        "flowspec",
    )
    assert its["expires"]
