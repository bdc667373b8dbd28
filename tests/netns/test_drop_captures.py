# SPDX-License-Identifier: GPL-2.0
"""capture: tshark reads its files; outputs that cannot be written."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import time
from pathlib import Path

from netns.test_replay import send
from support.command import Command, on
from support.following import WAIT, Following, attach_lo, send_on_lo, tcp, udp
from support.terminal import Terminal
from support.traffic import eventually, flood_command
from topology import INTERFACE, Lab

from xdpguard.capture.reader import Capture

FIELDS = (
    "frame.number",
    "frame.comment",
    "frame.interface_name",
    "frame.interface_description",
    "frame.encap_type",
    "frame.time_epoch",
    "frame.len",
    "frame.cap_len",
    "frame.packet_flags_direction",
    "frame.verdict.ebpf_xdp",
    "ip.src",
)
SYN = tcp("198.51.100.7", "S")
LONG = tcp("16.1.1.1", "SF") + bytes(range(200))


def tshark(*arguments: str, stdin: bytes | None = None) -> str:
    done = subprocess.run(["tshark", *arguments], input=stdin, capture_output=True, timeout=WAIT, check=False)
    errors = [line for line in done.stderr.decode().splitlines() if not line.startswith("Running as user")]
    assert (done.returncode, errors) == (0, []), done
    return done.stdout.decode()


def packets(*source: str, stdin: bytes | None = None) -> list[dict[str, str]]:
    options = [word for field in FIELDS for word in ("-e", field)]
    text = tshark("-n", *source, "-T", "fields", "-E", "separator=/t", *options, stdin=stdin)
    return [dict(zip(FIELDS, line.split("\t"), strict=True)) for line in text.splitlines()]


def read(path: Path) -> tuple[list[bytes], str]:
    """The frames, and what is wrong with the file, as replay reads it."""
    with path.open("rb") as file:
        capture = Capture(path.name, file)
        return [frame.data for frame in capture], capture.fault


def test_as_tshark_reads_it(attached: Command, lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "drops.pcapng"
    attached.ok("block", "198.51.100.7", "--reason", "brute force; ünder")
    attached.ok("lists", "load", "bad", "-", stdin="203.0.113.0/24\n")
    frames = [SYN, LONG, tcp("203.0.113.9"), tcp("127.0.0.1"), LONG[:40], tcp("2001:db8:1::1", "F")]
    begin = time.time()
    with Following(attached, "capture", "-w", str(file), file=file) as capture:
        send(lab, frames)
        assert eventually(lambda: len(read(file)[0]) == len(frames))
        last = capture.interrupted()
    assert "6 of 6 drops captured" in last
    found = packets("-r", str(file))
    assert [row["frame.comment"] for row in found] == [
        "deny: source is blocked; rule 198.51.100.7 (brute force; ünder)",
        "bad_flags: TCP flags no real stack sends together",
        "deny: source is blocked; list bad",
        "bad_source: source address that cannot be one",
        "malformed: truncated or self-contradictory headers",
        "bad_flags: TCP flags no real stack sends together",
    ]
    assert {row["frame.interface_name"] for row in found} == {f"{INTERFACE}@{lab.server}"}
    assert {row["frame.interface_description"] for row in found} == {"packets dropped by xdpguard"}
    assert {row["frame.encap_type"] for row in found} == {"1"}
    assert [int(row["frame.len"]) for row in found] == [len(frame) for frame in frames]
    assert [int(row["frame.cap_len"]) for row in found] == [min(128, len(frame)) for frame in frames]
    assert {int(row["frame.packet_flags_direction"], 0) for row in found} == {1}, "inbound"
    assert {int(row["frame.verdict.ebpf_xdp"], 0) for row in found} == {1}, "XDP_DROP"
    assert found[0]["ip.src"] == "198.51.100.7"
    times = [float(row["frame.time_epoch"]) for row in found]
    assert times == sorted(times)
    assert begin - 1 < times[0] <= times[-1] < time.time() + 1
    # What the file says of itself; capinfos comes with tshark.
    about = subprocess.run(["capinfos", "-M", str(file)], capture_output=True, text=True, check=True).stdout
    told = dict(line.strip().split(": ", 1) for line in about.splitlines() if ": " in line)
    assert (told["File encapsulation"].strip(), told["Number of packets"].strip()) == ("ether", "6")
    assert told["Capture application"].split()[0] == "xdpguard"
    assert "Time precision = nanoseconds (9)" in about
    assert "Number of stat entries = 1" in about
    assert read(file) == ([frame[:128] for frame in frames], "")
    replayed = attached.json("replay", str(file))
    assert replayed["reasons"]["deny"]["packets"] == 2, "replay reads it as well"


def test_an_interface_that_is_attached_later(attached: Command, lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "drops.pcapng"
    with Following(attached, "capture", "-w", str(file), file=file) as capture:
        send(lab, [LONG])
        assert eventually(lambda: len(read(file)[0]) == 1)
        attach_lo(attached, lab)
        send_on_lo(lab, [tcp("224.0.0.1")])
        assert eventually(lambda: len(read(file)[0]) == 2)
        send(lab, [LONG])
        assert eventually(lambda: len(read(file)[0]) == 3)
        assert "3 of 3 drops captured" in capture.interrupted()
    names = [row["frame.interface_name"] for row in packets("-r", str(file))]
    assert names == [f"{name}@{lab.server}" for name in (INTERFACE, "lo", INTERFACE)]
    about = subprocess.run(["capinfos", "-M", str(file)], capture_output=True, text=True, check=True).stdout
    assert about.count("Number of stat entries = 1") == 2


def test_reason_and_count_through_a_pipe(attached: Command, lab: Lab) -> None:
    process = subprocess.Popen(
        attached.line("capture", "-w", "-", "--reason", "bad_source", "--count", "3"),
        env=attached.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        head = process.stdout.read(12)  # it is ready
        send(lab, [tcp("16.1.1.1", "SF"), tcp("127.0.0.1"), tcp("127.0.0.2")] * 2)
        rest, errors = process.communicate(timeout=WAIT)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
    assert process.returncode == 0, errors
    # It ends as soon as it has them: the fourth may come before or after.
    assert re.search(rb"3 of [34] drops captured", errors)
    found = packets("-r", "-", stdin=head + rest)
    assert [row["ip.src"] for row in found] == ["127.0.0.1", "127.0.0.2", "127.0.0.1"]


def test_a_flood_that_is_interrupted_leaves_a_whole_file(attached: Command, lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "drops.pcapng"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with Following(attached, "capture", "-w", str(file), "--rate", "0", file=file) as capture:
            flood = subprocess.Popen(
                flood_command(lab, "udp", "--source", "127.0.0.9", "--count", "60000", "--rate", "20000"),
                stdout=subprocess.DEVNULL,
            )
            try:
                assert eventually(lambda: file.stat().st_size > 500_000, WAIT)
                assert capture.ends(number) == 0
                said = int(capture.notes[-1].split()[2].replace(",", ""))
            finally:
                flood.kill()
                flood.wait()
        found, fault = read(file)
        assert not fault
        assert abs(len(found) - said) <= 1
        assert len(packets("-r", str(file))) == len(found)
        file.unlink()


def test_observing(lab: Lab, command: Command, tmp_path: Path) -> None:
    file = tmp_path / "drops.pcapng"
    command.ok("attach", INTERFACE, "--netns", lab.server, "--observe")
    with Following(command, "capture", "-w", str(file), "--count", "1", file=file) as capture:
        send(lab, [tcp("16.1.1.1", "SF")])
        assert capture.ends() == 0
    (row,) = packets("-r", str(file))
    assert row["frame.comment"].endswith("; only observed, so it passed")
    assert int(row["frame.verdict.ebpf_xdp"], 0) == 2, "XDP_PASS"


def test_places_that_cannot_be_written(attached: Command, tmp_path: Path) -> None:
    for place, says in (
        (str(tmp_path), "is not a file"),
        ("/dev/full", "is not a file"),
        ("", "no file to write to"),
        (str(tmp_path / "missing" / "a"), "there is no such file"),
        ("/etc/passwd/a", "not a directory"),
        (str(tmp_path / ("a" * 300)), "too long"),
    ):
        assert says in attached.refused(2, "capture", "-w", place)
    assert "xdpguard capture drops.pcapng" in attached("capture").err
    with Terminal(attached.line("capture", "-w", "-"), attached.environment) as terminal:
        assert terminal.end() == 2
        assert "standard output is a terminal" in " ".join(terminal.output.split())


def test_no_room(attached: Command, lab: Lab, tmp_path: Path) -> None:
    """A disk that is full; here, a file that may not grow further."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            attached.line("capture", "-w", "-"), env=attached.environment, stdin=subprocess.DEVNULL,
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=WAIT, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done
    assert "cannot write standard output: No space left on device; free space" in done.stderr
    file = tmp_path / "drops.pcapng"
    with Following(attached, "capture", "-w", str(file), file=file) as capture:
        limit = file.stat().st_size + 700
        resource.prlimit(capture.pid, resource.RLIMIT_FSIZE, (limit, limit))
        send(lab, [udp("127.0.0.9", 9)] * 20)
        assert capture.ends() == 1
        assert (
            "File too large; free space there or name another file; what it holds so far is intact" in capture.notes[-1]
        )
    assert 0 < len(packets("-r", str(file))) < 20, "the block that did not fit is not begun"


def test_progress_on_a_terminal(attached: Command, lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "drops.pcapng"
    with Terminal(attached.line("capture", "-w", str(file)), attached.environment) as terminal:
        terminal.sees("0 captured; end with Ctrl-C")
        send(lab, [tcp("16.1.1.1", "SF")])
        terminal.sees("1 captured; end with Ctrl-C")
        os.kill(terminal.pid, signal.SIGINT)
        assert terminal.end() == 0
        assert terminal.output.splitlines()[-1].endswith("\x1b[K\x1b[33mxdpguard: note: 1 of 1 drop captured\x1b[0m")
    assert on(json.loads(attached.ok("stats", "--json")), INTERFACE)["samples"] == {"bad_flags": 1}
