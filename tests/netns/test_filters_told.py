# SPDX-License-Identifier: GPL-2.0
"""What is told of filters on real traffic: replay, explain, capture, metrics, top, rules."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from netns.test_drop_captures import packets
from netns.test_replay import ETHER, send, v4
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw
from support.captures import pcap
from support.command import Command
from support.following import Following
from support.scrape import watched
from support.traffic import eventually
from topology import SERVER4, SERVER6, Lab

FIRST, SECOND, SIX = "198.51.100.7", "203.0.113.9", "2001:db8:77::7"
MS = 1_000_000  # ns
BEGIN = 1_700_000_000_000 * MS


def dns(source: str, size: int) -> bytes:
    """A datagram from port 53 with so many bytes of payload."""
    to: Any = IPv6(src=source, dst=SERVER6) if ":" in source else IP(src=source, dst=SERVER4)
    return bytes(ETHER / to / UDP(sport=53, dport=4000) / Raw(bytes(size)))


# Name, match, and the rest; in this order.
FILTERS = (
    ("seen", "udp sport 53", "action = 'count'"),
    ("maybe", "udp sport 53 meta length > 900", "action = 'drop'\nshadow = true"),
    ("long", "udp sport 53 meta length > 512", "action = 'drop'\nreason = 'amplified'"),
    ("few", "udp sport 53", "limit = '10/s'\nburst = '5'"),
    ("web", "tcp dport 80", "action = 'pass'"),
)
CONFIG = "".join(f"[[filters]]\nname = '{name}'\nmatch = '{match}'\n{rest}\n" for name, match, rest in FILTERS)
LONG = [dns(FIRST, 600), dns(SECOND, 600), dns(SECOND, 1000), dns(SIX, 600)]
SHORT = [dns(FIRST, 100)] * 40
OTHERS = [v4(FIRST), v4(SECOND, flags="S"), v4(FIRST, dport=81)]


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "filters.toml"
    path.write_text(CONFIG)
    return str(path)


def write(tmp_path: Path, frames: Sequence[bytes], gap: int = 50 * MS, name: str = "a.pcap") -> str:
    """A capture whose packets are so far apart (ns)."""
    path = tmp_path / name
    path.write_bytes(pcap(frames, nano=True, times=[BEGIN + gap * number for number in range(len(frames))]))
    return str(path)


def above(count: int, gap: int, cost: int, burst: int) -> int:
    """How many of so many packets a token bucket drops; all in ns."""
    due = dropped = 0
    for now in range(0, count * gap, gap):
        if max(due, now) + cost - now > burst:
            dropped += 1
        else:
            due = max(due, now) + cost
    return dropped


def by_name(found: Any) -> dict[str, Any]:
    return {it["name"]: it for it in found["filters"]}


def apply(command: Command) -> None:
    """Adds the same filters by hand."""
    for name, match, _ in FILTERS[:3]:
        what = {"seen": ["--count"], "maybe": ["--drop", "--shadow"], "long": ["--drop", "--reason", "amplified"]}[name]
        command.ok("filter", "add", name, match, *what)


def test_a_set_of_filters_is_tested_before_anything_is_attached(command: Command, config: str, tmp_path: Path) -> None:
    """Who would lose, and by which filter; limits as in the capture's own time."""
    found = command.json("replay", write(tmp_path, [*LONG, *SHORT, *OTHERS]), "--config", config)
    its = by_name(found)
    assert list(its) == [name for name, _, _ in FILTERS], "in their order"
    assert {name: it["packets"] for name, it in its.items()} == {
        "seen": 44, "maybe": 1, "long": 4, "few": 40, "web": 2,
    }  # fmt: skip
    dropped = above(40, 50 * MS, 100 * MS, 500 * MS)
    assert its["few"]["limited_packets"] == dropped
    assert its["few"]["limited_bytes"] == dropped * len(SHORT[0])
    assert (its["few"]["action"], its["maybe"]["mode"]) == ("limit 10/s burst 5", "shadow")
    assert {(it["source"], it["packets"]) for it in its["long"]["sources"]} == {(FIRST, 1), (SECOND, 2), (SIX, 1)}
    assert its["few"]["sources"] == [{"source": FIRST, "packets": dropped}]
    assert its["maybe"]["sources"] == [{"source": SECOND, "packets": 1}]
    assert its["web"]["sources"] == its["seen"]["sources"] == []
    reasons = {name: it["packets"] for name, it in found["reasons"].items() if it["packets"]}
    assert reasons == {"filter": 4, "filter_limit": dropped, "pass": 40 - dropped + 3}
    text = command.ok("replay", write(tmp_path, [*LONG, *SHORT]), "--config", config)
    assert f"{SECOND} (2)" in next(line for line in text.splitlines() if line.strip().startswith("long "))


def test_limits_go_by_the_times_of_the_capture(command: Command, config: str, tmp_path: Path) -> None:
    """At the rate nothing is lost, all at once only the burst passes."""
    for gap in (100 * MS, 99 * MS, 50 * MS, 0):
        found = command.json("replay", write(tmp_path, SHORT, gap), "--config", config)
        lost = above(40, gap, 100 * MS, 500 * MS) if gap else 35
        assert by_name(found)["few"]["limited_packets"] == lost, gap
        assert found["reasons"]["filter_limit"]["packets"] == lost


def test_an_expectation_names_the_filter(command: Command, config: str, tmp_path: Path) -> None:
    file = write(tmp_path, [*SHORT[:2], *LONG])
    refused = command.refused(1, "replay", file, "--config", config, "--expect-pass")
    assert "packet 3 is dropped (filter long); no packet should be dropped; 4 of 6 fail" in refused
    found = command("replay", file, "--config", config, "--expect-pass", "--json")
    assert found.code == 1
    command.ok("replay", write(tmp_path, SHORT[:5]), "--config", config, "--expect-pass")
    command.ok("replay", write(tmp_path, LONG), "--config", config, "--expect-drop")


def test_what_another_set_would_change(attached: Command, config: str, tmp_path: Path) -> None:
    """Compared with what is in force, whose limits go by the capture as well."""
    attached.ok("filter", "add", "mine", f"ip saddr {FIRST} udp sport 53 meta length > 512", "--drop")
    attached.ok("filter", "add", "slow", "udp sport 53 meta length < 512", "--limit", "10/s", "--burst", "5", "--force")
    found = attached.json("replay", write(tmp_path, [*LONG, *SHORT]), "--config", config, "--diff")
    changes = {
        (it["before"], it["filter_before"], it["after"], it["filter_after"]): it["packets"]
        for it in found["diff"]["changes"]
    }
    assert changes == {("pass", None, "filter", "long"): 3}
    assert {it["name"]: it["packets"] for it in found["diff"]["before"]["filters"]} == {"mine": 1, "slow": 40}
    text = attached.ok("replay", write(tmp_path, LONG), "--config", config, "--diff")
    assert "filter long (DROP)" in text


def test_replayed_as_on_the_wire(attached: Command, lab: Lab, tmp_path: Path) -> None:
    """The same packets, asked about and sent; asking counts nothing."""
    apply(attached)
    frames = [*LONG, *SHORT[:7], *OTHERS]
    said = by_name(attached.json("replay", write(tmp_path, frames)))
    before = {it["name"]: it["packets"] for it in attached.json("filter", "list")}
    assert before == dict.fromkeys(("seen", "maybe", "long"), 0)
    send(lab, frames)
    assert eventually(lambda: attached.json("filter", "show", "seen")["packets"] == 11)
    done = {it["name"]: it for it in attached.json("filter", "list")}
    assert {name: (it["packets"], it["bytes"]) for name, it in done.items()} == {
        name: (it["packets"], it["bytes"]) for name, it in said.items()
    }


def test_explain_tells_of_a_filter_in_shadow_and_of_those_that_count(attached: Command, lab: Lab) -> None:
    del lab
    packet = f"udp {FIRST}:53 > {SERVER4}:4000 len={{}}"
    assert attached.json("explain", packet.format(1000))["filters"] == [], "positive control"
    apply(attached)
    found = attached.json("explain", packet.format(1000))
    assert (found["decided_by"]["filter"], found["filters"]) == ("long", ["seen", "maybe", "long"])
    assert (found["shadow_filter"]["filter"], found["without"]["verdict"]) == ("maybe", "PASS")
    attached.ok("filter", "remove", "long")
    found = attached.json("explain", packet.format(1000))
    assert (found["verdict"], found["decided_by"], found["shadow_filter"]["filter"]) == ("PASS", None, "maybe")
    text = attached.ok("explain", packet.format(1000))
    assert "shadow    would be dropped if promoted: the filter maybe: drop udp sport 53 meta length > 900" in text
    assert "matches   seen, which lets it go on" in text
    found = attached.json("explain", packet.format(100))
    assert (found["shadow_filter"], found["filters"]) == (None, ["seen"])
    attached.ok("filter", "add", "pass", "udp sport 53", "--pass")
    found = attached.json("explain", packet.format(100))
    assert (found["verdict"], found["stage"], found["decided_by"]["filter"]) == ("PASS", "filters", "pass")


def test_a_capture_names_the_filter(attached: Command, lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "drops.pcapng"
    attached.ok("filter", "add", "few", "udp sport 53 meta length < 512", "--limit", "1/h", "--burst", "1")
    apply(attached)
    with Following(attached, "capture", "-w", str(file), "--rate", "0", file=file) as capture:
        send(lab, [LONG[0], *SHORT[:3]])
        assert eventually(lambda: len(packets("-r", str(file))) == 3)
        capture.interrupted()
    comments = [it["frame.comment"] for it in packets("-r", str(file))]
    assert comments == [
        "filter: a filter drops it; filter long (amplified)",
        *["filter_limit: over the rate of a filter; filter few"] * 2,
    ]


def test_metrics_by_filter(attached: Command, lab: Lab, tmp_path: Path) -> None:
    attached.ok("filter", "add", "few", "udp sport 53 meta length < 512", "--limit", "1/h", "--burst", "1")
    apply(attached)
    with watched(attached, tmp_path) as its:
        before = its.scrape()
        assert before("xdpguard_filter_hits_total", filter="long") == 0
        assert (before("xdpguard_filters", mode="enforce"), before("xdpguard_filters", mode="shadow")) == (3, 1)
        send(lab, [*LONG, *SHORT[:3]])
        assert eventually(lambda: its.scrape()("xdpguard_filter_hits_total", filter="seen") == 5), (
            "few drops two before"
        )
        found = its.scrape()
        assert found("xdpguard_filter_hits_total", filter="long", action="drop", mode="enforce") == 4
        assert found("xdpguard_filter_hit_bytes_total", filter="long") == sum(map(len, LONG))
        assert found("xdpguard_filter_hits_total", filter="maybe", mode="shadow") == 1
        assert found("xdpguard_filter_limited_packets_total", filter="few") == 2
        assert found("xdpguard_filter_limited_packets_total", filter="long") == -1
        assert found("xdpguard_packets_total", reason="filter") == 4
        assert found("xdpguard_packets_total", reason="filter_limit") == 2
        assert found("xdpguard_scrape_collector_success", collector="filters") == 1


def test_top_shows_filters_and_whom_they_drop(attached: Command, lab: Lab) -> None:
    """Drops are attributed to sources between the two readings of --once, so they go on meanwhile."""
    apply(attached)
    ended = threading.Event()

    def drip() -> None:
        while not ended.wait(0.05):
            send(lab, [LONG[1]])

    sender = threading.Thread(target=drip)
    sender.start()
    try:
        text = attached.ok("top", "--once", "--interval", "2", COLUMNS="320", LINES="60")
    finally:
        ended.set()
        sender.join()
    assert any(" long " in line and f"mostly {SECOND}; udp sport 53" in line for line in text.splitlines()), text


def test_rules_say_how_many_filters_there_are(attached: Command) -> None:
    attached.ok("block", FIRST)
    assert "filter" not in attached.ok("rules")
    apply(attached)
    assert "and 3 filters, 1 of them in shadow: xdpguard filter list" in attached.ok("rules")
    attached.ok("unblock", FIRST)
    assert attached.ok("rules").splitlines() == ["no rules", "and 3 filters, 1 of them in shadow: xdpguard filter list"]
    assert "filter" not in attached.ok("rules", "--kind", "block")


def test_whom_a_limit_in_shadow_would_cut(attached: Command, tmp_path: Path) -> None:
    """The kernel keeps no sources of it; what `filter show` names for that tells them."""
    attached.ok("filter", "add", "few", "udp sport 53", "--limit", "10/s", "--burst", "5", "--shadow")
    attached.ok("filter", "add", "seen", "udp sport 54", "--count", "--shadow")
    assert "then xdpguard replay FILE" in attached.ok("filter", "show", "few")
    assert "whom" not in attached.ok("filter", "show", "seen"), "it cuts nobody"
    file = write(tmp_path, [dns(SECOND, 100), *SHORT], 0)
    assert by_name(attached.json("replay", file))["few"]["sources"] == [{"source": FIRST, "packets": 36}]
    assert f"{FIRST} (36)" in next(line for line in attached.ok("replay", file).splitlines() if " few " in f" {line}")
    attached.ok("promote", "--filter", "few", "--force")
    assert "whom" not in attached.ok("filter", "show", "few"), "top shows it"
