# SPDX-License-Identifier: GPL-2.0
"""Whatever comes from outside reaches no terminal as commands, from no command: reasons, names of lists, filters,
interfaces, namespaces, processes and files, what others' systems said, and what was typed.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.command import Command
from topology import INTERFACE, Lab
from typer.main import get_command

from xdpguard.cli.commands import every
from xdpguard.cli.root import app
from xdpguard.store.database import Store
from xdpguard.units import is_control

# An OSC and a BEL, C1's CSI, a bidi override, line ends.
EVIL = "e\x1b]0;t\x07\x9b31m\u202ev\nINJECTED\r\u2028z"
NAME = EVIL.partition("\n")[0]  # of lists, filters and origins, which are checked, and hold no line ends
SHORT = "i\x1b]0;\x9b\u202e"  # 10 bytes: of an interface, a process
SOURCE, OTHER = "203.0.113.66", "203.0.113.77"
PACKET = f"ip saddr {SOURCE} tcp dport 80"

# Of every command what it is called with: a reading one when the store holds such things, every one with them as its
# arguments. {file}: a file with that in its name and its lines.
COMMANDS: dict[str, list[list[str]]] = {
    "attach": [[EVIL], [INTERFACE, "--netns", EVIL], [INTERFACE, "--config", EVIL], [INTERFACE, "--mode", EVIL]],
    "detach": [[EVIL], [INTERFACE, "--netns", EVIL]],
    "status": [[], ["--json"]],
    "doctor": [[], ["--json"]],
    "block": [[EVIL], [SOURCE, "--reason", EVIL], [SOURCE, "--for", EVIL], ["-"], ["--port", EVIL]],
    "unblock": [[EVIL], [OTHER]],
    "allow": [[EVIL], [SOURCE, "--reason", EVIL]],
    "disallow": [[EVIL]],
    "rules": [[], ["--json"], ["--kind", EVIL], ["--export"]],
    "import": [["{file}"], [EVIL]],
    "default show": [[], ["--json"]],
    "default drop": [["--confirm", EVIL]],
    "default pass": [["--confirm", EVIL]],
    "promote": [[EVIL], ["--filter", EVIL], ["--list", EVIL], [OTHER]],
    "confirm": [[EVIL], []],
    "undo": [[EVIL], ["--list"], ["--dry-run"], []],
    "recover": [["--dry-run"], [EVIL]],
    "lists load": [[EVIL, "{file}"], ["x", "{file}"], ["x", EVIL], ["x", "{file}", "--skip-invalid"]],
    "lists remove": [[EVIL], [NAME]],
    "lists drop": [[EVIL]],
    "lists show": [[], ["--json"], [EVIL], [NAME], ["--json", NAME]],
    "filter add": [[EVIL, PACKET, "--drop"], ["x", EVIL, "--drop"], ["x", PACKET, "--drop", "--reason", EVIL]],
    "filter list": [[], ["--json"]],
    "filter show": [[EVIL], [NAME], ["--json", NAME]],
    "filter remove": [[EVIL], [NAME]],
    "filter move": [[EVIL, "--before", EVIL]],
    "filter test": [[EVIL], [PACKET]],
    "filter presets": [[], [EVIL]],
    "filter import": [["{file}"], [EVIL]],
    "stats": [[], ["--json"], [EVIL]],
    "syns": [[], ["--json"]],
    "top": [["--json"], []],
    "events": [[], ["--json"], ["--reason", EVIL]],
    "capture": [["-w", f"/none/{EVIL}", "--for", "1s"], ["-w", "{file}/x", "--reason", EVIL]],
    "tcp states": [[], ["--json"], ["--all"], [EVIL]],
    "tcp trace": [["--for", EVIL], [EVIL]],
    "tcp rtt": [["--for", EVIL], [EVIL]],
    "tcp retrans": [["--for", EVIL], [EVIL]],
    "tcp cwnd": [["--for", EVIL], [EVIL]],
    "explain": [[SOURCE], [OTHER], ["--json", SOURCE], [EVIL], [f"tcp from {SOURCE} to 10.0.0.1:80"]],
    "replay": [["{file}"], [EVIL]],
    "bench": [["--only", EVIL]],
    "guard show": [[], ["--json"]],
    "guard set": [[EVIL], ["--mode", EVIL]],
    "run": [["--config", EVIL], ["--config", "{file}"]],
    "bridge bgp": [["--gobgp", EVIL], [EVIL]],
    "bridge crowdsec": [["--url", EVIL], ["--key-file", EVIL]],
    "bridge fail2ban": [["--origin", EVIL], [EVIL]],
    "bridge show": [[], ["--json"]],
    "bridge forget": [[EVIL]],
    "fleet join": [[EVIL], ["nats://127.0.0.1:1", "--name", EVIL], ["nats://127.0.0.1:1", "--credentials", EVIL]],
    "fleet leave": [[EVIL]],
    "fleet status": [[], ["--json"]],
    "fleet top": [[], ["--json"], [EVIL]],
    "fleet mode": [[EVIL]],
    "fleet publish": [[EVIL]],
    "fleet setup": [["{file}", "--host", EVIL], [f"/dev/null/{EVIL}"]],
    "fleet init": [[EVIL], ["nats://127.0.0.1:1", "--credentials", EVIL]],
    "dashboard": [[], [EVIL]],
    "help": [[EVIL], ["security"]],
    "config check": [["{file}"], [EVIL]],
}
# Other names of the same.
COMMANDS |= {f"lists {name}": COMMANDS["lists show"] for name in ("list", "ls")}
COMMANDS |= {f"lists {name}": COMMANDS["lists remove"] for name in ("delete", "rm")}
COMMANDS |= {f"filter {name}": COMMANDS["filter remove"] for name in ("delete", "rm")}
COMMANDS |= {"filter ls": COMMANDS["filter list"]}


def names(group: Any, before: tuple[str, ...] = ()) -> Iterator[str]:
    for name, found in every(group):
        if hasattr(found, "commands"):
            yield from names(found, (*before, name))
        else:
            yield " ".join((*before, name))


def test_every_command_is_in_the_table() -> None:
    assert sorted(names(get_command(app))) == sorted(COMMANDS)


def clean(text: str, keep: str = "\n") -> bool:
    """Whether nothing in it could steer a terminal, and no line of its own began."""
    return not any(is_control(it) and it not in keep for it in text) and "\nINJECTED" not in text


def test_the_check_sees_each_of_them() -> None:
    assert clean("e\\x1b]0;t é")
    for letter in EVIL:
        assert clean(letter) == (letter.isprintable() or letter == "\n")
    assert not clean("a\nINJECTED")


def poison(store: Path) -> None:
    """Put it everywhere in a store where text stands that others may have written."""
    with Store(store) as its, its.transaction():
        for table, columns in {
            "rules": ("reason", "source"),
            "parts": ("reason", "source"),
            "lists": ("file", "source", "format"),
            "filters": ("reason", "source", "text"),
            "changes": ("command",),
        }.items():
            for column in columns:
                its.execute(f"UPDATE {table} SET {column} = ?", (NAME if column == "source" else EVIL,))
        for table in ("lists", "list_entries", "filters"):
            its.execute(f"UPDATE {table} SET name = ?", (NAME,))
        known = {"name": EVIL, "peer": EVIL, "error": EVIL, "connected": False, "since": 1.0}
        its.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (f"bridge {EVIL}", json.dumps(known)))


@pytest.fixture
def named(lab: Lab) -> Iterator[None]:
    """An interface and a listening process in the server's namespace that have such names."""
    inside = ["nsenter", f"--net=/run/netns/{lab.server}"]
    subprocess.run([*inside, "ip", "link", "add", SHORT, "type", "veth", "peer", "name", "plain"], check=True)
    subprocess.run([*inside, "ip", "link", "set", SHORT, "up"], check=True)
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        libc = ctypes.CDLL(None)
        with Path(f"/run/netns/{lab.server}").open() as namespace:
            libc.setns(namespace.fileno(), 0)
        libc.prctl(15, SHORT.encode())  # PR_SET_NAME
        listener = socket.create_server(("0.0.0.0", 8099))
        os.write(told, b"x")
        listener.accept()
        os._exit(0)
    os.read(ready, 1)
    try:
        yield
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(told)
        subprocess.run([*inside, "ip", "link", "del", SHORT], check=False)


def refused_or_done(command: Command, file: Path) -> Iterator[tuple[list[str], str, str]]:
    """Call every command in every way; yield its words, and what it wrote on both streams."""
    for name, calls in COMMANDS.items():
        for call in calls:
            words = [*name.split(), *(str(file) if it == "{file}" else it for it in call)]
            done = command(*words, stdin=EVIL)
            yield words, done.out, done.err


@pytest.mark.usefixtures("named")
@pytest.mark.timeout(400)
def test_no_command_prints_it(lab: Lab, command: Command, tmp_path: Path) -> None:
    command.ok("attach", INTERFACE, "--netns", lab.server)
    command.ok("attach", SHORT, "--netns", lab.server, "--mode", "generic")
    command.ok("block", SOURCE, "--reason", "x")
    command.ok("block", OTHER, "--shadow", "--reason", "x")
    command.ok("lists", "load", "x", "-", stdin="198.51.100.0/28\n")
    command.ok("filter", "add", "x", PACKET, "--count", "--reason", "x")
    poison(command.store)
    file = tmp_path / f"{EVIL}.txt".replace("/", "_")
    file.write_text(f"{EVIL}\n[{EVIL}]\n{EVIL} = 1\n", encoding="utf-8")
    seen, bad = 0, []
    for words, out, err in refused_or_done(command, file):
        # Of a dashboard, the lines are its own.
        if not clean(out, "\n\t" if words[0] == "dashboard" else "\n") or not clean(err):
            bad.append(f"{words}: {[it for it in (out + err).splitlines() if not clean(it) or 'INJECTED' in it][:3]}")
        seen += "\\x1b" in out + err or "\\u001b" in out + err
    assert not bad, "\n".join(bad)
    assert seen > 60, "it is shown, as escapes"


@pytest.mark.timeout(200)
def test_the_service_logs_nothing_of_it(lab: Lab, command: Command, tmp_path: Path) -> None:
    command.ok("attach", INTERFACE, "--netns", lab.server)
    bad = tmp_path / "bad.txt"
    bad.write_text(f"{EVIL}\n", encoding="utf-8")
    config = tmp_path / "x.toml"
    config.write_text(
        f'[metrics]\nlisten = "off"\n[lists.x]\nfile = {json.dumps(str(bad))}\n'
        f'[[rules]]\ntarget = "x"\n[attach.{json.dumps(EVIL)}]\n',
        encoding="utf-8",
    )
    done = command("run", "--config", str(config))
    assert done.code
    assert clean(done.out + done.err), done.err
