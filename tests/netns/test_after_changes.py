# SPDX-License-Identifier: GPL-2.0
"""What a command says after a change is what is so then; what several origins want of one rule; export and import."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from support.command import Command
from support.traffic import Echo, client_address, eventually, works
from topology import INTERFACE, Lab

A, B, NET = "198.51.100.7", "198.51.100.9", "198.51.100.0/24"


def notes(command: Command, *arguments: str, stdin: str | None = None) -> str:
    """What a command that succeeds says in all."""
    done = command(*arguments, stdin=stdin)
    assert done.code == 0, done
    return done.out + done.err


def test_unblocking_says_what_drops_it_still(command: Command) -> None:
    notes(command, "lists", "load", "bad", "-", stdin=NET + "\n")
    refused = command.refused(1, "unblock", A)
    assert "the list bad holds 198.51.100.0/24" in refused
    assert f"xdpguard allow {A}" in refused
    command.ok("block", A)
    said = command.ok("unblock", A)
    assert "would still be dropped: the list bad holds" in said, "nothing is attached"
    assert f"xdpguard allow {A}" in said
    command.ok("allow", A)
    assert "the allow rule overrides it" in notes(command, "block", A)
    assert command.ok("unblock", A) == f"unblocked {A}\n", "it is allowed"
    said = notes(command, "disallow", A)
    assert "would now be dropped: the list bad holds" in said
    assert "nothing is dropped until the next attach" in said
    command.ok("lists", "remove", "bad")
    command.ok("block", NET, A)
    assert f"it is inside {NET}, which is blocked" in command.ok("unblock", A)
    command.ok("block", A)
    assert f"dropped in part: {A} inside it is blocked" in command.ok("unblock", NET)
    assert command.ok("unblock", A) == f"unblocked {A}\n"


def test_a_block_that_ended_by_itself(command: Command) -> None:
    command.ok("block", A, "--for", "1s")
    command.ok("block", "--port", "9/tcp", "--for", "1s")
    end = command.json("rules")[0]["expires"]
    assert eventually(lambda: time.time() >= end + 1)
    command.ok("block", B)
    assert "ended by itself" in command.ok("unblock", A)
    assert "ended by itself" in command.ok("unblock", "--port", "9/tcp")
    command.ok("unblock", A, B)
    command.refused(1, "unblock", B)


def test_a_later_block_does_not_weaken_an_earlier_one(command: Command) -> None:
    command.ok("block", A, "--reason", "first")
    said = command.ok("block", A, "--for", "3s", "--reason", "second")
    assert "already blocked for good (first)" in said
    assert "--replace" in said
    (rule,) = command.json("rules")
    assert (rule["expires"], rule["reason"]) == (None, "first")
    command.ok("block", A, "--for", "10m", "--reason", "second", "--replace")
    (rule,) = command.json("rules")
    assert rule["reason"] == "second"
    assert rule["expires"] - time.time() < 601
    assert "(was until" in command.ok("block", A, "--for", "1h")
    assert command.json("rules")[0]["expires"] - time.time() > 3000


def test_a_rule_of_two_origins(command: Command, lab: Lab, tmp_path: Path) -> None:
    """A short block that the configuration finds in its place: dropped after its end, until neither wants it."""
    config, source = tmp_path / "x.toml", client_address(4)
    config.write_text(f'[rules]\nblock = ["{source}"]\n')
    with Echo(lab):
        assert works(lab, 4, "udp")
        command.ok("block", source, "--for", "1s", "--reason", "short")
        command.ok("attach", INTERFACE, "--netns", lab.server, "--config", str(config))
        created = command.json("rules")[0]["created"]
        assert eventually(lambda: time.time() >= created + 3)
        assert not works(lab, 4, "udp")
        assert [it["source"] for it in command.json("rules")] == ["config"]
        assert "by the configuration file" in command.refused(1, "unblock", source)
        assert "by the configuration file" in command.ok("block", source, "--for", "1h")
        (rule,) = command.json("rules")
        assert [it["source"] for it in rule["origins"]] == ["config", "cli"]
        assert "config, cli" in command.ok("rules")
        config.write_text("")
        command.ok("attach", INTERFACE, "--netns", lab.server)
        assert [it["source"] for it in command.json("rules")] == ["cli"]
        assert not works(lab, 4, "udp")
        command.ok("unblock", source)
        assert works(lab, 4, "udp")


def test_in_the_kernel_is_not_in_force(command: Command, lab: Lab) -> None:
    """The program is lost: everyone who speaks of rules says so."""
    command.ok("attach", INTERFACE, "--netns", lab.server)
    assert "note" not in notes(command, "block", A)
    notes(command, "lists", "load", "bad", "-", stdin=NET + "\n")
    assert "but it is still dropped: the list bad" in notes(command, "unblock", A)
    assert "but is dropped: the list bad" in command.refused(1, "unblock", A)
    assert command.json("lists", "show")[0]["in_force"] is True
    for mode in ("xdpgeneric", "xdpdrv"):
        subprocess.run(["ip", "-n", lab.server, "link", "set", INTERFACE, mode, "off"], check=True)
    for arguments in (["block", B], ["lists", "show"], ["rules"], ["lists", "load", "bad", "-"]):
        said = notes(command, *arguments, stdin=NET + "\n")
        assert "in force on no interface" in said, said
        assert "lost its program" in said, said
    assert "lost its program" in notes(command, "stats")
    assert "lost its program" in notes(command, "explain", A)
    (held,) = command.json("lists", "show")
    assert (held["held"], held["in_force"]) == (1, False)
    assert not next(iter(command.json("stats")["interfaces"].values()))["attached"]
    assert command("status").code == 1
    assert "lost its program" in command("doctor").out
    assert "blocked; nothing is attached\n" in command("explain", A).out
    command.ok("attach", INTERFACE, "--netns", lab.server, "--observe")
    assert "only observes" in notes(command, "block", B)
    said = notes(command, "unblock", B)
    assert "but it would still be dropped: the list bad" in said, "it passes at this moment"
    assert "only observes" in said
    assert "but would be dropped: the list bad" in command.refused(1, "unblock", B)
    command.ok("allow", B)
    said = notes(command, "disallow", B)
    assert "would now be dropped: the list bad" in said
    assert "only observes" in said
    command.ok("detach", "--all")
    assert "nothing is attached" in notes(command, "block", B)
    assert "nothing is attached" in notes(command, "rules")


def test_a_program_whose_maps_are_no_longer_pinned(command: Command, lab: Lab) -> None:
    """It goes on with what it has: a change is stored, and everyone who speaks of it says that it is not in force."""
    with Echo(lab):
        command.ok("attach", INTERFACE, "--netns", lab.server)
        assert works(lab, 4, "udp")
        assert "note" not in notes(command, "block", A)
        assert "no longer pinned" not in command("status").out, "positive control"
        shutil.rmtree(command.pins)
        said = notes(command, "block", client_address(4))
        assert works(lab, 4, "udp")
        assert "keeps what it has, which no change reaches: its maps are no longer pinned; attach it again" in said
        assert "no longer pinned" in notes(command, "unblock", A) + notes(command, "rules")
        assert "no longer pinned" in command("doctor").out
        status = command("status", "--json")
        assert status.code == 1
        assert any("no longer pinned; attach it again" in it for it in json.loads(status.out)["degraded"])
        for words in (["doctor"], ["explain", A], ["explain", A, "--port", "22"], ["explain", "198.18.0.0/24"]):
            found = command(*words)
            assert "are no longer pinned" in found.out + found.err, words
            assert "nothing is attached" not in found.out + found.err, words
        for words in (["stats"], ["syns"], ["top", "--once"], ["events", "-n", "1"]):
            assert "are no longer pinned; attach it again: xdpguard attach" in command.refused(1, *words)
        for words in (["guard", "show"], ["default", "show"]):
            assert "are no longer pinned; attach it again: xdpguard attach" in command.ok(*words)
        command.ok("attach", INTERFACE, "--netns", lab.server)
        assert eventually(lambda: not works(lab, 4, "udp"))
        assert "pinned" not in notes(command, "block", A)


def test_rules_out_and_in_again(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    command.ok("block", A, "2001:db8::/32", "--reason", 'ssh "brute" \\ force ✓', "--for", "1h")
    command.ok("allow", "192.0.2.0/24")
    command.ok("block", "--port", "8080")
    command.ok("block", NET, "--shadow", "--for", "1d")
    command.ok("rules", "--export", str(file))
    assert command.ok("rules", "--export") == file.read_text()
    before = command.json("rules")
    command.ok("unblock", A, "2001:db8::/32", NET)
    command.ok("disallow", "192.0.2.0/24")
    command.ok("unblock", "--port", "8080")
    assert command.json("rules") == []
    command.ok("import", str(file))
    assert command.json("rules") == before
    assert "6 of them were there" in command.ok("import", "-", stdin=file.read_text())
    assert command.json("rules") == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[rules]]\nkind = "blok"\ntarget = "9.9.9.9"\n', "rule 1: not a kind"),
        ('[[rules]]\nkind = "block"\ntarget = "9.9.9.9"\nuntil = 3\n', "rule 1: unknown key until"),
        ('[[rules]]\nkind = "block"\ntarget = "9.9.9.9"\nexpires = 2026-01-01\n', "expires is not a time"),
        ('[[rules]]\nkind = "port"\ntarget = "8080/tcp"\nmode = "shadow"\n', "shadow"),
        ('[[rules]]\nkind = "block"\ntarget = "9.9.9.9"\nreason = "a\\u001bb"\n', "control characters"),
        ("[[rules", "standard input"),
        ("[lists]\n", "unknown key lists"),
    ],
)
def test_what_is_not_imported(command: Command, text: str, words: str) -> None:
    """All or nothing."""
    assert words in command.refused(2, "import", "-", stdin=text)
    assert command.json("rules") == []


def test_an_import_that_blocks_everybody(command: Command) -> None:
    """All or nothing."""
    text = '[[rules]]\nkind = "block"\ntarget = "9.9.9.9"\n[[rules]]\nkind = "block"\ntarget = "0.0.0.0/0"\n'
    assert "every IPv4" in command.refused(1, "import", "-", stdin=text)
    assert command.json("rules") == []


def test_odd_characters_of_a_reason(command: Command) -> None:
    command.ok("block", A, "--reason", "check ✓")
    assert "not valid UTF-8: byte 0xe9" in command.refused(2, "block", B, "--reason", "caf\udce9")
    assert "control characters" in command.refused(2, "block", B, "--reason", "a\x1b[31m")
    out = command.ok("rules", PYTHONIOENCODING="iso-8859-1")
    assert "check \\u2713" in out
    assert [it["reason"] for it in command.json("rules")] == ["check ✓"]
    for arguments in (["block", "--nonsense\x1b[31m"], ["status", "a", "\x1b[31m"], ["block", "\x1b[31m"]):
        done = command(*arguments)
        assert done.code == 2
        assert "\\x1b[31m" in done.err
        assert "\x1b" not in done.err
