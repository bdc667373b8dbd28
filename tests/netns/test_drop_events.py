# SPDX-License-Identifier: GPL-2.0
"""events: each packet dropped on the wire, with its reason and the entry that decided, in each output format."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from netns.test_replay import send
from support.command import Command
from support.following import ETHER, Following, attach_lo, send_on_lo, tcp, udp
from support.guard import listen, set_sysctl
from support.traffic import Echo, eventually, works
from topology import INTERFACE, SERVER4, SERVER6, Lab

from xdpguard.capture.line import parse
from xdpguard.capture.packet import encode


def told(command: Command, *arguments: str) -> list[Any]:
    found: list[Any] = command.json("events", *arguments)["events"]
    return found


def rule(target: str, reason: str = "") -> dict[str, Any]:
    return {"entry": "rule", "kind": "block", "target": target, "reason": reason, "source": "cli"}


BAD = {"entry": "list", "list": "bad"}
CASES: list[tuple[str, str, Any]] = [
    ("tcp 198.51.100.7:4000 > {four}:80 S", "deny", rule("198.51.100.7", "brute force")),
    ("udp 198.51.99.1:4000 > {four}:9 len=30", "deny", rule("198.51.99.0/24", "brute force")),
    ("icmp 203.0.113.9 > {four} len=30", "deny", BAD),
    ("tcp [2001:db8:bad::7]:4000 > [{six}]:80 S options=mss,sack,ts,ws", "deny", rule("2001:db8:bad::/48")),
    ("tcp [2001:db8:11::1]:4000 > [{six}]:80 A", "deny", BAD),
    ("tcp 16.1.1.1:4000 > {four}:8080 A", "closed_port", None),
    ("udp [2001:db8:1::1]:4000 > [{six}]:53 len=3", "closed_port", None),
    ("tcp 16.1.1.1:4000 > {four}:80 none", "bad_flags", None),
    ("tcp 16.1.1.1:4000 > {four}:80 FS vlan=5", "bad_flags", None),
    ("tcp 127.0.0.1:4000 > {four}:80 A", "bad_source", None),
    ("udp [ff02::1]:4000 > [{six}]:80 len=3", "bad_source", None),
]


def make_rules(command: Command) -> None:
    command.ok("block", "198.51.100.7", "198.51.99.0/24", "--reason", "brute force")
    command.ok("block", "2001:db8:bad::/48")
    command.ok("block", "--port", "8080/tcp", "--port", "53/udp")
    command.ok("lists", "load", "other", "-", stdin="203.0.113.10\n")
    command.ok("lists", "load", "bad", "-", stdin="203.0.113.0/24\n2001:db8:11::/48\n")


def test_each_reason_on_the_wire(attached: Command, lab: Lab) -> None:
    make_rules(attached)
    lines = [(line.format(four=SERVER4, six=SERVER6), reason, entry) for line, reason, entry in CASES]
    with Following(attached, "events", "--follow", "--json", "--rate", "0") as following:
        for _ in range(2):  # the second time what denied a source is remembered
            begin = len(following.lines)
            frames = [encode(parse(line)) for line, _, _ in lines] + [encode(parse(lines[0][0]))[:50]]
            send(lab, frames)
            found = following.shows(begin + len(frames))[begin:]
            assert [drop["packet"] for drop in found[:-1]] == [line for line, _, _ in lines]
            assert [drop["reason"] for drop in found] == [reason for _, reason, _ in lines] + ["malformed"]
            assert [drop["entry"] for drop in found] == [entry for _, _, entry in lines] + [None]
            assert [drop["frame"] for drop in found] == [frame[:128].hex() for frame in frames]
            assert [drop["length"] for drop in found] == [len(frame) for frame in frames]
            assert {(drop["interface"], drop["netns"]) for drop in found} == {(INTERFACE, lab.server)}
            assert not any(drop["observed"] for drop in found)
            assert all(abs(drop["time"] - time.time()) < 60 for drop in found)
        last = following.interrupted()
    assert f"{2 * len(frames)} of {2 * len(frames)} drops shown" in last
    kept = told(attached)
    assert [drop["frame"] for drop in kept[-len(frames) :]] == [drop["frame"] for drop in found]
    assert [drop["entry"] for drop in kept[-len(frames) :]] == [drop["entry"] for drop in found]


def test_reasons_of_the_guard(attached: Command, lab: Lab) -> None:
    set_sysctl(lab, "tcp_syncookies", 2)
    try:
        with listen(lab):
            attached.ok("guard", "set", "mode=always", "syn_rate=1", "reset_rate=1", "burst=100ms", "--force")
            send(lab, [tcp("16.1.1.1", "A", 8000), tcp("16.1.1.1", "A", 8001)])
            send(lab, [tcp("16.1.1.1", "S", 8001)] * 20)
            for reason, line in (
                ("cookie_bad", f"tcp 16.1.1.1:4000 > {SERVER4}:8000 A"),
                ("ack_unknown", f"tcp 16.1.1.1:4000 > {SERVER4}:8001 A"),
                ("syn_rate", f"tcp 16.1.1.1:4000 > {SERVER4}:8001 S"),
            ):
                assert eventually(lambda reason=reason: bool(told(attached, "--reason", reason))), reason  # type: ignore[misc]
                assert {drop["packet"] for drop in told(attached, "--reason", reason)} == {line}
    finally:
        set_sysctl(lab, "tcp_syncookies", 1)


def test_for_people(attached: Command, lab: Lab) -> None:
    make_rules(attached)
    send(lab, [tcp("198.51.100.7", "S"), tcp("203.0.113.9"), tcp("16.1.1.1", "SF"), bytes(ETHER)[:12] + b"\x08\0" * 9])
    assert eventually(lambda: len(told(attached)) == 4)
    result = attached("events")
    lines = result.out.splitlines()
    assert [line.split("  ")[1] for line in lines] == [INTERFACE] * 4
    assert all(re.match(r"[0-2]\d:[0-5]\d:[0-6]\d\.\d{3}  ", line) for line in lines)
    assert lines[0].endswith(f"  deny          tcp 198.51.100.7:4000 > {SERVER4}:80 S  rule 198.51.100.7 (brute force)")
    assert lines[1].endswith("  list bad")
    assert lines[2].endswith(f"  bad_flags     tcp 16.1.1.1:4000 > {SERVER4}:80 FS")
    assert "malformed     30 bytes: 020000000001" in lines[3]
    assert result.err.startswith("xdpguard: note: samples shown: 4; dropped since attaching: malformed 1, deny 2,")
    attached.ok("unblock", "198.51.100.7")
    attached.ok("lists", "remove", "bad")
    attached.ok("lists", "load", "new", "-", stdin="192.0.2.99\n")
    lines = attached.ok("events").splitlines()
    assert lines[0].endswith("  a rule that was removed since")
    assert lines[1].endswith("  a list that was removed or changed since"), "whatever list has its number now"


def test_nothing_dropped(attached: Command, lab: Lab) -> None:
    assert attached.ok("events") == "nothing dropped since attaching\n"
    with Echo(lab):
        assert works(lab, 4, "tcp")
    assert attached.json("events") == {"events": [], "dropped": {}, "lost": 0}
    send(lab, [tcp("16.1.1.1", "SF")])
    assert eventually(lambda: bool(told(attached)))
    assert attached.ok("events", "--reason", "deny") == "nothing dropped for that reason since attaching\n"
    (drop,) = told(attached, "--reason", "deny", "--reason", "bad_flags")
    assert drop["reason"] == "bad_flags"


def test_reason_count_and_time(attached: Command, lab: Lab) -> None:
    frames = [tcp("16.1.1.1", "SF"), tcp("127.0.0.1"), tcp("16.1.1.1", "SF"), tcp("127.0.0.1")] * 2
    with Following(attached, "events", "-f", "--json", "--reason", "bad_source", "--count", "3") as following:
        send(lab, frames)
        assert following.ends() == 0
        assert [drop["reason"] for drop in following.drops()] == ["bad_source"] * 3
        # It ends as soon as it has them: the fourth may come before or after.
        assert re.search("3 of [34] drops shown", following.notes[-1])
    assert eventually(lambda: attached.json("events")["dropped"] == {"bad_flags": 4, "bad_source": 4})
    assert [drop["reason"] for drop in told(attached, "--count", "1")] == ["bad_source"]
    assert len(told(attached, "--reason", "bad_flags", "--count", "1")) == 1
    begin = time.monotonic()
    result = attached("events", "--for", "1s", "--json")
    assert time.monotonic() - begin >= 1
    assert (result.code, result.out) == (0, "")
    assert "0 of 0 drops shown" in result.err


def test_what_was_not_sent_is_counted(attached: Command, lab: Lab) -> None:
    """A flood of one reason over its rate, and in it one packet of another."""
    with Following(attached, "events", "--follow", "--json", "--rate", "10") as following:
        for _ in range(10):
            send(lab, [udp("127.0.0.9", 9)] * 200)
        send(lab, [tcp("16.1.1.1", "SF")])
        assert eventually(lambda: any('"bad_flags"' in line for line in following.lines))
        last = following.interrupted()
        shown = len(following.lines)
    dropped = sum(attached.json("events")["dropped"].values())
    assert dropped > 1000
    assert shown < dropped // 2
    assert f"{shown:,} of {dropped:,} drops shown; {dropped - shown:,} exceeded the rate" in last
    assert sum(drop["reason"] == "bad_flags" for drop in following.drops()) == 1


def test_observing(lab: Lab, command: Command) -> None:
    command.ok("attach", INTERFACE, "--netns", lab.server, "--observe")
    command.ok("block", "198.51.100.7")
    send(lab, [tcp("198.51.100.7"), tcp("16.1.1.1", "SF")])
    assert eventually(lambda: len(told(command)) == 2)
    assert [(drop["reason"], drop["observed"]) for drop in told(command)] == [("deny", True), ("bad_flags", True)]
    lines = command.ok("events").splitlines()
    assert "  deny*         tcp" in lines[0]
    assert "  bad_flags*    tcp" in lines[1]


def test_an_interface_that_is_attached_later(attached: Command, lab: Lab) -> None:
    with Following(attached, "events", "--follow", "--json") as following:
        send(lab, [tcp("16.1.1.1", "SF")])
        following.shows(1)
        attach_lo(attached, lab)
        send_on_lo(lab, [tcp("127.0.0.1"), tcp("224.0.0.1")])
        found = following.shows(2)
        assert [(drop["interface"], drop["packet"].split()[1]) for drop in found[1:]] == [("lo", "224.0.0.1:4000")]
        assert "2 of 2 drops shown" in following.interrupted()
    with Following(attached, "events", "--follow", "--json", "-i", INTERFACE) as following:
        attached.ok("detach", "lo", "--netns", lab.server)
        attach_lo(attached, lab)
        send_on_lo(lab, [tcp("224.0.0.1")])
        send(lab, [tcp("16.1.1.1", "SF")])
        assert following.shows(1)[0]["interface"] == INTERFACE
        assert "1 of 1 drop shown" in following.interrupted(), "one that is not wanted is not followed"


def test_two_interfaces(attached: Command, lab: Lab) -> None:
    attach_lo(attached, lab)
    text = f"tcp 224.0.0.1:4000 > {SERVER4}:80 A"
    with Following(attached, "events", "--follow", "--json") as following:
        send(lab, [tcp("16.1.1.1", "SF")])
        following.shows(1)
        send_on_lo(lab, [encode(parse(text))])
        found = following.shows(2)
        assert [(drop["interface"], drop["packet"] == text) for drop in found] == [(INTERFACE, False), ("lo", True)]
        attached.ok("detach", "lo", "--netns", lab.server)
        send(lab, [tcp("127.0.0.1")])
        assert following.shows(3)[2]["reason"] == "bad_source", "the other one goes on"
        assert "3 of 3 drops shown" in following.interrupted()
    attached.ok("attach", "lo", "--netns", lab.server)
    assert {line.split("  ")[1] for line in attached.ok("events").splitlines()} == {INTERFACE}
    assert [drop["packet"] for drop in told(attached)] == [drop["packet"] for drop in found[:1] + following.drops()[2:]]
    assert told(attached, "--interface", "lo") == []
    assert len(told(attached, "--interface", INTERFACE, "--netns", lab.server)) == 2
    assert attached.json("events", "-i", "lo")["dropped"] == {}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--reason", "nonsense"], "give one of: malformed, deny,"),
        (["--reason", "pass"], "'pass' is not a reason for drops"),
        (["--reason", ""], "'' is not a reason for drops"),
        (["--for", "nonsense"], "not a duration"),
        (["--for", "0s"], "not a duration"),
        (["--rate", "-1"], "--rate -1 is not a rate"),
        (["--rate", "nan"], "--rate nan is not a rate"),
        (["--rate", "inf"], "--rate inf is not a rate"),
        (["--rate", "1000001"], "0 (every drop) to 1,000,000"),
    ],
    ids=lambda it: " ".join(it) if isinstance(it, list) else "",
)
@pytest.mark.parametrize("verb", ["events", "capture"])
def test_bad_input(command: Command, verb: str, words: list[str], says: str) -> None:
    more = [] if verb == "events" else ["-w", "-"]
    assert says in command.refused(2, verb, *more, *words)


@pytest.mark.parametrize("arguments", [["events"], ["events", "--follow"], ["capture", "-w", "-"]], ids=" ".join)
def test_where_nothing_ever_was(command: Command, arguments: list[str]) -> None:
    assert "nothing is attached; attach an interface first" in command.refused(1, *arguments)


def test_interfaces_that_are_not_attached(command: Command, attached: Command) -> None:
    assert "nothing is not attached; " in attached.refused(2, "events", "--interface", "nothing")
    assert "no network namespace 'nothing'" in attached.refused(2, "events", "--netns", "nothing")
    attached.ok("detach", "--all")
    for verb in (["events"], ["events", "--follow"], ["capture", "-w", "-"]):
        assert "nothing is attached" in command.refused(1, *verb)
    assert json.loads(command.ok("rules", "--json")) == []
