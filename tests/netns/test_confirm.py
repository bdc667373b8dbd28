# SPDX-License-Identifier: GPL-2.0
"""Changes that must be confirmed, and undo: on real traffic, whoever is killed, whoever is there to undo it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.command import Command
from support.service import Run, Service
from support.traffic import Echo, client_address, eventually, works
from support.wrong_clock import Wrong
from topology import INTERFACE, SERVER4, Lab

from xdpguard.net.links import Links
from xdpguard.store.database import Store

YEAR = 365 * 86_400
LATE = 60.0  # seconds for something that is due in a few, on a busy machine


@pytest.fixture
def attached(attached: Command, echo: Echo) -> Iterator[Command]:
    del echo
    yield attached
    end_waiting(attached)


def program_of(lab: Lab) -> int | None:
    xdp = Links().get(INTERFACE, lab.server).xdp
    return xdp.prog_id if xdp else None


def waiting(command: Command) -> list[int]:
    """The processes that wait to undo a change of an instance."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"xdpguard.cli.hold" in words and command.instance.encode() in words:
            found.append(int(folder.name))
    return found


def end_waiting(command: Command) -> None:
    """As a restart of the machine does, or whoever kills everything."""
    for pid in waiting(command):
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not waiting(command))


def pending(command: Command) -> Any:
    return command.json("confirm", "--show")["pending"]


def states(command: Command) -> list[str]:
    return [it["state"] for it in command.json("undo", "--list")]


def is_overdue(command: Command) -> bool:
    """Whether the deadline has passed; asked of the store, as every command would undo it."""
    import sqlite3

    with sqlite3.connect(f"file:{command.store}?mode=ro", uri=True) as database:
        rows = database.execute("SELECT deadline FROM changes WHERE state = 'pending'").fetchall()
    database.close()
    return bool(rows) and rows[0][0] < time.clock_gettime(time.CLOCK_BOOTTIME)


def test_an_attach_whose_terminal_is_closed(lab: Lab, command: Command, echo: Echo) -> None:
    del echo
    command.ok("block", client_address(4))
    line = command.line("attach", INTERFACE, "--netns", lab.server, "--confirm", "2s")
    shell = subprocess.Popen(
        ["sh", "-c", '"$@"; echo done; sleep 600', "sh", *line],
        env=command.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert shell.stdout is not None
    with shell.stdout:
        for text in shell.stdout:
            if text == "done\n":
                break
    os.killpg(shell.pid, signal.SIGKILL)
    shell.wait()
    assert eventually(lambda: program_of(lab) is None, LATE)
    assert works(lab, 4, "tcp")
    assert eventually(lambda: not waiting(command))
    assert not command.pins.exists()
    assert states(command) == ["unconfirmed", "kept"]
    assert "was not confirmed in time" in command("status").err
    assert command.json("status")["confirm"]["unconfirmed"]["command"].endswith("--confirm 2s")


def test_what_is_overdue_follows_the_clock_first(attached: Command, lab: Lab, tmp_path: Path) -> None:
    attached.ok("block", client_address(4), "--for", "1h")
    attached.ok("block", client_address(4), "--for", "3h", "--confirm", "60s")
    end_waiting(attached)
    with Store(attached.store) as store:
        store.execute("UPDATE changes SET deadline = 0 WHERE state = 'pending'")
    said = attached("rules", "--json", **Wrong(tmp_path / "ahead").ahead(YEAR))
    assert f"blocked as before: {client_address(4)}" in said.err
    (rule,) = json.loads(said.out)
    assert 3480 < rule["expires"] - time.time() - YEAR <= 3601
    assert not works(lab, 4, "tcp")


def test_a_block_is_undone_and_a_confirmed_one_stays(attached: Command, lab: Lab) -> None:
    assert works(lab, 4, "tcp")
    attached.ok("block", client_address(4), "--confirm", "60s")
    assert not works(lab, 4, "tcp")
    its = pending(attached)
    assert 0 < its["seconds_left"] <= 60
    assert "waits for its confirmation" in attached("status").err
    assert "waits for its confirmation" in attached.refused(1, "block", client_address(4, 1))
    assert "block" in attached.ok("confirm")
    assert eventually(lambda: not waiting(attached)), "whoever waits to undo it is no longer needed"
    assert (pending(attached), states(attached)[0]) == (None, "kept")
    attached.ok("block", client_address(4, 1), "--confirm", "1s")
    assert eventually(lambda: not is_overdue(attached) and works(lab, 4, "tcp", client=1), LATE)
    assert not works(lab, 4, "tcp")
    assert "was not confirmed in time" in attached.refused(1, "confirm")


@pytest.mark.parametrize("then", [["rules"], ["allow", "203.0.113.1"], ["status"]], ids=" ".join)
def test_after_a_restart_the_next_command_undoes_it(attached: Command, lab: Lab, then: list[str]) -> None:
    attached.ok("block", client_address(4), "--confirm", "1s")
    end_waiting(attached)
    assert eventually(lambda: is_overdue(attached), LATE)
    assert not works(lab, 4, "tcp"), "nobody is there"
    result = attached(*then)
    assert "is undone: no longer blocked" in result.err
    assert works(lab, 4, "tcp")
    assert client_address(4) not in [it["target"] for it in attached.json("rules")]


def test_with_the_service(attached: Command, lab: Lab) -> None:
    with Service(attached) as run:
        assert run.says("watching")
        attached.ok("block", client_address(4), "--confirm", "8s")
        end_waiting(attached)
        assert not works(lab, 4, "tcp")
        assert run.says("waits for its confirmation")
        assert run.says("was not confirmed in time", LATE)
        assert works(lab, 4, "tcp")
        assert not run.says("cannot be undone", 0.1)


def test_the_service_undoes_it_before_it_attaches_anything(lab: Lab, command: Command, echo: Echo) -> None:
    """A machine that is started again: no program, nobody who waits, and the time is over."""
    del echo
    command.ok("block", client_address(4, 1))
    command.ok("attach", INTERFACE, "--netns", lab.server, "--confirm", "1s")
    end_waiting(command)
    assert eventually(lambda: is_overdue(command), LATE)
    with Run(command) as run:
        assert run.says("nothing is attached", LATE), run.lines
        assert run.count("was not confirmed in time") == 1, run.lines
        assert not run.count("attached to")
    assert program_of(lab) is None
    assert works(lab, 4, "tcp", client=1)


BLOCK_STEPS = ["arm", "armed", "mark", "begin", "rules", "commit", "done"]


@pytest.mark.parametrize("step", BLOCK_STEPS)
def test_killed_while_it_is_armed_or_made(attached: Command, lab: Lab, step: str) -> None:
    """Made, and then undone by whoever waits or the next command; or not made at all."""
    client = client_address(4)
    assert attached("block", client, "--confirm", "1s", kill_at=step).code == -signal.SIGKILL
    made = step == "done"
    if made:
        assert not works(lab, 4, "tcp")
    assert eventually(lambda: not waiting(attached), LATE)
    if is_overdue(attached):
        attached.ok("rules")
    assert attached.json("rules") == []
    attached.ok("block", "203.0.113.9")
    assert works(lab, 4, "tcp")
    assert states(attached) == ["kept", *["unconfirmed"] * made, "kept"]


@pytest.mark.parametrize("step", ["mark", "begin", "rules", "commit", "done"])
def test_killed_while_undoing(attached: Command, lab: Lab, step: str) -> None:
    """Another undo undoes the same change, unless it was undone."""
    attached.ok("block", client_address(4))
    attached.ok("block", client_address(4, 1))
    assert attached("undo", kill_at=step).code == -signal.SIGKILL
    done = step == "done"
    assert [it["state"] for it in attached.json("undo", "--list")][:2] == ["undone" if done else "kept", "kept"]
    if not done:
        attached.ok("undo")
    assert [works(lab, 4, "tcp", client=number) for number in range(3)] == [False, True, True]
    attached.ok("undo")
    assert works(lab, 4, "tcp")
    assert attached.json("status")["audit"]["ratio"] == 1


@pytest.mark.parametrize("step", ["detach", "forget", "fold in", "unpin"])
def test_killed_while_undoing_an_attach(lab: Lab, command: Command, echo: Echo, tmp_path: Path, step: str) -> None:
    del echo
    config = tmp_path / "guard.toml"
    config.write_text(f'[rules]\nblock = ["{client_address(4)}"]\n')
    command.ok("attach", INTERFACE, "--netns", lab.server, "--config", str(config))
    assert not works(lab, 4, "tcp")
    assert command("undo", kill_at=step).code == -signal.SIGKILL
    command.ok("undo")
    assert program_of(lab) is None
    assert not command.pins.exists()
    assert (command.json("rules"), states(command)) == ([], ["undone"])
    assert "nothing to undo" in command.refused(1, "undo")


def test_an_attach_goes_back_to_the_configuration_of_before(attached: Command, lab: Lab, tmp_path: Path) -> None:
    """Which an edited file no longer holds: it counts again once it is changed."""
    config = tmp_path / "guard.toml"
    again = ("attach", INTERFACE, "--netns", lab.server)

    def written(client: int, mode: str) -> None:
        config.write_text(f'[rules]\nblock = ["{client_address(4, client)}"]\n[guard]\nmode = "{mode}"\n')

    def answered() -> list[bool]:
        return [works(lab, 4, "tcp", client=number) for number in range(3)]

    written(0, "off")
    attached.ok(*again, "--config", str(config))
    written(1, "observe")
    attached.ok(*again, "--config", str(config), "--observe", "--confirm", "60s")
    assert answered() == [True] * 3
    assert "holds another configuration" in attached.ok("undo")
    assert answered() == [False, True, True]
    assert attached.json("guard", "show")["policy"]["mode"] == "off"
    assert attached.json("status")["interfaces"][0]["observe"] is False
    attached.ok(*again)
    assert answered() == [False, True, True]
    written(2, "observe")
    attached.ok(*again)
    assert answered() == [True, True, False]
    attached.ok("undo")
    attached.ok("undo")
    assert attached.json("rules") == [], "before there was a configuration"
    attached.ok("detach", "--all")
    attached.ok("undo")
    assert program_of(lab) is not None


def test_every_kind_of_change(attached: Command, lab: Lab) -> None:
    """Each is undone to what traffic and answers were before it."""
    clients = [client_address(4, number) for number in range(4)]

    def look() -> tuple[list[bool], Any, Any, Any]:
        rules = [(it["kind"], it["target"], it["reason"], it["expires"]) for it in attached.json("rules")]
        lists = [(it["name"], it.get("mode", ""), it["entries"]) for it in attached.json("lists", "show")]
        mode = attached.json("guard", "show")["policy"]["mode"]
        return [works(lab, 4, "tcp", client=number) for number in range(4)], rules, lists, mode

    changes: list[tuple[list[str], str | None]] = [
        (["lists", "load", "x", "-"], f"{clients[2]}\n203.0.113.0/24\n"),
        (["lists", "load", "x", "-"], f"{clients[3]}\n203.0.113.0/24\n"),
        (["lists", "load", "y", "-", "--shadow"], f"{clients[2]}\n"),
        (["block", "--shadow", "198.51.100.0/24"], None),
        (["promote", "--all", "--force"], None),
        (["guard", "set", "mode=observe"], None),
        (["disallow", clients[0]], None),
        (["lists", "remove", "x"], None),
        (["unblock", clients[1], "198.51.100.0/24"], None),
    ]
    attached.ok("block", clients[0], clients[1])
    attached.ok("allow", clients[0])
    seen = [look()]
    for arguments, data in changes:
        attached.ok(*arguments, stdin=data) if data else attached.ok(*arguments)
        seen.append(look())
    listed = attached.json("undo", "--list")
    assert [it["command"] for it in listed[:2]] == [" ".join(it) for it, _ in changes[:-3:-1]]
    for before in seen[-2::-1]:
        attached.ok("undo", "--json")
        assert look() == before


def test_an_undo_is_refused_as_a_command_is(attached: Command) -> None:
    attached.ok("block", SERVER4, "--force")
    attached.ok("unblock", SERVER4)
    assert "allow it first" in attached.refused(1, "undo")
    attached.ok("undo", "--force")
    assert [it["target"] for it in attached.json("rules")] == [SERVER4]
    attached.ok("allow", SERVER4)
    refused = attached.refused(1, "undo")
    assert f"{SERVER4} blocks it" in refused, "without what allows it"
    attached.ok("unblock", SERVER4)
    attached.ok("disallow", SERVER4)
    # What an import has allowed and blocked goes together.
    both = "".join(f'[[rules]]\nkind = "{kind}"\ntarget = "{SERVER4}"\n' for kind in ("allow", "block"))
    attached.ok("import", "-", stdin=both)
    attached.ok("undo")
    assert attached.json("rules") == []
    attached.refused(2, "undo", "--list", "--force")
    attached.refused(2, "block", "203.0.113.9", "--confirm", "2d")
    attached.refused(2, "promote", "--all", "--dry-run", "--confirm", "9s")


def test_a_detach_is_never_refused(attached: Command, lab: Lab) -> None:
    """Nor does what waits attach again what was detached on purpose."""
    attached.ok("attach", INTERFACE, "--netns", lab.server, "--observe", "--confirm", "8s")
    attached.ok("detach", "--all")
    end_waiting(attached)
    assert eventually(lambda: is_overdue(attached), LATE)
    assert "was detached since, and stays so" in attached("rules").err
    assert program_of(lab) is None
    attached.ok("undo")
    assert program_of(lab) is not None
    assert "was changed since" in attached.refused(1, "undo"), "it observes, which the first attach did not"
    attached.ok("undo", "--force")
    assert program_of(lab) is None, "before the first attach"
