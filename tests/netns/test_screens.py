# SPDX-License-Identifier: GPL-2.0
"""`status` and the tables of an attached instance, in terminals of several widths and in pipes: what is true.

The states are real ones: a flood, a program that was taken off, a service, a second instance.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from support.command import Command
from support.patience import patient
from support.service import Run
from support.terminal import Terminal
from support.traffic import eventually, lasting, start_flood
from topology import INTERFACE, Lab

LONG = "2001:db8:1234:5678:9abc:def0:1234:5678"
REASON = "ssh brute force that was seen from 2001:db8::7 and from 203.0.113.255"
READING = ["status", "rules", "lists show", "filter list", "stats", "undo --list", "guard show", "default show"]
_COLOUR = re.compile(r"\x1b\[\d+m")


def first(text: str) -> str:
    """The first line, without colours."""
    return _COLOUR.sub("", text).splitlines()[0]


def test_one_screen_for_what_goes_on(lab: Lab, command: Command) -> None:
    """OK, FLOOD and DEGRADED come and go with what they stand for, and so do the service and the other instance."""
    assert first(command.ok("status")) == "OK: nothing is attached; attach with: xdpguard attach IFACE"
    command.ok("attach", INTERFACE, "--netns", lab.server)
    command.ok("block", LONG)
    command.ok("block", "192.0.2.0/24", "--shadow")
    out = command.ok("status")
    assert first(out) == "OK: 1 interface attached"
    assert "rules     0 allow, 1 block, 0 port\n" in out
    assert "shadow    1 rule; it only counts\n" in out
    assert "run       not active; start it with: xdpguard run\n" in out
    assert "instance " not in out
    assert "metrics " not in out

    (command.state / "etc").mkdir(mode=0o700)
    (command.state / "etc" / f"{command.instance}.toml").write_text('[metrics]\nlisten = "127.0.0.1:0"\n')
    other = Command(command.state)
    try:
        other.ok("attach", "lo", "--netns", lab.server)
        assert f"instance  {other.instance}: attached to lo (in {lab.server})\n" in command.ok("status")
    finally:
        other.clean()
    assert "instance " not in command.ok("status")
    with Run(command) as run:
        assert run.says("metrics")
        assert eventually(lambda: f"run       active, process {run.pid}\n" in command.ok("status"))
        (url,) = re.findall(r"^metrics   (http://127\.0\.0\.1:\d+/metrics)$", command.ok("status"), re.MULTILINE)
        text = subprocess.run(["curl", "-sS", url], capture_output=True, text=True, check=True, timeout=patient(60))
        assert "xdpguard_packets_total" in text.stdout
    assert "run       not active" in command.ok("status")

    command.ok("guard", "set", "flood_rate=1000", "window=200ms", "hold=1s")
    flood = start_flood(lab, "syn", "--rate", "50000", "--seconds", lasting(3), "--port", "8000")
    assert eventually(lambda: command.json("status")["state"] == "flood", 30)
    out = command.ok("status")
    assert first(out).startswith(f"FLOOD on {INTERFACE} (in {lab.server}): SYN rate, port 8000; guard active for ")
    (row,) = [line.split() for line in out.splitlines() if line.startswith(INTERFACE)]
    assert int(row[3].replace(",", "")) > 100, "packets/s"
    assert int(row[4].replace(",", "")) > 100, "drops/s: nobody listens there"
    flood.communicate(timeout=patient(60))
    assert eventually(lambda: first(command.ok("status")) == "OK: 1 interface attached", 30)

    mode = command.json("status")["interfaces"][0]["mode"]
    off = "xdpdrv" if mode == "native" else "xdpgeneric"
    subprocess.run(["ip", "-n", lab.server, "link", "set", INTERFACE, off, "off"], check=True)
    result = command("status")
    assert (result.code, first(result.out)) == (1, f"DEGRADED: {INTERFACE} (in {lab.server}) is detached")
    assert command.json("status")["state"] == "degraded"


@pytest.fixture
def full(attached: Command, tmp_path: Path) -> Command:
    """An attached instance with a thousand rules, prefixes of IPv6, long reasons, a list and filters."""
    many = "".join(f"10.99.{number // 250}.{number % 250}\n" for number in range(1000))
    attached.ok("block", "-", "--for", "5h", "--reason", REASON, stdin=many)
    attached.ok("block", LONG, "2001:db8:ffff:ffff:ffff:ffff:ffff:0/120", "--reason", REASON)
    attached.ok("block", "192.0.2.0/24", LONG.replace("5678", "0001"), "--shadow", "--reason", REASON)
    file = tmp_path / ("a-list-with-a-long-name-" * 4 + ".netset")
    file.write_text("10.200.0.0/16\n")
    attached.ok("lists", "load", "bad", str(file))
    match = "ip saddr 203.0.113.0/24 udp sport { 53, 123, 1900 } meta length > 512"
    attached.ok("filter", "add", "reflected", match, "--limit", "1000/s", "--per", "source", "--reason", REASON)
    return attached


def screen(command: Command, words: str, width: int, **environment: str) -> str:
    """What a command draws in a terminal of that width."""
    variables = command.environment | {"TERM": "xterm"} | environment
    variables.pop("COLUMNS")
    with Terminal(command.line(*words.split()), variables, width, 60) as terminal:
        terminal.end()
        return terminal.output.replace("\r\n", "\n")


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_tables_fit_the_terminal(width: int, full: Command) -> None:
    """No line is wider than it, no address is broken, and what is left out is there with -o wide."""
    for words in ("status", "rules", "rules --kind shadow", "lists show", "filter list", "filter presets"):
        drawn = _COLOUR.sub("", screen(full, words, width))
        # Notes are as long as they are: they name commands to copy.
        lines = [line for line in drawn.splitlines() if not line.startswith("xdpguard: note:")]
        assert len(lines) >= 3, words
        assert max(map(len, lines)) <= width, max(lines, key=len)
        whole = full.ok(*words.split(), "-o", "wide")
        for word in re.findall(r"\S*(?:\d+\.){3}\d+\S*|(?<!\S)[0-9a-f]+:[0-9a-f:/]*", "\n".join(lines)):
            assert word in whole.split(), f"{words}: {word} is none of its addresses"
        if "not shown: " in drawn:
            names = drawn.partition("not shown: ")[2].partition(";")[0].split(", ")
            head = next(line for line in whole.splitlines() if names[0] in line)
            assert all(name in head for name in names)


def test_a_pipe_gets_whole_lines_without_colours(full: Command) -> None:
    for words in READING:
        out = full.ok(*words.split(), COLUMNS="40")
        assert "\x1b" not in out
        assert "not shown" not in out
        assert "…" not in out
    assert full.ok("rules", COLUMNS="40").count(REASON) == 1004


def test_colours_say_what_happened(full: Command) -> None:
    """Drops are red, passes green, shadow entries dim, notes yellow; none of it where it is not wanted."""
    rules = screen(full, "rules --kind shadow", 120)
    assert re.search(r"\x1b\[2m192\.0\.2\.0/24\x1b\[0m", rules)
    assert "\x1b[32mOK: " in screen(full, "status", 120)
    assert "\x1b[31m" + LONG + ": " in screen(full, f"explain {LONG}", 120), "blocked"
    assert "\x1b" not in screen(full, "status", 120, NO_COLOR="1")
    assert "\x1b" not in screen(full, "status", 120, TERM="dumb")
    assert "\x1b" not in screen(full, "--color never status", 120)
    assert "\x1b[32mOK: " in full.ok("--color", "always", "status", NO_COLOR="1")
    assert "--color" in full.refused(2, "--color", "some", "status")


def test_forms(full: Command) -> None:
    """-o tsv has every column, exact numbers and absolute times, and nothing else; -o json is --json."""
    head, *rows = full.ok("rules", "--kind", "block", "-o", "tsv").splitlines()
    assert head.split("\t") == ["kind", "target", "packets", "bytes", "expires", "source", "created", "reason"]
    assert len(rows) == 1002
    found = [dict(zip(head.split("\t"), row.split("\t"), strict=True)) for row in rows]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", it["created"]) for it in found)
    assert {it["reason"] for it in found} == {REASON}
    assert {it["target"] for it in found} >= {LONG, "10.99.3.249"}
    assert full.ok("status", "-o", "tsv").count("\n") == 2
    assert full.ok("rules", "-o", "json") == full.ok("rules", "--json")
    assert re.search(r"created +reason\n", full.ok("rules", "-o", "wide"))
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", full.ok("rules", "-o", "wide"))
    assert re.search(r"in (5h|4h 59m) +cli +\d+[sm] ago", full.ok("rules"))
    for words in (["rules", "--json", "-o", "tsv"], ["rules", "-o", "xml"], ["undo", "-o", "tsv"]):
        assert "-o" in full.refused(2, *words)
