# SPDX-License-Identifier: GPL-2.0
"""Readers of drops: one at a time, killed, stopped, slow, gone; none of it affects the traffic."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from netns.test_replay import counts, send
from support.command import Command, on
from support.following import WAIT, Following, tcp, udp
from support.traffic import Echo, eventually, flood_command, works
from topology import INTERFACE, Lab

from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.telemetry import drops

BPFFS = Path("/sys/fs/bpf")
JSON = ("events", "--follow", "--json")


def lost(command: Command, lab: Lab) -> int:
    return sum(drops.sums(Pins(BPFFS, command.instance), [(INTERFACE, lab.server)]).lost.values())


def samples(command: Command) -> int:
    found: int = on(command.json("stats"), INTERFACE)["samples"].get("bad_source", 0)
    return found


def flood(lab: Lab, count: int) -> None:
    """Packets from an impossible source; at a rate that leaves the machine to others."""
    arguments = ["udp", "--source", "127.0.0.9", "--count", str(count), "--rate", "40000"]
    subprocess.run(flood_command(lab, *arguments), stdout=subprocess.DEVNULL, check=True, timeout=WAIT)


def test_one_at_a_time(attached: Command, lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "kept.pcapng"
    file.write_bytes(b"of yesterday")
    with Following(attached, *JSON) as first:
        for verb in (["events", "--follow"], ["events", "--for", "1s"], ["capture", "-w", str(file)]):
            line = attached.refused(1, *verb)
            assert f"process {first.pid} already reads the drops" in line
        assert file.read_bytes() == b"of yesterday", "a command that is refused writes nothing"
        send(lab, [tcp("16.1.1.1", "SF")])
        first.shows(1)
        found = attached.json("events")["events"]
        assert len(found) == 1, "the last ones are shown beside a reader"
        send(lab, [tcp("127.0.0.1")])
        assert [drop["reason"] for drop in first.shows(2)] == ["bad_flags", "bad_source"]
        assert "2 of 2 drops shown" in first.interrupted()
    with Following(attached, "capture", "-w", str(file), file=file) as second:
        assert eventually(lambda: file.read_bytes().startswith(b"\x0a\x0d\x0d\x0a"))
        assert f"process {second.pid} already reads" in attached.refused(1, "events", "--follow")
        second.interrupted()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_reader_that_is_killed(attached: Command, lab: Lab, number: int) -> None:
    with Echo(lab), Following(attached, *JSON, "--rate", "0") as first:
        send(lab, [tcp("16.1.1.1", "SF")])
        first.shows(1)
        assert first.ends(number) == (-number if number == signal.SIGKILL else 0)
        before = counts(attached)["bad_source"][0]
        flood(lab, 20_000)
        assert eventually(lambda: works(lab, 4, "tcp"))
        assert eventually(lambda: counts(attached)["bad_source"][0] > before + 1000)
        with Following(attached, *JSON) as second:
            assert second.lines == [], "what the one before was meant to get is not the next one's"
            send(lab, [tcp("16.1.1.1", "SF")])
            assert eventually(lambda: any('"bad_flags"' in line for line in second.lines), WAIT)
            second.interrupted()


def test_nothing_is_sent_to_a_reader_that_was_killed(attached: Command, lab: Lab) -> None:
    """After three seconds; the last ones are kept as if there had been none."""
    pins = Pins(BPFFS, attached.instance)
    with Following(attached, *JSON, "--rate", "0") as reader:
        reader.ends(signal.SIGKILL)
    until = _until(pins)
    assert until > 0
    assert eventually(lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME) > until)
    send(lab, [udp("127.0.0.9", 9)] * 100)
    assert eventually(lambda: counts(attached)["bad_source"][0] == 100)
    assert _until(pins) == 0
    assert samples(attached) < 100
    assert attached.json("events")["events"][-1]["reason"] == "bad_source"


def _until(pins: Pins) -> int:
    from xdpguard.dataplane.sys import kernel

    descriptor = pins.open("drop_reader", 4, abi.READER.size)
    try:
        raw = kernel.lookup(descriptor, bytes(4), abi.READER.size)
    finally:
        os.close(descriptor)
    assert raw is not None
    return int(abi.READER.unpack(raw)[0])


def test_a_ctrl_c_as_soon_as_it_says_that_it_is_ready(attached: Command, tmp_path: Path) -> None:
    script = tmp_path / "hasty.py"
    script.write_text(
        "import os, signal, sys\n"
        "from xdpguard.cli import render\n"
        "from xdpguard.cli.app import run\n"
        "real = render.note\n"
        "def note(text):\n"
        "    real(text)\n"
        "    if 'Ctrl-C' in text:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "render.note = note\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    line = [sys.executable, str(script), "events", "--follow"]
    done = subprocess.run(line, env=attached.environment, capture_output=True, text=True, timeout=WAIT, check=False)
    assert (done.returncode, done.stderr.splitlines()[1:]) == (0, ["xdpguard: note: 0 of 0 drops shown"])


def test_a_reader_that_is_stopped(attached: Command, lab: Lab) -> None:
    """The ring fills, what does not fit is counted, and nobody else notices; then it goes on."""
    with Echo(lab), Following(attached, *JSON, "--rate", "0") as reader:
        assert works(lab, 4, "tcp"), "positive control"
        reader.signal(signal.SIGSTOP)
        flood(lab, 40_000)
        assert lost(attached, lab) > 0
        assert eventually(lambda: works(lab, 4, "tcp") and works(lab, 6, "tcp"))
        reader.signal(signal.SIGCONT)
        assert eventually(lambda: len(reader.lines) > 2000, WAIT)
        assert eventually(lambda: _until(Pins(BPFFS, attached.instance)) > time.clock_gettime_ns(time.CLOCK_BOOTTIME))
        send(lab, [tcp("16.1.1.1", "SF")])
        assert eventually(lambda: any('"bad_flags"' in line for line in reader.lines), WAIT)
        last = reader.interrupted()
        told = lost(attached, lab)
        assert f"; {told:,} came faster than they could be read" in last
        dropped = sum(count for reason, (count, _) in counts(attached).items() if reason in ("bad_source", "bad_flags"))
        assert f"{len(reader.lines):,} of {dropped:,} drops shown" in last
    with Following(attached, *JSON, "--reason", "deny") as reader:
        assert reader.interrupted().endswith("0 of 0 drops shown")


def test_other_reasons_do_not_fill_the_ring(attached: Command, lab: Lab) -> None:
    with Following(attached, *JSON, "--rate", "0", "--reason", "bad_flags") as reader:
        reader.signal(signal.SIGSTOP)
        flood(lab, 20_000)
        assert lost(attached, lab) == 0
        reader.signal(signal.SIGCONT)
        assert reader.interrupted().endswith("0 of 0 drops shown")


def test_detached_while_it_follows(attached: Command, lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "a.pcapng"
    for words in (list(JSON), ["capture", "-w", str(file)]):
        with Following(attached, *words, file=file if words[0] == "capture" else None) as reader:
            attached.ok("detach", "--all")
            assert reader.ends() == 1
            assert reader.notes[-1].startswith("xdpguard: the watched interfaces were detached; attach again")
        attached.ok("attach", INTERFACE, "--netns", lab.server)
        with Following(attached, *JSON) as reader:
            send(lab, [tcp("16.1.1.1", "SF")])
            reader.shows(1)
            reader.interrupted()


def test_attached_anew_while_it_follows(attached: Command, lab: Lab) -> None:
    """With another program, which goes on sending to it."""
    with Following(attached, *JSON) as reader:
        send(lab, [tcp("16.1.1.1", "SF")])
        reader.shows(1)
        attached.ok("attach", INTERFACE, "--netns", lab.server, "--observe")
        send(lab, [tcp("16.1.1.1", "SF")])
        assert [drop["observed"] for drop in reader.shows(2)] == [False, True]
        assert "2 of 2 drops shown" in reader.interrupted()


def test_a_pipe_that_is_closed(attached: Command, lab: Lab, tmp_path: Path) -> None:
    """It ends with whoever reads it, and not at the next drop."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for words in ([*JSON], ["capture", "-w", "-"], ["capture", "-w", str(fifo)]):
        process = subprocess.Popen(
            attached.line(*words),
            env=attached.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        sending = threading.Event()

        def keep_sending(until: threading.Event = sending) -> None:
            while not until.wait(0.1):
                send(lab, [tcp("16.1.1.1", "SF")])

        sender = threading.Thread(target=keep_sending)
        try:
            sender.start()
            if words[-1] == str(fifo):
                with fifo.open("rb") as file:
                    assert file.read(4) == b"\x0a\x0d\x0d\x0a"
                send(lab, [tcp("16.1.1.1", "SF")])  # which it finds that it cannot write
            else:
                assert process.stdout.read(4)
            sending.set()
            sender.join()
            process.stdout.close()
            errors = process.stderr.read().decode()
            assert process.wait(WAIT) == 0, errors
        finally:
            sending.set()
            sender.join()
            process.kill()
            process.wait()
            process.stdout.close()
            process.stderr.close()
        assert "Traceback" not in errors
        assert "unexpected" not in errors
