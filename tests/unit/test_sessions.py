# SPDX-License-Identifier: GPL-2.0
"""Who counts as logged in over SSH: by which process, record or environment; and who does not."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.sshd import USER, Folder

from xdpguard.net import logins, sessions, sshd, tcptable
from xdpguard.policy.target import Prefix, parse_prefix

CONNECTION, OTHER, LISTENER = 20, 21, 10
PEER, STRANGER = "198.51.100.7", "203.0.113.9"
TABLE = """\
  sl  local_address rem_address   st
   0: 00000000:0016 00000000:0000 0A 0:0 0:0 0 0 0 9
   1: 00000000:08AE 00000000:0000 0A 0:0 0:0 0 0 0 10
   2: 010012C6:08AE 076433C6:D431 01 0:0 0:0 0 0 0 20
   3: 010012C6:1F90 097100CB:D431 01 0:0 0:0 0 0 0 21
"""


def prefix(text: str) -> Prefix:
    return parse_prefix(text)[0]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """A host with a listener on port 2222, a connection to it, and one of a stranger to port 8080."""
    made, net = Folder(tmp_path / "proc"), tmp_path / "net"
    net.mkdir()
    (net / "tcp").write_text(TABLE)
    monkeypatch.setattr(sshd, "_PROC", made.path)
    monkeypatch.setattr(tcptable, "PROC", net)
    monkeypatch.setattr(logins, "_SESSIONS", tmp_path / "sessions")
    monkeypatch.setattr(logins, "_UTMP", tmp_path / "utmp")
    monkeypatch.setattr(sessions, "_environments", lambda: iter(()))
    return made


def test_the_sessions_of_the_processes_above_this_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with sudo in screen: an environment that cannot be read does not hide the ones above it."""
    for pid, parent, environment in (
        (os.getppid(), 300, ""),
        (300, 200, "A=1\0SSH_CONNECTION=\0"),
        (200, 1, f"SSH_CONNECTION={PEER} 1 ::1 2222\0"),
    ):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a) b) S {parent} 1 1")
        if environment:
            (tmp_path / str(pid) / "environ").write_text(environment)
    monkeypatch.setattr(sessions, "_PROC", tmp_path)
    monkeypatch.setattr(os, "environb", {})
    assert [(str(it.peer), it.port) for it in sessions._of_this_command()] == [(PEER, 2222)]


def monitored(title: str, user: int = USER, comm: str = "sshd") -> Callable[[Folder], None]:
    """Root's process and its child, both with the connection."""

    def make(folder: Folder) -> None:
        folder.process(100, f"{comm}: bob [priv]", CONNECTION, comm=comm)
        folder.process(101, title, CONNECTION, parent=100, user=user, comm=comm)

    return make


def alone(title: str, *sockets: int, user: int = 0, **more: object) -> Callable[[Folder], None]:
    def make(folder: Folder) -> None:
        folder.process(100, title, *(sockets or (CONNECTION,)), user=user, **more)  # type: ignore[arg-type]

    return make


def forged(folder: Folder) -> None:
    """A user's own processes, with the names and titles of sshd."""
    folder.process(100, "sshd: bob [priv]", CONNECTION, user=USER)
    folder.process(101, "sshd: bob@pts/0", CONNECTION, parent=100, user=USER)


def beside(folder: Folder) -> None:
    """A child of root's sshd that has not got the connection from it."""
    folder.process(100, "sshd: bob [priv]", OTHER)
    folder.process(101, "sshd: bob@pts/0", CONNECTION, parent=100, user=USER)


LOGGED_IN = {
    "a terminal": (monitored("sshd: bob@pts/0"), "sshd process 101, bob@pts/0"),
    "no terminal": (monitored("sshd: bob@notty"), "sshd process 101, bob@notty"),
    "forwarding only": (monitored("sshd: bob"), "sshd process 101, bob"),
    "OpenSSH 9.8": (monitored("sshd-session: bob@pts/0", comm="sshd-session"), "sshd process 101, bob@pts/0"),
    "root": (alone("sshd: root@pts/0"), "sshd process 100, root@pts/0"),
    "root, forwarding only": (alone("sshd: root"), "sshd process 100, root"),
    "a program of another name": (alone("sshd: root@pts/0", comm="sshd-wrapped"), "sshd process 100, root@pts/0"),
    "another server": (alone("/opt/sshd\0-p\0002222", LISTENER, CONNECTION), "process 100, which is named sshd"),
    "dropbear": (alone("/usr/sbin/dropbear\0-p\0002222", comm="dropbear", child=101), "dropbear process 100"),
    "dropbear, started for it": (alone("dropbear\0-i", comm="dropbear", child=101), "dropbear process 100"),
}
NOT_LOGGED_IN = {
    "dropbear, at the password": alone("/usr/sbin/dropbear\0-p\0002222", comm="dropbear"),
    "a user's own dropbear": alone("dropbear", user=USER, comm="dropbear", child=101),
    "nobody holds it": lambda folder: None,
    "accepted": alone("sshd: [accepted]"),
    "not titled yet": alone("/usr/sbin/sshd\0-D\0-R"),
    "at the password": monitored("sshd: bob [net]"),
    "an unknown user": monitored("sshd: unknown [net]"),
    "OpenSSH 9.8": monitored("sshd-session: bob [net]", comm="sshd-session"),
    "the listener": alone("sshd: /usr/sbin/sshd -D [listener] 1 of 10-100 startups"),
    "not named sshd": alone("sshd-auth: root@pts/0", comm="sshd-auth"),
    "a user's own": forged,
    "set-user-ID, started by a user": alone("sshd: root@pts/0", user=USER, effective=0),
    "a set-user-ID program": alone("sshd: root@pts/0", setuid=True),
    "not through its parent": beside,
    "another connection of the session": alone("sshd: root@pts/0", 999),
}


@pytest.mark.parametrize("name", LOGGED_IN)
def test_a_process_that_shows_a_login(folder: Folder, name: str) -> None:
    make, evidence = LOGGED_IN[name]
    make(folder)
    assert sessions.read().sessions == [sessions.Session(prefix(PEER), 2222, evidence)]


@pytest.mark.parametrize("name", NOT_LOGGED_IN)
def test_a_process_that_shows_none(folder: Folder, name: str) -> None:
    NOT_LOGGED_IN[name](folder)
    assert sessions.read().sessions == []


def test_what_a_session_forwards_is_not_its_peer(folder: Folder) -> None:
    """A connection that the session has accepted for its user comes after its own, from whomever."""
    folder.process(100, "sshd: root", CONNECTION, LISTENER, OTHER)
    assert [it.peer for it in sessions.read().sessions] == [prefix(PEER)]


def test_the_user_of_privilege_separation(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What talks to the peer before it has logged in is not believed, whatever its title says."""
    monitored("sshd: bob@pts/0")(folder)
    assert len(sessions.read().sessions) == 1
    monkeypatch.setattr(sshd, "_privsep", lambda: USER)
    assert sessions.read().sessions == []


def test_visitors(folder: Folder) -> None:
    """Who is connected to a port of sshd and not logged in; other ports are none of it."""
    assert sessions.read().visitors == set(), "nobody knows that 2222 is a port of sshd"
    folder.process(99, "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups", LISTENER)
    assert sessions.read().visitors == {prefix(PEER)}
    assert sessions.read().ports == {22, 2222}
    monitored("sshd: bob@pts/0")(folder)
    assert sessions.read().visitors == set()


def test_login_records(folder: Folder, tmp_path: Path) -> None:
    """Of logind and of utmp: remote ones that have not ended, by address."""
    del folder
    assert logins.remote_logins() == {}
    records = tmp_path / "sessions"
    records.mkdir()
    (records / "1").write_text(f"UID=0\nREMOTE=1\nREMOTE_HOST={PEER}\nSTATE=active\n")
    (records / "2").write_text("UID=0\nREMOTE=0\n")
    (records / "3").write_text("REMOTE_HOST=bad.example\n")
    (records / "4").mkdir()

    def record(kind: int, words: bytes) -> bytes:
        return struct.pack("=h", kind).ljust(348, b"\0") + words.ljust(16, b"\0") + bytes(20)

    living, dead, six = bytes([203, 0, 113, 8]), bytes([203, 0, 113, 10]), prefix("2001:db8::7").network
    (tmp_path / "utmp").write_bytes(record(7, living) + record(8, dead) + record(7, six) + record(7, b""))
    by_utmp, by_logind = "a login record in utmp", "a session of systemd-logind"
    assert logins.remote_logins() == {
        prefix("203.0.113.8"): by_utmp, prefix("2001:db8::7"): by_utmp, prefix(PEER): by_logind
    }  # fmt: skip
    assert sessions.read().sessions == [sessions.Session(prefix(PEER), 0, by_logind)], "the others have no connection"
    (tmp_path / "utmp").write_bytes(b"x" * 400)
    assert logins.remote_logins() == {prefix(PEER): by_logind}


def test_the_session_this_command_runs_in(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this command and of those it came from, each; while it has no connection it is not live."""
    del folder
    words = [b"%s 54321 198.18.0.1 2022" % it.encode() for it in (STRANGER, "192.0.2.77")]
    monkeypatch.setattr(sessions, "_environments", lambda: iter({b"SSH_CONNECTION": it} for it in words))
    found = {str(it.peer): (it.port, it.live) for it in sessions.read().sessions}
    assert found == {STRANGER: (2022, True), "192.0.2.77": (2022, False)}


def test_the_session_of_a_shell_above_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    """sudo strips SSH_CONNECTION: the shell that called it still has it."""
    monkeypatch.setenv("SSH_CONNECTION", "203.0.113.9 54321 198.18.0.1 2222")
    code = "from xdpguard.net import sessions; print([(str(it.peer), it.port) for it in sessions.read().sessions])"
    shell = f"env -u SSH_CONNECTION {sys.executable} -c '{code}'; true"
    assert "('203.0.113.9', 2222)" in subprocess.check_output(["sh", "-c", shell], text=True)
