# SPDX-License-Identifier: GPL-2.0
"""replay: what it says of a capture is what the same packets cause on the wire, and nothing changes by it."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import CookedLinux, Dot1Q, Ether
from scapy.packet import Raw
from support.captures import enhanced, interface, pcap, section
from support.command import Command, on
from support.dumps import dump
from support.guard import set_sysctl
from support.traffic import eventually
from topology import INTERFACE, OUTSIDE_MAC, SERVER4, SERVER6, SERVER_MAC, Lab

from xdpguard.dataplane.sys.pins import Pins
from xdpguard.net.netns import entered

ETHER = Ether(src=OUTSIDE_MAC, dst=SERVER_MAC)
BPFFS = Path("/sys/fs/bpf")


def v4(source: str, **tcp: Any) -> bytes:
    fields: dict[str, Any] = {"sport": 4000, "dport": 80, "flags": "A"} | tcp
    return bytes(ETHER / IP(src=source, dst=SERVER4) / TCP(**fields))


PACKETS: dict[str, list[bytes]] = {
    "allow": [v4("192.0.2.1", flags="SF"), v4("192.0.2.2")],
    "deny": [v4("198.51.100.7"), v4("203.0.113.9"), v4("203.0.113.10", flags="S")],
    "closed_port": [v4("16.1.1.1", dport=8080), bytes(ETHER / IP(src="16.1.1.1", dst=SERVER4) / UDP(dport=53))],
    "bad_flags": [v4("16.1.1.1", flags="SF"), v4("16.1.1.1", flags=0)],
    "bad_source": [v4("224.0.0.9")],
    "malformed": [v4("16.1.1.1")[:50], bytes(ETHER / Dot1Q() / Dot1Q() / Dot1Q() / IP())],
    "fragment": [bytes(ETHER / IP(src="16.1.1.1", dst=SERVER4, frag=40, proto=17) / Raw(bytes(24)))],
    "pass": [
        bytes(ETHER / IP(src="16.1.1.1", dst=SERVER4) / ICMP()),
        bytes(ETHER / IPv6(src="2001:db8:77::7", dst=SERVER6) / UDP(dport=9)),
        v4("16.1.1.2", flags="S", dport=81),
    ],
}
ALL = [packet for packets in PACKETS.values() for packet in packets]


def send(lab: Lab, frames: Sequence[bytes]) -> None:
    """Puts frames on the wire, towards the server."""
    with entered(lab.outside), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((INTERFACE, 0))
        for frame in frames:
            wire.send(frame)


def counts(command: Command) -> dict[str, tuple[int, int]]:
    """Packets and bytes by reason, but for what the lab's ends tell each other by themselves."""
    reasons = on(command.json("stats"), INTERFACE)["reasons"]
    return {
        name: (its["packets"] + its["observed_packets"], its["bytes"] + its["observed_bytes"])
        for name, its in reasons.items()
        if name != "non_ip"
    }


def replayed(found: Any) -> dict[str, tuple[int, int]]:
    return {
        name: (its["packets"] + its["observed_packets"], its["bytes"] + its["observed_bytes"])
        for name, its in found["reasons"].items()
        if name != "non_ip"
    }


def sent_and_received() -> list[bytes]:
    """What a capture on the server's own interface holds: each packet, and the server's answer to it."""
    answer = Ether(src=SERVER_MAC, dst=OUTSIDE_MAC) / IP(src=SERVER4, dst="198.51.100.7") / TCP(sport=80, flags="A")
    return [packet for received in PACKETS["deny"] for packet in (received, bytes(answer))]


@pytest.fixture
def ruled(attached: Command) -> Command:
    """The program on the lab's interface, with rules of each kind and a list."""
    attached.ok("allow", "192.0.2.0/24")
    attached.ok("block", "198.51.100.7", "192.0.2.2")
    attached.ok("block", "--port", "8080/tcp", "--port", "53/udp")
    attached.ok("lists", "load", "bad", "-", stdin="203.0.113.0/24\n")
    return attached


def write(tmp_path: Path, packets: Sequence[bytes], name: str = "a.pcap") -> str:
    path = tmp_path / name
    path.write_bytes(pcap(packets))
    return str(path)


def test_as_on_the_wire_and_nothing_changes(ruled: Command, lab: Lab, tmp_path: Path) -> None:
    file = write(tmp_path, ALL)
    pins = Pins(BPFFS, ruled.instance)
    before, maps = counts(ruled), dump(pins)
    found = ruled.json("replay", file)
    after = dump(pins)
    moving = {str(pins.link_folder(INTERFACE, lab.server) / "counters")}  # of packets that the lab itself sends
    assert {path for path in maps if maps[path] != after[path]} <= moving
    assert maps.keys() == after.keys()
    assert ruled.json("rules") == [rule | {"packets": 0, "bytes": 0} for rule in ruled.json("rules")]
    assert {name for name, (packets, _) in replayed(found).items() if packets} == set(PACKETS)
    assert {name: len(packets) for name, packets in PACKETS.items()} == {
        name: packets for name, (packets, _) in replayed(found).items() if packets
    }
    send(lab, ALL)

    def moved() -> dict[str, tuple[int, int]]:
        now = counts(ruled)
        return {name: (now[name][0] - before[name][0], now[name][1] - before[name][1]) for name in now}

    # The driver pads nothing on a veth, so that the bytes are the same as well.
    assert eventually(lambda: moved() == replayed(found)), (moved(), replayed(found))
    assert found["packets"] == len(ALL)
    assert found["dropped"] == sum(len(PACKETS[name]) for name in PACKETS if name not in ("allow", "fragment", "pass"))


def test_flags_protocols_and_sources(ruled: Command, tmp_path: Path) -> None:
    found = ruled.json("replay", write(tmp_path, [v4("198.51.100.7", flags="S")] * 5 + [v4("203.0.113.9"), *ALL]))
    assert found["blocked_sources"][0] == {"source": "198.51.100.7", "packets": 6}
    assert {"source": "203.0.113.9", "packets": 2} in found["blocked_sources"]
    assert found["protocols"]["udp"] == 3
    assert found["protocols"]["icmp"] == 1
    assert found["flags"]["syn"] == 5 + 4
    text = ruled.ok("replay", write(tmp_path, ALL))
    assert "dropped most: 16.1.1.1 (4)" in text
    assert "packets/s" in text


def test_formats_that_are_converted(ruled: Command, tmp_path: Path) -> None:
    wanted = {"deny": 1, "pass": 1}
    ips = [IP(src=source, dst=SERVER4) / TCP(dport=81, flags="A") for source in ("198.51.100.7", "16.1.1.1")]
    files = {
        "raw": pcap([bytes(ip) for ip in ips], link=101),
        "big": pcap([bytes(ETHER / ip) for ip in ips], ">", nano=True),
        "cooked": pcap([bytes(CookedLinux() / ip) for ip in ips], link=113),
        "zipped": gzip.compress(pcap([bytes(ETHER / ip) for ip in ips])),
        "ng": section() + interface() + b"".join(enhanced(bytes(ETHER / ip)) for ip in ips),
    }
    for name, data in files.items():
        path = tmp_path / name
        path.write_bytes(data)
        found = ruled.json("replay", str(path))
        assert {reason: its["packets"] for reason, its in found["reasons"].items() if its["packets"]} == wanted, name
    result = ruled("replay", "-", "--json", stdin=files["zipped"])
    assert result.code == 0
    assert '"packets": 2' in result.out


def test_what_the_host_itself_sent_is_left_out(ruled: Command, tmp_path: Path) -> None:
    file = write(tmp_path, sent_and_received())
    for options in ((), ("--direction", "in")):
        found = ruled.json("replay", file, *options)
        assert (found["packets"], found["dropped"], found["sent"], found["direction"]) == (3, 3, 3, "in")
        assert found["outgoing"] == {"left_out": 3, "flag": 0, "packet_type": 0, "mac": 3, "address": 0}
    found = ruled.json("replay", file, "--direction", "all")
    assert (found["packets"], found["dropped"], found["sent"], found["direction"]) == (6, 3, 3, "all")
    assert found["outgoing"] == {"left_out": 0, "flag": 0, "packet_type": 0, "mac": 3, "address": 0}
    text = ruled.ok("replay", file)
    assert "  outgoing   3 packets left out; known 3 by their source MAC address" in text
    assert "3 packets run as if they came in" in ruled.ok("replay", file, "--direction", "all")
    ruled.ok("replay", file, "--expect-drop")
    assert "packet 2 is passed" in ruled.refused(1, "replay", file, "--expect-drop", "--direction", "all")
    only = write(tmp_path, sent_and_received()[1::2], "only.pcap")
    assert "sent all 3" in ruled.refused(1, "replay", only, "--expect-drop")
    assert "no incoming packets" in ruled.ok("replay", only)
    raw = tmp_path / "raw.pcap"
    raw.write_bytes(pcap([packet[14:] for packet in sent_and_received()], link=101))
    found = ruled.json("replay", str(raw))
    assert (found["packets"], found["outgoing"]["address"]) == (3, 3), "the server's addresses, where there is no MAC"
    assert "sent packet 2" in ruled("explain", "--pcap", file, "--packet", "2").err
    assert "sent packet" not in ruled("explain", "--pcap", file, "--packet", "1").err


def test_cut_packets_are_said_to_be(ruled: Command, tmp_path: Path) -> None:
    whole = v4("198.51.100.7")
    long = bytes(ETHER / IP(src="198.51.100.7", dst=SERVER4) / TCP(flags="A") / Raw(bytes(1000)))
    path = tmp_path / "cut.pcap"
    path.write_bytes(pcap([long[:60], long[:40], whole], lengths=[len(long), len(long), len(whole)]))
    result = ruled("replay", str(path), "--json")
    assert result.code == 0
    assert "the capture holds only the beginning of 2 packets" in result.err
    assert "1 of them is cut within the headers" in result.err
    found = ruled.json("replay", str(path))
    assert found["reasons"]["deny"] == {
        "packets": 2, "bytes": len(long) + len(whole), "observed_packets": 0, "observed_bytes": 0
    }  # fmt: skip
    assert found["reasons"]["cut"]["packets"] == 1
    line = ruled("replay", str(path), "--expect-drop").err.splitlines()[-1]
    assert "packet 2 is cut too early" in line


def test_a_capture_that_is_not_whole(ruled: Command, tmp_path: Path) -> None:
    path = tmp_path / "cut.pcap"
    path.write_bytes(pcap(ALL)[:-10])
    result = ruled("replay", str(path), "--json")
    assert result.code == 0
    assert f"packet {len(ALL)} is truncated" in result.err
    assert f'"packets": {len(ALL) - 1}' in result.out


@pytest.mark.parametrize("what", ["text", "nothing", "folder", "radiotap", "sparse"])
def test_what_cannot_be_replayed(ruled: Command, tmp_path: Path, what: str) -> None:
    path = tmp_path / what
    if what == "text":
        path.write_text("hello\n")
    elif what == "folder":
        path.mkdir()
    elif what == "radiotap":
        path.write_bytes(pcap([bytes(60)], link=127))
    elif what == "sparse":
        with path.open("wb") as file:
            file.truncate(10 << 30)
    if what == "radiotap":
        result = ruled("replay", str(path))
        assert result.code == 2
        assert "link type 127" in result.err
        return
    ruled.refused(2, "replay", str(path))


def test_expectations(ruled: Command, tmp_path: Path) -> None:
    dropped = write(tmp_path, [*PACKETS["deny"], *PACKETS["bad_flags"]], "dropped.pcap")
    passed = write(tmp_path, [*PACKETS["pass"], *PACKETS["allow"]], "passed.pcap")
    mixed = write(tmp_path, [*PACKETS["deny"], *PACKETS["pass"], *PACKETS["deny"]], "mixed.pcap")
    ruled.ok("replay", dropped, "--expect-drop")
    ruled.ok("replay", passed, "--expect-pass")
    for file, option, number, reason in (
        (dropped, "--expect-pass", 1, "deny"),
        (passed, "--expect-drop", 1, "pass"),
        (mixed, "--expect-drop", 4, "pass"),
        (mixed, "--expect-pass", 1, "deny"),
    ):
        line = ruled.refused(1, "replay", file, option)
        assert f"packet {number} is " in line
        assert f"({reason})" in line
        assert f"explain --pcap {file} --packet {number}" in line
        found = ruled.json("explain", "--pcap", file, "--packet", str(number))
        assert found["reason"] == reason, "as the remedy says"
    assert "no packet" in ruled.refused(1, "replay", write(tmp_path, []), "--expect-drop")
    ruled.refused(2, "replay", mixed, "--expect-drop", "--expect-pass")


@pytest.mark.parametrize("what", ["damaged", "cut off", "gzip", "link type", "short", "headers"])
def test_an_expectation_is_not_met_by_packets_that_were_not_judged(ruled: Command, tmp_path: Path, what: str) -> None:
    good = v4("198.51.100.7")
    data, says = {
        "damaged": (pcap([good]) + b"\xff" * 16 + pcap([v4("16.1.1.1")])[24:], "packet 2 claims"),
        "cut off": (pcap([good, good])[:-10], "packet 2 is truncated"),
        "gzip": (gzip.compress(pcap([good] * 1000))[:-30], "gzip"),
        "link type": (
            section() + interface() + interface(127) + enhanced(good) + enhanced(bytes(60), 1),
            "1 packet could not be converted",
        ),
        "short": (pcap([good, good[:10]]), "1 packet could not be converted"),
        "headers": (pcap([good, good[:20]], lengths=[54, 54]), "packet 2 is cut too early"),
    }[what]
    path = tmp_path / "a.pcap"
    path.write_bytes(data)
    result = ruled("replay", str(path), "--expect-drop")
    assert result.code == 1, result
    assert says in result.err.splitlines()[-1]
    ruled.ok("replay", str(path))
    ruled.ok("allow", "198.51.100.7")
    result = ruled("replay", str(path), "--expect-pass")
    assert result.code == 1, result
    assert says in result.err.splitlines()[-1]


def test_an_observing_interface_drops_nothing(lab: Lab, command: Command, tmp_path: Path) -> None:
    command.ok("attach", INTERFACE, "--netns", lab.server, "--observe")
    command.ok("block", "198.51.100.7")
    file = write(tmp_path, [v4("198.51.100.7")])
    found = command.json("replay", file)
    assert (found["dropped"], found["observe"]) == (0, True)
    assert (found["would_drop"], found["reasons"]["deny"]["observed_packets"]) == (1, 1)
    text = command.ok("replay", file)
    assert "0 dropped, 1 would be: observed only" in " ".join(text.split())
    assert "  would be dropped most: 198.51.100.7 (1)" in text
    command.ok("replay", file, "--expect-pass")
    command.refused(1, "replay", file, "--expect-drop")


def test_packets_that_hit_shadow_entries(ruled: Command, tmp_path: Path) -> None:
    file = write(tmp_path, ALL)
    assert ruled.json("replay", file)["shadow"] is None
    assert "shadow" not in ruled.ok("replay", file)
    ruled.ok("block", "16.1.1.0/24", "--shadow")
    ruled.ok("block", "192.0.2.1", "--shadow")
    of_net = sum(len(PACKETS[name]) for name in ("closed_port", "bad_flags", "fragment", "pass")) - 1  # the IPv6 one
    wanted = {"established": 0, "allowed": 1, "other": of_net}
    assert ruled.json("replay", file)["shadow"] == wanted, "what is dropped after the lists is counted"
    text = ruled.ok("replay", file)
    assert f"  shadow     established 0  allowed 1  other {of_net}, which shadow entries would count" in text
    lines = ruled.ok("replay", write(tmp_path, [v4("192.0.2.1")], "one.pcap"), "--json")
    assert json.loads(lines)["shadow"] == {"established": 0, "allowed": 1, "other": 0}


CANDIDATE = """
[sanity]
bad_flags = false
[rules]
block = ["16.1.0.0/16", "192.0.2.0/24"]
allow = ["16.1.1.2"]
ports = ["80/tcp"]
[lists.more]
file = "more.txt"
"""


def test_a_candidate_needs_nothing_attached(command: Command, tmp_path: Path) -> None:
    config = tmp_path / "new.toml"
    config.write_text(CANDIDATE)
    (tmp_path / "more.txt").write_text("203.0.113.9\n")
    file = write(tmp_path, ALL)
    line = command.refused(1, "replay", file)
    assert "nothing is attached" in line
    found = command.json("replay", file, "--config", str(config))
    counted = {reason: its["packets"] for reason, its in found["reasons"].items() if its["packets"]}
    # Denied: 192.0.2.1 and .2, 203.0.113.9, all of 16.1.1.1; the ports of what is left are closed but for 81.
    denied = 2 + 1 + len(PACKETS["closed_port"]) + len(PACKETS["bad_flags"]) + len(PACKETS["fragment"]) + 1
    assert counted == {"deny": denied, "malformed": 2, "closed_port": 3, "pass": 1, "allow": 1}
    assert not command.store.exists() or not command.json("rules")
    assert not (BPFFS / "xdpguard" / command.instance).exists()
    assert not list((BPFFS / "xdpguard").glob("xgprobe-*")) if (BPFFS / "xdpguard").exists() else True
    only = write(tmp_path, [v4("203.0.113.9", flags="A", dport=5)], "one.pcap")
    command.ok("replay", only, "--config", str(config), "--expect-drop")
    explained = command.json("explain", "--pcap", only, "--packet", "1", "--config", str(config))
    assert explained["decided_by"]["list"] == "more"
    assert explained["decided_by"]["holds"] == "203.0.113.9"
    assert explained["without"]["reason"] == "pass"


def test_what_a_killed_command_left_is_removed(command: Command, tmp_path: Path) -> None:
    config = tmp_path / "new.toml"
    config.write_text("[rules]\nblock = []\n")
    gone = Pins(BPFFS, f"xgprobe-{2**22 - 7}")
    gone.prepare("candidate", "")
    mine = Pins(BPFFS, f"xgprobe-{os.getpid()}")
    mine.prepare("candidate", "")
    try:
        command.ok("replay", write(tmp_path, ALL), "--config", str(config))
        assert not gone.folder.exists()
        assert mine.folder.exists(), "positive control: of a process that lives"
    finally:
        mine.remove_all()
        gone.remove_all()


@contextlib.contextmanager
def asking_a_candidate(command: Command, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A replay that has made all it needs of its own, and waits for the capture."""
    config, folder = tmp_path / "new.toml", tmp_path / "tmp"
    config.write_text("[rules]\nblock = []\n")
    folder.mkdir()
    line = command.line("replay", "-", "--config", str(config))
    environment = command.environment | {"TMPDIR": str(folder)}
    with subprocess.Popen(
        line, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    ) as process:
        try:
            assert eventually(lambda: any(folder.glob("*/store.db")), 60)
            assert (BPFFS / "xdpguard" / f"xgprobe-{process.pid}").exists()
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_command_that_is_ended_leaves_nothing(command: Command, tmp_path: Path, kind: signal.Signals) -> None:
    with asking_a_candidate(command, tmp_path) as process:
        process.send_signal(kind)
        _, said = process.communicate(timeout=60)
        assert b"Traceback" not in said
        assert process.returncode == 128 + kind
        assert not (BPFFS / "xdpguard" / f"xgprobe-{process.pid}").exists()
        assert not list((tmp_path / "tmp").iterdir())


def test_what_sigkill_left_the_next_command_removes(command: Command, tmp_path: Path) -> None:
    with asking_a_candidate(command, tmp_path) as process:
        process.kill()
        process.wait()
        pins, folder = BPFFS / "xdpguard" / f"xgprobe-{process.pid}", tmp_path / "tmp"
        assert list(folder.iterdir()), "positive control: nobody could"
        anothers = folder / f"xdpguard-probe-{process.pid}-anothers"
        anothers.mkdir()
        os.chown(anothers, 65_534, 65_534)
        mine = folder / f"xdpguard-probe-{os.getpid()}-mine"
        mine.mkdir()
        config = str(tmp_path / "new.toml")
        assert command("replay", write(tmp_path, ALL), "--config", config, TMPDIR=str(folder)).code == 0
        assert not pins.exists()
        assert set(folder.iterdir()) == {anothers, mine}


def test_what_a_candidate_would_change(ruled: Command, tmp_path: Path, lab: Lab) -> None:
    config = tmp_path / "new.toml"
    config.write_text(CANDIDATE)
    (tmp_path / "more.txt").write_text("16.9.9.9\n")
    packets = [*ALL, v4("16.9.9.9", dport=5)]
    file = write(tmp_path, packets)
    pins = Pins(BPFFS, ruled.instance)
    maps = dump(pins)
    found = ruled.json("replay", file, "--config", str(config), "--diff")
    after = dump(pins)
    assert {path for path in maps if maps[path] != after[path]} <= {
        str(pins.link_folder(INTERFACE, lab.server) / "counters")
    }
    now = ruled.json("replay", file)
    assert found["diff"]["before"]["reasons"] == now["reasons"]
    changes = {(it["before"], it["after"]): it for it in found["diff"]["changes"]}
    place = {name: sum(len(PACKETS[it]) for it in list(PACKETS)[: list(PACKETS).index(name)]) for name in PACKETS}
    assert changes["bad_flags", "deny"]["first"] == [place["bad_flags"] + 1, place["bad_flags"] + 2]
    assert changes["bad_flags", "deny"]["verdict_after"] == "DROP"
    assert changes["fragment", "deny"]["packets"] == 1
    assert changes["pass", "deny"]["packets"] == 2
    assert changes["pass", "deny"]["first"] == [place["pass"] + 1, len(packets)]
    assert changes["pass", "allow"]["first"] == [place["pass"] + 3]
    assert changes["closed_port", "deny"]["packets"] == 2
    assert changes["bad_source", "closed_port"]["verdict_before"] == "DROP", "ports are asked before sources"
    assert len(changes) == 6, "what the command line has blocked, allowed, closed and listed stays"
    config.write_text("")
    same = ruled.json("replay", file, "--config", str(config), "--diff")
    assert same["diff"]["changes"] == [], "positive control: attaching as it is changes nothing"
    assert "changes nothing" in ruled.ok("replay", file, "--config", str(config), "--diff")
    ruled.refused(2, "replay", file, "--diff")


def test_bad_candidates(command: Command, tmp_path: Path) -> None:
    file = write(tmp_path, ALL)
    config = tmp_path / "new.toml"
    command.refused(2, "replay", file, "--config", str(config))
    config.write_text("[rules]\nblock = ['nonsense']\n")
    assert ":2:" in command.refused(2, "replay", file, "--config", str(config))
    config.write_text("[lists.a]\nfile = 'missing.txt'\n")
    command.refused(2, "replay", file, "--config", str(config))
    config.write_text("")
    command.refused(2, "replay", file, "--config", str(config), "--interface", "eth0")
    assert not list((BPFFS / "xdpguard").glob("xgprobe-*")) if (BPFFS / "xdpguard").exists() else True


def test_the_guard_is_as_it_is_now(lab: Lab, attached: Command, tmp_path: Path) -> None:
    """However many SYNs are replayed, the guard stays idle; and when it is active, they are answered."""
    attached.ok("guard", "set", "flood_rate=10", "window=100ms")
    syns = write(tmp_path, [v4(f"16.1.{n >> 8}.{n & 255}", flags="S", dport=9999) for n in range(3000)])
    found = attached.json("replay", syns)
    assert found["reasons"]["pass"]["packets"] == 3000
    assert not found["guard"]["active"]
    (guard,) = attached.json("guard", "show")["interfaces"].values()
    assert not guard["floods"]
    set_sysctl(lab, "tcp_syncookies", 2)
    try:
        attached.ok("guard", "set", "mode=always")
        acks = write(tmp_path, [v4("16.1.1.1", dport=9999)])
        found = attached.json("replay", acks)
        assert found["reasons"]["ack_unknown"]["packets"] == 1
        assert found["guard"] == {"mode": "always", "active": True, "cause": None}
    finally:
        set_sysctl(lab, "tcp_syncookies", 1)


def test_a_large_file(ruled: Command, tmp_path: Path) -> None:
    """How fast it goes, netns-lab/scenarios/seeing measures."""
    file = write(tmp_path, [v4(f"16.{n >> 16}.{n >> 8 & 255}.{n & 255}") for n in range(200)] * 500)
    found = ruled.json("replay", file)
    assert found["packets"] == 100_000
    assert sum(packets for packets, _ in replayed(found).values()) == 100_000
    assert found["seconds"] > 0
