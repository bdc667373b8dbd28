# SPDX-License-Identifier: GPL-2.0
"""A store that was truncated, deleted or damaged: refused by every command, rebuilt by `recover` with all it held."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from typing import Any

import pytest
from support.command import Command
from support.traffic import Echo, client_address, works
from topology import INTERFACE, Lab

LIST = "203.0.113.0/24\n198.51.100.7\n2001:db8:5::/48\n2001:db8:6::1\n0.0.0.0/8\n2001:db8:7:8:9::/80\n"


def _entries(command: Command) -> Any:
    """The rules without what passes by itself."""
    keys = ("kind", "target", "reason", "source", "expires", "mode")
    return [{key: value for key, value in rule.items() if key in keys} for rule in command.json("rules")]


def _prepared(lab: Lab, command: Command) -> tuple[Any, Any]:
    command.ok("attach", INTERFACE, "--netns", lab.server)
    command.ok("block", client_address(4), "--reason", "a scan")
    command.ok("block", "198.51.100.0/24", "2001:db8::/32", "2001:db8::1", "--for", "1h")
    command.ok("block", "--port", "53/udp")
    command.ok("allow", "192.0.2.1", "2001:db8:ffff::/48")
    command.ok("block", "192.0.2.128/25", "--shadow")
    command.ok("lists", "load", "bad", "-", stdin=LIST)
    return _entries(command), command.json("lists", "show")


def test_truncated_deleted_and_zeroed(lab: Lab, command: Command) -> None:
    """One attach: with the copy, everything comes back; without it, all that the kernel knows."""
    with Echo(lab):
        assert works(lab, 4, "tcp")
        rules, lists = _prepared(lab, command)
        assert not works(lab, 4, "tcp")
        assert "is intact" in command.refused(1, "recover")
        good = command.store.read_bytes()

        def truncated() -> None:
            command.store.write_bytes(b"")

        def zeroed() -> None:
            half = len(good) // 2
            command.store.write_bytes(good[:half] + bytes(len(good) - half))

        for damage in (truncated, command.store.unlink, zeroed):
            damage()
            for words in (["block", "10.9.9.9"], ["rules"], ["attach", INTERFACE, "--netns", lab.server]):
                assert "xdpguard recover" in command.refused(1, *words)
            assert not works(lab, 4, "tcp"), "the data plane was emptied"
            would = command.json("recover", "--dry-run")
            assert would["kernel"]
            assert not works(lab, 4, "tcp")
            done = command.json("recover")
            assert {**would, "dry_run": False, "kept": done["kept"]} == done
            assert (done["kept"] != "") == (damage is zeroed)
            assert command.json("status")["audit"]["ratio"] == 1
            assert len(_entries(command)) == len(rules)
            assert [it["entries"] for it in command.json("lists", "show")] == [it["entries"] for it in lists]
            assert not works(lab, 4, "tcp")
        (kept,) = (it for it in command.store.parent.iterdir() if ".damaged-" in it.name)
        assert kept.stat().st_mode & 0o777 == 0o600
        # The copy knows the reasons and names of what it holds.
        assert [it["name"] for it in command.json("lists", "show")] == ["bad"]
        command.store.with_name("store.last").unlink()
        command.store.unlink()
        assert command.json("recover")["copy"] is None
        targets = {(it["kind"], it["target"]) for it in rules}
        assert {(it["kind"], it["target"]) for it in _entries(command)} == targets
        ends = {it["target"]: it["expires"] for it in rules}
        for it in _entries(command):
            assert it["expires"] == pytest.approx(ends[it["target"]], abs=2)
        assert [(it["name"][:10], it["entries"]) for it in command.json("lists", "show")] == [
            ("recovered-", lists[0]["entries"])
        ]
        assert not works(lab, 4, "tcp")
        command.ok("unblock", client_address(4))
        assert works(lab, 4, "tcp")
        command.ok("detach", "--all")


def test_without_a_kernel(command: Command) -> None:
    """After a reboot only the copy is left; without it, nothing is made up."""
    command.ok("block", "10.0.0.1", "--reason", "why")
    command.store.write_bytes(b"")
    assert "xdpguard recover" in command.refused(1, "rules")
    assert command.json("recover")["kernel"] is False
    assert [it["reason"] for it in command.json("rules")] == ["why"]
    command.store.write_bytes(b"")
    command.store.with_name("store.last").unlink()
    assert "--empty" in command.refused(1, "recover")
    command.ok("recover", "--empty")
    assert command.json("rules") == []


def _spoiled(command: Command, statement: str) -> None:
    """Change a row of the store without its checksum."""
    with contextlib.closing(sqlite3.connect(command.store, isolation_level=None)) as database:
        assert database.execute(statement).rowcount > 0


def test_what_a_damaged_file_has_whole_is_newer_than_the_copy(lab: Lab, command: Command) -> None:
    """Attached or not: rules with their reasons, lists and filters, each unless it is itself what was damaged."""
    command.ok("attach", INTERFACE, "--netns", lab.server)
    command.ok("block", "10.0.0.1", "--reason", "before")
    copy = command.store.with_name("store.last")
    command.ok("filter", "add", "old", "udp dport 9", "--drop")  # a copy is made at once
    before = copy.read_bytes()

    def spoiled(statement: str) -> Any:
        copy.write_bytes(before)
        _spoiled(command, statement)
        assert "xdpguard recover" in command.refused(1, "status")
        return command.json("recover")

    command.ok("filter", "add", "new", "tcp dport 9", "--drop")
    command.ok("block", "10.0.0.2", "--reason", "after")
    command.ok("lists", "load", "bad", "-", stdin=LIST)
    done = spoiled("UPDATE facts SET value = value || 'x'")
    assert (done["salvaged"], done["unnamed"], done["other_filters"]) == (["rules", "lists", "filters"], 0, False)
    assert [it["name"] for it in command.json("filter", "list")] == ["old", "new"]
    assert {it["reason"] for it in command.json("rules")} == {"before", "after"}
    assert [it["name"] for it in command.json("lists", "show")] == ["bad"]
    assert command.json("status")["audit"]["ratio"] == 1
    done = spoiled("UPDATE filters SET text = 'tcp dport 8' WHERE name = 'new'")
    assert (done["salvaged"], done["other_filters"]) == (["rules", "lists"], True)
    assert [it["name"] for it in command.json("filter", "list")] == ["old"], "as the copy has it"
    assert {it["reason"] for it in command.json("rules")} == {"before", "after"}
    command.ok("detach", "--all")
    command.ok("block", "10.0.0.3", "--reason", "unattached")
    assert spoiled("UPDATE facts SET value = value || 'x'")["kernel"] is False
    assert {it["reason"] for it in command.json("rules")} == {"before", "after", "unattached"}
    copy.unlink()
    _spoiled(command, "UPDATE facts SET value = value || 'x'")
    said = command.ok("recover")
    assert "was rebuilt from the damaged file, which has rules, lists and filters whole" in said
    assert {it["reason"] for it in command.json("rules")} == {"before", "after", "unattached"}


@pytest.mark.parametrize("step", ["rebuild", "keep", "replace", "in line"])
def test_killed_it_can_be_repeated(command: Command, step: str) -> None:
    command.ok("block", "10.0.0.1", "--reason", "why")
    command.store.with_name("store.last").unlink()
    command.ok("filter", "add", "x", "udp dport 9", "--drop")  # a copy is made at once
    damaged = command.store.read_bytes()[:5000]
    command.store.write_bytes(damaged)
    assert command("recover", fault=f"{step}: kill").code == -signal.SIGKILL
    again = command("recover")
    assert again.code == (1 if step == "in line" else 0), again
    files = list(command.store.parent.iterdir())
    assert [it.read_bytes() for it in files if ".damaged-" in it.name] == [damaged]
    assert not [it for it in files if it.is_dir()], "what the killed one had begun"
    assert [it["reason"] for it in command.json("rules")] == ["why"]


def test_files_are_closed_whatever_the_umask(lab: Lab, command: Command) -> None:
    """Nobody else reads the rules; and who owns or links the folder is checked before anything is used."""
    old = os.umask(0)
    try:
        command.ok("attach", INTERFACE, "--netns", lab.server)
        command.ok("block", "10.0.0.1")
    finally:
        os.umask(old)
    places = [command.store.parent, *command.store.parent.iterdir(), command.pins, *command.pins.rglob("*")]
    assert [it for it in places if it.stat().st_mode & 0o077] == []
    folder, real = command.store.parent, command.store.parent.with_name("real")
    os.chown(folder, 4321, 4321)
    assert "belongs to user 4321" in command.refused(3, "rules")
    assert "belongs to user 4321" in command.refused(3, "block", "10.0.0.2")
    os.chown(folder, 0, 0)
    folder.rename(real)
    folder.symlink_to(real)
    assert "is a link" in command.refused(3, "rules")
    assert "is a link" in command.refused(3, "block", "10.0.0.2")
    folder.unlink()
    real.rename(folder)
    os.chown(command.pins, 4321, 4321)
    assert "belongs to user 4321" in command.refused(3, "block", "10.0.0.2")
    os.chown(command.pins, 0, 0)
    assert len(command.json("rules")) == 1
    command.ok("detach", "--all")
