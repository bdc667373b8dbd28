# SPDX-License-Identifier: GPL-2.0
"""explain: the verdict that the packet then gets on the wire, the rule that decides, and what would be without it."""

from __future__ import annotations

import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from netns.test_replay import ETHER, counts, send, v4
from scapy.layers.inet import IP, TCP
from support.captures import pcap
from support.command import Command
from support.dumps import dump
from support.guard import listen, set_sysctl
from support.traffic import eventually
from topology import INTERFACE, OUTSIDE4, SERVER4, SERVER6, Lab

from xdpguard.capture.line import parse
from xdpguard.capture.packet import encode
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.store.database import Store
from xdpguard.store.offences import put_offences

BPFFS = Path("/sys/fs/bpf")


def explain(command: Command, line: str) -> Any:
    return command.json("explain", line)


def has_counted(command: Command, reason: str, wanted: int) -> bool:
    return counts(command)[reason][0] == wanted


CASES = [
    ("tcp 198.51.100.7:4000 > {server}:80 S", "deny", "DROP"),
    ("udp 198.51.100.7:4000 > {server}:9 len=30", "deny", "DROP"),
    ("icmp 198.51.100.9 > {server} len=30", "deny", "DROP"),
    ("tcp 203.0.113.9:4000 > {server}:80 A", "deny", "DROP"),
    ("tcp 192.0.2.9:4000 > {server}:8080 FS", "allow", "PASS"),
    ("tcp 16.1.1.1:4000 > {server}:8080 A", "closed_port", "DROP"),
    ("tcp 16.1.1.1:4000 > {server}:80 none", "bad_flags", "DROP"),
    ("tcp 127.0.0.1:4000 > {server}:80 A", "bad_source", "DROP"),
    ("udp 16.1.1.1 > {server} frag=64 len=24", "fragment", "PASS"),
    ("tcp 16.1.1.1 > {server} frag=8 len=24", "malformed", "DROP"),
    ("47 16.1.1.1 > {server} len=24 vlan=5", "pass", "PASS"),
    ("tcp [2001:db8:bad::7]:4000 > [{server6}]:80 S options=mss,sack,ts,ws", "deny", "DROP"),
    ("icmpv6 2001:db8:77::7 > {server6}", "pass", "PASS"),
]


def test_as_on_the_wire_and_nothing_changes(attached: Command, lab: Lab) -> None:
    attached.ok("block", "198.51.100.7", "198.51.100.0/24", "2001:db8:bad::/48")
    attached.ok("allow", "192.0.2.0/24")
    attached.ok("block", "--port", "8080/tcp")
    attached.ok("lists", "load", "bad", "-", stdin="203.0.113.0/24\n")
    pins = Pins(BPFFS, attached.instance)
    own = str(pins.link_folder(INTERFACE, lab.server) / "counters")
    lines = [pattern.format(server=SERVER4, server6=SERVER6) for pattern, _, _ in CASES]
    before, maps = counts(attached), dump(pins)
    found = [explain(attached, line) for line in lines]
    after = dump(pins)
    assert {path for path in maps if maps[path] != after[path]} <= {own}
    assert maps.keys() == after.keys()
    assert counts(attached) == before
    assert [(it["reason"], it["verdict"]) for it in found] == [(reason, verdict) for _, reason, verdict in CASES]
    for line, (_, reason, _) in zip(lines, CASES, strict=True):
        before = counts(attached)
        send(lab, [encode(parse(line))])
        assert eventually(partial(has_counted, attached, reason, before[reason][0] + 1)), line


def test_the_rule_that_decides_and_what_would_be_without_it(attached: Command) -> None:
    attached.ok("block", "198.51.100.7", "--for", "10m", "--reason", "ssh brute force")
    line = f"tcp 198.51.100.7:4000 > {SERVER4}:80 S"
    found = explain(attached, line)
    rule = found["decided_by"]
    assert (rule["kind"], rule["target"], rule["reason"], rule["source"]) == (
        "block", "198.51.100.7", "ssh brute force", "cli"
    )  # fmt: skip
    assert 500 < rule["left"] <= 600
    assert rule["age"] < 60
    assert (rule["packets"], found["stage"]) == (0, "block rules")
    assert (found["without"]["reason"], found["without"]["decided_by"]) == ("pass", None)
    attached.ok("lists", "load", "one", "-", stdin="198.51.100.0/24\n")
    attached.ok("lists", "load", "two", "-", stdin="198.51.0.0/16\n")
    found = explain(attached, line)
    assert found["without"]["decided_by"]["list"] == "one"
    assert found["without"]["decided_by"]["holds"] == "198.51.100.0/24"
    attached.ok("unblock", "198.51.100.7")
    found = explain(attached, line)
    assert (found["decided_by"]["list"], found["stage"]) == ("one", "named lists")
    assert found["without"]["decided_by"]["list"] == "two", "which the program would name only then"
    attached.ok("lists", "remove", "one")
    found = explain(attached, line)
    assert found["decided_by"]["list"] == "two"
    assert found["without"]["reason"] == "pass"
    attached.ok("allow", "198.51.100.0/28")
    attached.ok("allow", "198.51.100.7")
    found = explain(attached, line)
    assert (found["reason"], found["decided_by"]["target"]) == ("allow", "198.51.100.7")
    assert found["without"]["decided_by"]["target"] == "198.51.100.0/28"
    attached.ok("disallow", "198.51.100.7")
    found = explain(attached, line)
    assert found["without"]["decided_by"]["list"] == "two"


def test_two_lists_with_the_same_entry(attached: Command) -> None:
    attached.ok("lists", "load", "one", "-", stdin="203.0.113.9\n")
    attached.ok("lists", "load", "two", "-", stdin="203.0.113.9\n203.0.113.7\n")
    found = explain(attached, f"udp 203.0.113.9 > {SERVER4}:53")
    assert found["decided_by"]["list"] == "one"
    assert found["without"]["decided_by"]["list"] == "two"


def test_a_port_rule_and_its_hits(attached: Command, lab: Lab) -> None:
    attached.ok("block", "--port", "8080/tcp")
    send(lab, [v4("16.1.1.1", dport=8080)] * 3)
    assert eventually(lambda: counts(attached)["closed_port"][0] == 3)
    found = explain(attached, f"tcp 16.1.1.1:4000 > {SERVER4}:8080 SF")
    assert (found["decided_by"]["target"], found["decided_by"]["packets"]) == ("8080/tcp", 3)
    assert found["without"]["reason"] == "bad_flags"


def test_an_ended_rule_decides_nothing(attached: Command) -> None:
    attached.ok("block", "198.51.100.7", "--for", "1s")
    line = f"tcp 198.51.100.7:4000 > {SERVER4}:80 S"
    assert eventually(lambda: explain(attached, line)["reason"] == "pass")


def test_in_words(attached: Command) -> None:
    attached.ok("block", "198.51.100.7", "--for", "10m", "--reason", "ssh brute force")
    text = attached.ok("explain", f"tcp 198.51.100.7:4000 > {SERVER4}:80 S")
    assert "DROP, deny: source is blocked" in text
    assert 'by block 198.51.100.7, "ssh brute force", from cli' in text
    assert "without   PASS, pass: no stage objected" in text
    assert "guard     auto, idle" in text


def test_hex_and_captures(attached: Command, tmp_path: Path) -> None:
    attached.ok("block", "198.51.100.7")
    frame = v4("198.51.100.7")
    spaced = ":".join(f"{octet:02x}" for octet in frame)
    for digits in (frame.hex(), spaced, "0x" + frame.hex().upper()):
        assert attached.json("explain", "--hex", digits)["reason"] == "deny"
    result = attached("explain", "--hex", "-", "--json", stdin=frame.hex()[:50] + "\n" + frame.hex()[50:] + "\n")
    assert '"reason": "deny"' in result.out
    path = tmp_path / "a.pcap"
    raw = bytes(IP(src="198.51.100.7", dst=SERVER4) / TCP(flags="A"))
    path.write_bytes(pcap([bytes(60), raw], link=101))
    assert attached.json("explain", "--pcap", str(path), "--packet", "2")["packet"].startswith("tcp 198.51.100.7:20 >")
    assert attached.json("explain", "--pcap", str(path), "--packet", "2")["reason"] == "deny"
    line = attached.refused(1, "explain", "--pcap", str(path), "--packet", "3")
    assert "no packet 3" in line
    path.write_bytes(pcap([frame[:30]], lengths=[54]))
    assert "too few" in attached.refused(1, "explain", "--pcap", str(path), "--packet", "1")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["tcp 1.2.3.4:5 > 1.2.3.4"],
        ["198.51.100.0/99"],
        ["198.51.100"],
        ["--hex", "xyz"],
        ["--hex", "abc"],
        ["--hex", "aabb"],
        ["--pcap", "/nonexistent", "--packet", "1"],
        ["--pcap", "/etc/passwd", "--packet", "1"],
        ["--pcap", "/etc/passwd"],
        ["--packet", "1"],
        ["--hex", "aabb", "tcp 1.2.3.4:5 > 1.2.3.4:6 S"],
        ["tcp 16.1.1.1:5 > 16.1.1.1:6 S", "--interface", "nothing"],
        ["tcp 16.1.1.1:5 > 16.1.1.1:6 S", "--netns", "nothing"],
        ["16.1.1.1", "--interface", "eth0"],
    ],
    ids=" ".join,
)
def test_bad_input(request: pytest.FixtureRequest, words: list[str]) -> None:
    wants = {"--interface", "--netns", "--pcap"} & set(words)
    command: Command = request.getfixturevalue("attached" if wants else "command")
    command.refused(2, "explain", *words)


def test_nothing_attached(command: Command) -> None:
    assert "nothing is attached" in command.refused(1, "explain", "tcp 1.2.3.4:5 > 1.2.3.4:6 S")


def test_which_interface(attached: Command, lab: Lab) -> None:
    line = f"tcp 127.0.0.1:4000 > {SERVER4}:80 A"
    subprocess.run(["ip", "-n", lab.server, "link", "set", "lo", "up"], check=True)
    attached.ok("attach", "lo", "--netns", lab.server, "--observe")
    assert "several" in attached.refused(2, "explain", line)
    assert attached.json("explain", line, "--interface", INTERFACE)["reason"] == "bad_source"
    found = attached.json("explain", line, "--interface", "lo", "--netns", lab.server)
    assert (found["reason"], found["observe"]) == ("pass", True)
    found = attached.json("explain", "tcp 224.0.0.1:4000 > 224.0.0.1:80 A", "--interface", "lo")
    assert (found["reason"], found["verdict"], found["observed"]) == ("bad_source", "PASS", True)


def test_the_checks_are_those_it_was_attached_with(lab: Lab, command: Command, tmp_path: Path) -> None:
    config = tmp_path / "a.toml"
    config.write_text("[sanity]\nbad_flags = false\n")
    command.ok("attach", INTERFACE, "--netns", lab.server, "--config", str(config))
    line = f"tcp 16.1.1.1:4000 > {SERVER4}:80 SF"
    assert explain(command, line)["reason"] == "pass"
    config.write_text("")
    assert explain(command, line)["reason"] == "pass", "the file has changed, the program has not"
    command.ok("attach", INTERFACE, "--netns", lab.server)
    assert explain(command, line)["reason"] == "bad_flags"


def test_limits_of_the_attach_do_not_matter(lab: Lab, command: Command, tmp_path: Path) -> None:
    config = tmp_path / "a.toml"
    config.write_text("[limits]\nrules = 2048\nsources = 2048\ntuples = 2048\n")
    command.ok("attach", INTERFACE, "--netns", lab.server, "--config", str(config))
    config.write_text("")
    command.ok("block", "198.51.100.7")
    assert explain(command, f"tcp 198.51.100.7:4000 > {SERVER4}:80 S")["reason"] == "deny"


def test_the_guard_as_it_is_now(attached: Command, lab: Lab) -> None:
    set_sysctl(lab, "tcp_syncookies", 2)
    try:
        with listen(lab):
            syn, ack = (f"tcp 16.1.1.1:4000 > {SERVER4}:8000 {flags}" for flags in ("S", "A"))
            assert explain(attached, syn)["reason"] == "pass"
            attached.ok("guard", "set", "mode=always")
            found = explain(attached, syn)
            assert (found["reason"], found["verdict"], found["stage"]) == ("cookie_sent", "TX", "SYN guard")
            assert found["guard"]["active"]
            assert explain(attached, ack)["reason"] == "cookie_bad"
            assert explain(attached, f"tcp 16.1.1.1:4000 > {SERVER4}:8001 A")["reason"] == "ack_unknown"
            attached.ok("guard", "set", "mode=observe")
            attached.ok("guard", "set", "mode=off")
            assert explain(attached, ack)["reason"] == "pass"
    finally:
        set_sysctl(lab, "tcp_syncookies", 1)


def test_an_address(attached: Command, lab: Lab) -> None:
    found = attached.json("explain", "198.51.100.7")
    assert found == {
        "address": "198.51.100.7", "outcome": None, "decided_by": None, "allow": [], "block": [], "lists": [],
        "ended": [], "shadow": [],
        "bans": [], "traffic": None, "attached": True, "needed": [], "left_out_of": [], "allows_everybody": [],
        "interfaces": [{"interface": INTERFACE, "netns": lab.server, "observe": False}],
    }  # fmt: skip
    attached.ok("block", "198.51.100.7", "--for", "1h", "--reason", "why not")
    attached.ok("block", "198.51.0.0/16")
    attached.ok("lists", "load", "one", "-", stdin="198.51.100.0/24\n")
    attached.ok("lists", "load", "two", "-", stdin="9.9.9.9\n")
    with Store(attached.store) as store, store.transaction():
        put_offences(store, "198.51.100.7", 3, time.time())
        put_offences(store, "2001:db8:5::/64", 2, time.time())
    frames = [v4("198.51.100.9", flags="S", dport=port) for port in (80, 80, 443)]
    attached.ok("allow", "198.51.100.9")
    send(lab, [*frames, v4("198.51.100.9")])
    assert eventually(lambda: counts(attached)["allow"][0] == 4)
    found = attached.json("explain", "198.51.100.7")
    assert (found["outcome"], found["decided_by"]["target"]) == ("deny", "198.51.100.7")
    assert [rule["target"] for rule in found["block"]] == ["198.51.100.7", "198.51.0.0/16"]
    assert found["block"][0]["reason"] == "why not"
    assert [(it["list"], it["holds"]) for it in found["lists"]] == [("one", "198.51.100.0/24")]
    assert [(ban["target"], ban["number"]) for ban in found["bans"]] == [("198.51.100.7", 3)]
    found = attached.json("explain", "198.51.100.9")
    assert (found["outcome"], found["decided_by"]["kind"]) == ("allow", "allow")
    assert found["decided_by"]["packets"] == 4
    traffic = found["traffic"]
    assert (traffic["packets"], traffic["flags"]["syn"], traffic["flags"]["ack"], traffic["syns"]) == (4, 3, 1, 3)
    assert traffic["destinations"][0] == {"destination": SERVER4, "port": 80, "syns": 2}
    (ban,) = attached.json("explain", "2001:db8:5::7")["bans"]
    assert (ban["target"], ban["number"]) == ("2001:db8:5::/64", 2)
    roles = {it["role"] for it in attached.json("explain", SERVER4)["needed"]}
    assert roles == {"an address of this host"}
    assert attached.json("explain", f"::ffff:{OUTSIDE4}")["address"] == OUTSIDE4
    text = attached.ok("explain", "198.51.100.7")
    assert "blocked" in text
    assert '"why not"' in text
    assert "3 times" in text
    assert "3 to" not in attached.ok("explain", "198.51.100.9")
    assert f"2 to {SERVER4} port 80" in attached.ok("explain", "198.51.100.9")


def test_an_address_with_nothing_attached(command: Command) -> None:
    command.ok("block", "198.51.100.7")
    found = command.json("explain", "198.51.100.7")
    assert (found["outcome"], found["traffic"], found["attached"]) == ("deny", None, False)
    assert found["interfaces"] == []
    lines = command.ok("explain", "198.51.100.7").splitlines()
    assert lines[0] == "198.51.100.7: blocked; nothing is attached"
    command.ok("allow", "198.51.100.7")
    lines = command.ok("explain", "198.51.100.7").splitlines()
    assert lines[0] == "198.51.100.7: allowed; nothing is attached"


def test_an_address_where_interfaces_only_observe(lab: Lab, command: Command) -> None:
    command.ok("block", "198.51.100.7")
    command.ok("attach", INTERFACE, "--netns", lab.server, "--observe")
    first = f"{INTERFACE} (in {lab.server})"
    found = command.json("explain", "198.51.100.7")
    assert found["interfaces"] == [{"interface": INTERFACE, "netns": lab.server, "observe": True}]
    lines = command.ok("explain", "198.51.100.7").splitlines()
    assert lines[0] == f"198.51.100.7: blocked, but {first} only observes"
    subprocess.run(["ip", "-n", lab.server, "link", "set", "lo", "up"], check=True)
    command.ok("attach", "lo", "--netns", lab.server)
    lines = command.ok("explain", "198.51.100.7").splitlines()
    assert lines[0] == f"198.51.100.7: its packets are dropped: blocked; but {first} only observes"
    command.ok("attach", INTERFACE, "--netns", lab.server)
    lines = command.ok("explain", "198.51.100.7").splitlines()
    assert lines[0] == "198.51.100.7: its packets are dropped: blocked", "positive control"


def test_an_ssh_peer_is_needed(command: Command) -> None:
    result = command("explain", "192.0.2.77", SSH_CONNECTION="192.0.2.77 5000 192.0.2.1 22")
    assert "the other end of an SSH session" in result.out


def test_a_frame_for_nobody_in_particular(attached: Command) -> None:
    """A frame that is no IP packet has no line, and still a verdict."""
    found = attached.json("explain", "--hex", (bytes(ETHER)[:12] + b"\x88\xcc" + bytes(46)).hex())
    assert (found["packet"], found["reason"], found["stage"]) == (None, "non_ip", "parse")


def test_a_whole_frame_that_is_too_long_to_be_asked_about(attached: Command) -> None:
    wrong = v4("16.1.1.1")[:14] + b"\x95" + bytes(4000)
    line = attached.refused(1, "explain", "--hex", wrong.hex())
    assert "the frame has 4,015 bytes; only its first 3,072 can be tested" in line
    assert attached.json("explain", "--hex", wrong[:3000].hex())["reason"] == "malformed", "positive control"
