# SPDX-License-Identifier: GPL-2.0
"""Killed, interrupted, restarted, pins or store lost: nothing half attached, no rule and no hit lost."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from support.command import Command
from support.traffic import PORT, Echo, client_address, works
from topology import INTERFACE, Lab

from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.sys.abi import ABI
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import guard, guardpolicy
from xdpguard.net.links import Links
from xdpguard.store.database import Store

XDP_PASS = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 2, 0x95, 0, 0, 0)


def program_of(lab: Lab, name: str = INTERFACE) -> int | None:
    xdp = Links().get(name, lab.server).xdp
    return xdp.prog_id if xdp else None


ATTACH_STEPS = ["prepare", "compile", "fill", "record", "mark", "begin", "attach", "confirm", "commit", "done"]


@pytest.mark.parametrize("step", [*ATTACH_STEPS, "guard"])
def test_killed_while_attaching(lab: Lab, command: Command, echo: Echo, step: str) -> None:
    del echo
    command.ok("block", client_address(4))
    result = command("attach", INTERFACE, "--netns", lab.server, kill_at=step)
    assert result.code == -signal.SIGKILL
    # Either nothing is attached, or a program that holds the rule: never a half of it.
    assert works(lab, 4, "tcp") == (program_of(lab) is None)
    assert works(lab, 4, "tcp", client=1)
    command.ok("attach", INTERFACE, "--netns", lab.server)
    assert not works(lab, 4, "tcp")
    assert works(lab, 4, "tcp", client=1)
    assert len(command.json("rules")) == 1
    command.ok("detach", "--all")
    assert program_of(lab) is None
    assert not command.pins.exists()


@pytest.mark.parametrize("step", ATTACH_STEPS)
def test_killed_while_swapping(lab: Lab, command: Command, echo: Echo, step: str) -> None:
    del echo
    command.ok("attach", INTERFACE, "--netns", lab.server)
    command.ok("block", client_address(4))
    result = command("attach", INTERFACE, "--netns", lab.server, kill_at=step)
    assert result.code == -signal.SIGKILL
    assert not works(lab, 4, "tcp")
    assert command.json("status")["interfaces"][0]["state"] == "attached"
    command.ok("unblock", client_address(4))
    assert works(lab, 4, "tcp")


@pytest.mark.parametrize("then_detach", [False, True])
@pytest.mark.parametrize("step", ["detach", "forget", "fold in", "unpin"])
def test_killed_while_detaching(lab: Lab, command: Command, echo: Echo, step: str, then_detach: bool) -> None:
    del echo
    command.ok("attach", INTERFACE, "--netns", lab.server)
    command.ok("block", client_address(4))
    assert not works(lab, 4, "udp")
    result = command("detach", INTERFACE, "--netns", lab.server, kill_at=step)
    assert result.code == -signal.SIGKILL
    assert command.json("rules")[0]["packets"] == 1
    if then_detach:
        command.ok("detach", "--all")
        assert command.json("rules")[0]["packets"] == 1
        assert not command.pins.exists()
    command.ok("attach", INTERFACE, "--netns", lab.server)
    assert not works(lab, 4, "udp")
    assert command.json("rules")[0]["packets"] == 2, "every hit is counted once, whatever was interrupted"
    command.ok("detach", "--all")
    assert not command.pins.exists()
    assert command.json("rules")[0]["packets"] == 2


def test_killed_while_a_rule_is_added(lab: Lab, attached: Command, echo: Echo) -> None:
    """An older xdpguard committed the store first: its mark is honoured, and the next command makes up for it."""
    del echo
    attached.ok("block", client_address(4))
    tables = Path("/sys/fs/bpf/xdpguard") / attached.instance / f"v{ABI}" / "deny4"
    descriptor = kernel.open_pin(str(tables))
    assert kernel.delete(descriptor, bytes(int(part) for part in client_address(4).split(".")) + bytes(4))
    os.close(descriptor)
    with Store(attached.store) as store:
        store.put_fact("pending", "1")
    assert works(lab, 4, "tcp")
    attached.ok("block", client_address(4, 3))
    assert not works(lab, 4, "tcp")
    assert not works(lab, 4, "tcp", client=3)


@pytest.mark.parametrize("step", ["mark", "begin", "rules", "commit", "done"])
def test_killed_while_blocking(lab: Lab, attached: Command, echo: Echo, step: str) -> None:
    """All of it or nothing, in store and kernel after the next command, whatever that is of."""
    del echo
    attached.ok("block", client_address(4, 1))
    assert attached("block", client_address(4), kill_at=step).code == -signal.SIGKILL
    reached = step in ("commit", "done")
    assert works(lab, 4, "tcp") == (not reached)
    assert attached.json("status")["audit"]["behind"] == (step not in ("mark", "done"))
    attached.ok("block", "--shadow", "203.0.113.9")
    done = step == "done"
    assert works(lab, 4, "tcp") == (not done)
    assert not works(lab, 4, "tcp", client=1)
    assert len(attached.json("rules", "--kind", "block")) == 1 + done
    audit = attached.json("status")["audit"]
    assert (audit["ratio"], audit["behind"]) == (1, False)


@pytest.mark.parametrize("step", ["mark", "begin", "guard", "commit", "done"])
def test_killed_while_the_guards_policy_is_set(lab: Lab, attached: Command, step: str) -> None:
    pins = Pins(Path("/sys/fs/bpf"), attached.instance)
    before = guardpolicy.in_force(pins)
    assert attached("guard", "set", "mode=always", kill_at=step).code == -signal.SIGKILL
    attached.ok("block", "203.0.113.9")
    done = step == "done"
    assert (guardpolicy.in_force(pins) == before) == (not done)
    assert guard.read(pins, INTERFACE, lab.server).active() == done
    assert attached.json("guard", "show")["policy"]["mode"] == ("always" if done else "auto")


def with_list(folder: Path) -> Path:
    """A configuration that blocks the first client by a rule, the second by a list, the fourth by a filter with one."""
    (folder / "list").write_text(f"{client_address(4, 1)}\n")
    (folder / "asked").write_text(f"{client_address(4, 3)}\n")
    config = folder / "guard.toml"
    config.write_text(
        f'[rules]\nblock = ["{client_address(4)}"]\n[lists.x]\nfile = "list"\n'
        '[lists.y]\nfile = "asked"\nshadow = true\n'
        '[[filters]]\nname = "f"\nmatch = "ip saddr @y"\naction = "drop"\n'
    )
    return config


@pytest.mark.parametrize("step", ["begin", "lists", "rules", "filters", "attach", "confirm", "commit", "done"])
def test_killed_while_a_configuration_comes_with_an_attach(
    lab: Lab, command: Command, echo: Echo, tmp_path: Path, step: str
) -> None:
    """Rules, lists and filters of the file are in force together, or those of before are."""
    del echo
    config = with_list(tmp_path)
    command.ok("attach", INTERFACE, "--netns", lab.server)
    command.ok("block", client_address(4, 2))
    arguments = ("attach", INTERFACE, "--netns", lab.server, "--config", str(config))
    assert command(*arguments, kill_at=step).code == -signal.SIGKILL
    assert not works(lab, 4, "tcp", client=2)
    assert works(lab, 4, "tcp", client=3) == (step in ("begin", "lists", "rules", "filters")), "before the program"
    command.ok("block", "203.0.113.9")
    passes = step != "done"
    assert [works(lab, 4, "tcp", client=client) for client in range(4)] == [passes, passes, False, passes]
    assert command.json("status")["audit"]["ratio"] == 1
    assert len(command.json("lists", "show")) == 2 * (not passes)
    command.ok(*arguments)
    assert [works(lab, 4, "tcp", client=client) for client in range(5)] == [False] * 4 + [True]


def test_a_default_comes_after_the_filters_that_pass(lab: Lab, command: Command, echo: Echo, tmp_path: Path) -> None:
    """Both come with an attach: there is no moment in which the default cuts what a filter passes."""
    del echo
    config = tmp_path / "guard.toml"
    config.write_text(
        '[default]\npolicy = "drop"\nmode = "enforce"\nstrict_udp = true\n'
        f'[[filters]]\nname = "ssh"\nmatch = "tcp dport {{ 22, {PORT} }}"\naction = "pass"\n'
    )
    command.ok("attach", INTERFACE, "--netns", lab.server)
    arguments = ("attach", INTERFACE, "--netns", lab.server, "--config", str(config))
    for step in ("default", "attach"):
        assert command(*arguments, kill_at=step).code == -signal.SIGKILL
        assert works(lab, 4, "tcp"), step
        assert works(lab, 4, "udp") == (step == "default"), "positive control: the default is in force"
        command.ok("block", "203.0.113.9")
        assert works(lab, 4, "udp"), "as before"
    command.ok(*arguments)
    assert (works(lab, 4, "tcp"), works(lab, 4, "udp")) == (True, False)


def refusing(folder: Path, text: str) -> str:
    """A script that runs a command whose code is changed so."""
    script = folder / "changed.py"
    script.write_text(f"import sys\n{text}from xdpguard.cli.app import run\nsys.exit(run(sys.argv[1:]))\n")
    return str(script)


@pytest.mark.parametrize("before", [False, True])
def test_an_attach_whose_filters_are_refused_leaves_no_program(
    lab: Lab, command: Command, echo: Echo, tmp_path: Path, before: bool
) -> None:
    """Nor does it change the one that was there."""
    del echo
    config = with_list(tmp_path)
    if before:
        command.ok("attach", INTERFACE, "--netns", lab.server)
    program = program_of(lab)
    script = refusing(
        tmp_path,
        "from xdpguard.control.filter_set import FilterSet\n"
        "def put(its, filters, generation):\n"
        "    if filters:\n"
        "        raise OSError(12, 'Cannot allocate memory')\n"
        "    its.empty()\n"
        "FilterSet.put = put\n",
    )
    arguments = [sys.executable, script, "attach", INTERFACE, "--netns", lab.server, "--config", str(config)]
    done = subprocess.run(arguments, env=command.environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "did not accept the filters" in done.stderr) == (1, True), done
    assert program_of(lab) == program
    assert all(works(lab, 4, "tcp", client=client) for client in range(4))
    assert (command.json("rules"), command.json("lists", "show"), command.json("filter", "list")) == ([], [], [])
    assert command.pins.exists() == before


def test_an_attach_that_is_refused_leaves_nothing_of_its_configuration(
    lab: Lab, command: Command, echo: Echo, tmp_path: Path
) -> None:
    del echo
    config = with_list(tmp_path)
    command.ok("attach", INTERFACE, "--netns", lab.server)
    script = refusing(
        tmp_path,
        "from xdpguard.net.links import Links\n"
        "from xdpguard.net.refusals import AttachRefused\n"
        "def attach(*a):\n"
        "    raise AttachRefused('refused', 'by the test', 22)\n"
        "Links.attach = attach\n",
    )
    arguments = [sys.executable, script, "attach", INTERFACE, "--netns", lab.server, "--config", str(config)]
    done = subprocess.run(arguments, env=command.environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "refused" in done.stderr) == (1, True), done
    assert all(works(lab, 4, "tcp", client=client) for client in range(2))
    assert (command.json("rules"), command.json("lists", "show")) == ([], [])
    audit = command.json("status")["audit"]
    assert (audit["ratio"], audit["behind"]) == (1, False)


def test_a_lost_store_loses_no_program(lab: Lab, command: Command) -> None:
    command.ok("attach", INTERFACE, "--netns", lab.server)
    command.ok("block", "203.0.113.9")
    command.store.unlink()
    assert "xdpguard recover" in command.refused(1, "status")
    assert "xdpguard recover" in command.refused(1, "detach", "--all")
    command.ok("recover")
    (interface,) = command.json("status")["interfaces"]
    assert interface["prog_id"] == program_of(lab)
    command.ok("detach", "--all")
    assert program_of(lab) is None
    assert not command.pins.exists()


def test_interrupted_after_the_kernels_answer(lab: Lab, command: Command, tmp_path: Path) -> None:
    """Ctrl-C between the kernel's attaching and our knowing of it: recorded as what it is."""
    script = tmp_path / "interrupted.py"
    script.write_text(
        "import sys\n"
        "from xdpguard.net.links import Links\n"
        "real = Links.attach\n"
        "def attach(*a):\n"
        "    real(*a)\n"
        "    raise KeyboardInterrupt\n"
        "Links.attach = attach\n"
        "from xdpguard.cli.app import run\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    arguments = [sys.executable, str(script), "attach", INTERFACE, "--netns", lab.server]
    done = subprocess.run(arguments, env=command.environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    (interface,) = command.json("status")["interfaces"]
    assert (interface["state"], interface["prog_id"]) == ("attached", program_of(lab))
    command.ok("detach", INTERFACE, "--netns", lab.server)
    assert program_of(lab) is None


def forget_pins(command: Command) -> None:
    for path in sorted(command.pins.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def test_lost_pins(lab: Lab, command: Command, echo: Echo) -> None:
    del echo
    command.ok("attach", INTERFACE, "--netns", lab.server)
    command.ok("block", client_address(4))
    forget_pins(command)
    assert command.json("status")["interfaces"][0]["state"] == "attached"
    assert not works(lab, 4, "tcp"), "the program keeps its maps"
    command.ok("attach", INTERFACE, "--netns", lab.server)
    assert not works(lab, 4, "tcp")
    command.ok("unblock", client_address(4))
    assert works(lab, 4, "tcp")
    command.ok("detach", "--all")
    assert program_of(lab) is None


def test_a_restart_of_the_machine(lab: Lab, command: Command, echo: Echo) -> None:
    """The kernel has forgotten programs and pins; the store has not forgotten the rules."""
    del echo
    command.ok("attach", INTERFACE, "--netns", lab.server)
    command.ok("block", client_address(4), "--for", "1h")
    command.ok("block", "--port", "9/udp")
    before = command.json("rules")
    subprocess.run(["ip", "-n", lab.server, "link", "set", INTERFACE, "xdpdrv", "off"], check=True)
    forget_pins(command)
    assert works(lab, 4, "tcp")
    assert command.json("rules") == before
    (interface,) = command.json("status")["interfaces"]
    assert (interface["state"], interface["prog_id"]) == ("detached", None)
    assert "attach it again" in command("status").out
    command.ok("attach", INTERFACE, "--netns", lab.server)
    assert not works(lab, 4, "tcp")
    assert [rule["target"] for rule in command.json("rules")] == [rule["target"] for rule in before]
