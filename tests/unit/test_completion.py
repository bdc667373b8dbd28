# SPDX-License-Identifier: GPL-2.0
"""Completion in a real bash: names that exist here are offered, words that bash cuts are whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.terminal import Terminal

from xdpguard.lists.addresses import aggregate
from xdpguard.policy.filters import FilterEntry
from xdpguard.policy.rule import NewRule
from xdpguard.policy.target import Kind, parse_stored
from xdpguard.store.attachments import Attachment, put_attachment
from xdpguard.store.database import Store
from xdpguard.store.filters import FilterStore
from xdpguard.store.lists import ListStore, NamedList

HELP = Path(__file__).parents[2] / "xdpguard" / "help"
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
_NONE = np.array([], np.uint64)
_ONE = aggregate(np.array([1], np.uint32), np.array([1], np.uint32), _NONE, _NONE, np.array([], np.uint8))[0]


def rule(kind: Kind, text: str) -> NewRule:
    """A rule of the command line, forever."""
    return NewRule(kind, parse_stored(kind, text), "", "cli", 0.0, None)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A command xdpguard, with a store of its own that holds something of each kind."""
    folder = tmp_path_factory.mktemp("completion")
    command = folder / "xdpguard"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m xdpguard.cli "$@"\n')
    command.chmod(0o755)
    (folder / "state").mkdir(mode=0o700)
    with Store(folder / "state" / "default" / "store.db") as store, store.transaction():
        kept: list[tuple[Kind, str]] = [("block", "2001:db8:bad::/48"), ("port", "8080/tcp"), ("allow", "192.0.2.9")]
        store.put([(rule(kind, text), slot) for slot, (kind, text) in enumerate(kept)])
        store.put([(rule("block", "203.0.113.0/24"), 0)], "shadow")
        ListStore(store).put(NamedList("firehol", 1, "cli", "f", "", "plain", 0.0, 1, 1, 0, 0, False), _ONE)
        written = FilterEntry("long-dns", "udp sport 53", "drop")
        FilterStore(store).put([written.filter("cli", 0.0).stored(1, 1)])
        put_attachment(store, Attachment("wan7", "", "native", False), 0.0)
    return os.environ | {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "HOME": str(folder),
        "PS1": "$ ",
        "TERM": "dumb",
        "XDPGUARD_STATE_DIR": str(folder / "state"),
    }


@pytest.fixture(scope="module")
def bash(environment: dict[str, str]) -> Iterator[Terminal]:
    """An interactive bash that has loaded what the Debian package installs."""
    script = subprocess.check_output(["xdpguard"], env=environment | {"_XDPGUARD_COMPLETE": "source_bash"}, text=True)
    loaded = Path(environment["HOME"]) / "completion"
    loaded.write_text(script)
    with Terminal(["bash", "--norc", "--noprofile", "-i"], environment, 100, 500) as terminal:
        terminal.send(f"bind 'set bell-style none'; bind 'set enable-bracketed-paste off'; . {loaded}; echo ready\n")
        terminal.sees("ready $")
        yield terminal


@pytest.mark.parametrize(
    ("typed", "seen"),
    [
        ("unblo", "unblock"),
        ("unblock 2", "unblock 20"),
        ("unblock 2001", "unblock 2001:db8:bad::/48"),
        ("unblock 2001:", "unblock 2001:db8:bad::/48"),
        ("unblock 2001:db8:b", "unblock 2001:db8:bad::/48"),
        ("unblock 203", "unblock 203.0.113.0/24"),
        ("unblock --port ", "unblock --port 8080/tcp"),
        ("disallow ", "disallow 192.0.2.9"),
        ("promote ", "promote 203.0.113.0/24"),
        ("lists show f", "lists show firehol"),
        ("filter show l", "filter show long-dns"),
        ("filter move long-dns --before l", "filter move long-dns --before long-dns"),
        ("filter presets mem", "filter presets memcached"),
        ("detach w", "detach wan7"),
        ("attach l", "attach lo"),
        ("events --reason=cl", "events --reason=closed_port"),
        ("guard set mode=al", "guard set mode=always"),
        ("guard set flood", "guard set flood_rate="),
        ("lists load x y --format sp", "lists load x y --format spamhaus"),
        ("--instance d", "--instance default"),
        ("tcp trace --state CLOSE_", "tcp trace --state CLOSE_WAIT"),
        ("lists load x /etc/host", "lists load x /etc/host"),
        ("help gu", "help guard"),
        ("rules -o w", "rules -o wide"),
        ("--color al", "--color always"),
    ],
)
def test_bash(bash: Terminal, typed: str, seen: str) -> None:
    bash.forget()
    bash.send(f"xdpguard {typed}\t")
    bash.sees(f"xdpguard {seen}")
    bash.send("\x15")  # the line is given up


def test_the_offers_are_shown(bash: Terminal) -> None:
    bash.forget()
    bash.send("xdpguard guard set mode=a\t\t")
    bash.sees("always auto")
    bash.send("\x15")


def test_without_a_store_nothing_is_offered_and_nothing_said(environment: dict[str, str]) -> None:
    """The help tells that others than root have none."""
    assert "is offered to root only, since nobody else can\nread it" in (HELP / "upgrade.md").read_text()
    asked = {"_XDPGUARD_COMPLETE": "complete_bash", "COMP_WORDS": "xdpguard\nunblock\n", "COMP_CWORD": "2"}
    done = subprocess.run(["xdpguard"], env=environment | asked, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["2001:db8:bad::/48", "203.0.113.0/24"]  # positive control
    for elsewhere in ("/nowhere/at/all", "/proc/self/cmdline"):
        its = environment | asked | {"XDPGUARD_STATE_DIR": elsewhere}
        done = subprocess.run(["xdpguard"], env=its, capture_output=True, text=True, check=False)
        assert (done.stdout.strip(), done.stderr) == ("", "")


def test_zsh_and_fish_are_offered_the_same(environment: dict[str, str]) -> None:
    """By the protocol of typer's scripts; the shells themselves are not here."""
    for shell, more in (("zsh", {}), ("fish", {"_TYPER_COMPLETE_FISH_ACTION": "get-args"})):
        asked = {
            "_XDPGUARD_COMPLETE": f"complete_{shell}",
            "_TYPER_COMPLETE_ARGS": "xdpguard unblock 2001:db8:b",
        } | more
        done = subprocess.run(["xdpguard"], env=environment | asked, capture_output=True, text=True, check=False)
        assert "2001:db8:bad::/48" in done.stdout.replace("\\", "")
        assert "203.0.113.0" not in done.stdout
