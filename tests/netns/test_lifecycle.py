# SPDX-License-Identifier: GPL-2.0
"""Attaching, detaching, and everything that can go wrong between them."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command import Command, on
from support.foreign import XDP_PASS, put_foreign
from support.patience import patient
from support.traffic import Echo, client_address, eventually, works
from topology import INTERFACE, OUTSIDE4, OUTSIDE6, SERVER4, Lab

from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.sys.abi import ABI
from xdpguard.net.links import Links
from xdpguard.net.refusals import AttachRefused


@pytest.fixture
def spare(lab: Lab) -> Iterator[str]:
    """A veth end of the test's own in the server's namespace."""
    subprocess.run(
        ["ip", "-n", lab.server, "link", "add", "spare0", "type", "veth", "peer", "name", "spare1"], check=True
    )
    yield "spare0"
    subprocess.run(["ip", "-n", lab.server, "link", "del", "spare0"], check=False, capture_output=True)


def program_of(lab: Lab, name: str = INTERFACE) -> int | None:
    xdp = Links().get(name, lab.server).xdp
    return xdp.prog_id if xdp else None


def test_attach_status_detach(lab: Lab, command: Command) -> None:
    command.ok("attach", INTERFACE, "--netns", lab.server)
    (interface,) = command.json("status")["interfaces"]
    assert interface["prog_id"] == program_of(lab)
    assert (interface["name"], interface["netns"], interface["mode"]) == (INTERFACE, lab.server, "native")
    command.ok("detach", INTERFACE, "--netns", lab.server)
    assert program_of(lab) is None
    assert command.json("status")["interfaces"] == []
    assert not command.pins.exists()


def test_attach_twice_swaps_and_keeps_rules_and_counters(lab: Lab, command: Command, echo: Echo) -> None:
    del echo
    command.ok("attach", INTERFACE, "--netns", lab.server)
    command.ok("block", client_address(4))
    assert not works(lab, 4, "tcp")
    before = on(command.json("stats"), INTERFACE)
    first = program_of(lab)
    command.ok("attach", INTERFACE, "--netns", lab.server)
    assert program_of(lab) != first
    assert on(command.json("stats"), INTERFACE)["packets"] >= before["packets"] > 0
    assert command.json("rules")[0]["packets"] > 0
    assert not works(lab, 4, "tcp")


def test_rules_and_hits_survive_detaching(lab: Lab, command: Command, echo: Echo) -> None:
    del echo
    command.ok("attach", INTERFACE, "--netns", lab.server)
    command.ok("block", client_address(4), "--for", "1h", "--reason", "a test")
    assert not works(lab, 4, "udp")
    (before,) = command.json("rules")
    assert before["packets"] == 1
    command.ok("detach", "--all")
    assert command.json("rules") == [before]
    command.ok("attach", INTERFACE, "--netns", lab.server)
    assert command.json("rules") == [before]
    assert not works(lab, 4, "udp")
    (after,) = command.json("rules")
    assert after["packets"] == before["packets"] + 1
    command.ok("detach", "--all")
    command.ok("attach", INTERFACE, "--netns", lab.server)
    assert command.json("rules") == [after]


def test_rules_made_while_detached_are_in_force_after_attaching(lab: Lab, command: Command, echo: Echo) -> None:
    del echo
    result = command("block", client_address(4))
    assert result.code == 0
    assert "nothing is attached" in result.err
    assert works(lab, 4, "tcp")
    command.ok("attach", INTERFACE, "--netns", lab.server)
    assert not works(lab, 4, "tcp")


def test_a_foreign_program_is_left_alone(lab: Lab, command: Command, spare: str) -> None:
    foreign = put_foreign(lab, spare)
    line = command.refused(1, "attach", spare, "--netns", lab.server)
    assert "somebodys" in line
    assert "--replace" in line
    assert program_of(lab, spare) == foreign
    assert not command.pins.exists()
    command.refused(1, "detach", spare, "--netns", lab.server)
    assert program_of(lab, spare) == foreign
    command.ok("attach", spare, "--netns", lab.server, "--replace")
    assert program_of(lab, spare) not in (None, foreign)


def test_detach_after_a_foreign_program_took_over(lab: Lab, command: Command, spare: str) -> None:
    command("attach", spare, "--netns", lab.server, "--mode", "native")
    foreign = put_foreign(lab, spare, replaced=program_of(lab, spare))
    assert command.json("status")["interfaces"][0]["state"] == "replaced"
    result = command("detach", spare, "--netns", lab.server)
    assert result.code == 0
    assert "left alone" in result.err
    assert program_of(lab, spare) == foreign
    assert command.json("status")["interfaces"] == []
    assert not command.pins.exists()


def test_the_kernel_itself_keeps_us_from_taking_anothers_program_off(lab: Lab, spare: str) -> None:
    """Between our look and our step a foreign program may come: only the one expected is ever replaced."""
    foreign = put_foreign(lab, spare)
    links = Links()
    ours = kernel.load_xdp(XDP_PASS, "ours")
    try:
        link = links.get(spare, lab.server)
        with pytest.raises(AttachRefused):
            links.detach(link, "native", ours)
        with pytest.raises(AttachRefused):
            links.attach(link, ours, "native", None)
        with pytest.raises(AttachRefused):
            links.attach(link, ours, "native", ours)
    finally:
        os.close(ours)
    assert program_of(lab, spare) == foreign


def test_a_renamed_interface_is_not_lost(lab: Lab, command: Command, spare: str) -> None:
    command.ok("attach", spare, "--netns", lab.server)
    assert f"xdpguard detach {spare} --netns {lab.server}" in command.refused(2, "detach", spare), "where it is"
    subprocess.run(["ip", "-n", lab.server, "link", "set", spare, "name", "other0"], check=True)
    try:
        (interface,) = command.json("status")["interfaces"]
        assert (interface["state"], interface["prog_id"]) == ("renamed", program_of(lab, "other0"))
        result = command("detach", "--all")
        assert result.code == 0
        assert "is now other0" in result.err
        assert program_of(lab, "other0") is None
        assert not command.pins.exists()
    finally:
        subprocess.run(["ip", "-n", lab.server, "link", "set", "other0", "name", spare], check=True)


def test_a_remembered_configuration_that_was_deleted(lab: Lab, command: Command, tmp_path: Path) -> None:
    config = tmp_path / "guard.toml"
    config.write_text('[rules]\nports = ["9/udp"]\n')
    command.ok("attach", INTERFACE, "--netns", lab.server, "--config", str(config))
    config.unlink()
    line = command.refused(2, "attach", INTERFACE, "--netns", lab.server)
    assert "--no-config" in line
    command.ok("attach", INTERFACE, "--netns", lab.server, "--no-config")
    assert command.json("rules") == []
    command.ok("attach", INTERFACE, "--netns", lab.server)


def test_a_failed_attach_keeps_the_configuration_before_it(lab: Lab, command: Command, tmp_path: Path) -> None:
    command.ok("attach", INTERFACE, "--netns", lab.server)
    config = tmp_path / "other.toml"
    config.write_text('[limits]\nrules = 2048\n[rules]\nports = ["9/udp"]\n')
    command.refused(1, "attach", INTERFACE, "--netns", lab.server, "--config", str(config))
    assert command.json("rules") == []
    command.ok("attach", INTERFACE, "--netns", lab.server)


def test_pins_of_another_abi(lab: Lab, command: Command, echo: Echo) -> None:
    del echo
    command.ok("attach", INTERFACE, "--netns", lab.server)
    command.ok("block", client_address(4))
    old = program_of(lab)
    (command.pins / f"v{ABI}").rename(command.pins / "v0")  # as an xdpguard of another version would have left it
    result = command("attach", INTERFACE, "--netns", lab.server)
    assert result.code == 0, result
    assert "another version" in result.err
    assert program_of(lab) != old
    assert sorted(path.name for path in command.pins.iterdir()) == [f"v{ABI}"]
    assert not works(lab, 4, "tcp")


def test_another_layout_is_refused_and_what_is_attached_goes_on(
    lab: Lab, command: Command, echo: Echo, tmp_path: Path
) -> None:
    del echo
    command.ok("attach", INTERFACE, "--netns", lab.server)
    command.ok("block", client_address(4))
    before = program_of(lab)
    pins = sorted(command.pins.rglob("*"))
    config = tmp_path / "small.toml"
    config.write_text("[limits]\nrules = 2048\n")
    line = command.refused(1, "attach", INTERFACE, "--netns", lab.server, "--config", str(config))
    assert "layout" in line
    assert program_of(lab) == before
    assert sorted(command.pins.rglob("*")) == pins
    assert not works(lab, 4, "tcp")
    command.ok("detach", "--all")
    command.ok("attach", INTERFACE, "--netns", lab.server, "--config", str(config))
    assert not works(lab, 4, "tcp")


def test_two_instances_side_by_side(lab: Lab, command: Command, spare: str, echo: Echo) -> None:
    del echo
    other = Command(command.state, command.instance + "-b")
    try:
        command.ok("attach", INTERFACE, "--netns", lab.server)
        other.ok("attach", spare, "--netns", lab.server)
        other.ok("block", client_address(4))
        assert works(lab, 4, "tcp"), "the other instance's rule is not this one's"
        assert [it["name"] for it in command.json("status")["interfaces"]] == [INTERFACE]
        other.refused(1, "attach", INTERFACE, "--netns", lab.server)
        other.refused(1, "detach", INTERFACE, "--netns", lab.server)
        other.ok("detach", "--all")
        assert program_of(lab) is not None
        command.ok("block", client_address(4))
        assert not works(lab, 4, "tcp")
    finally:
        other.clean()


def test_two_interfaces_share_rules_and_count_apart(lab: Lab, command: Command, spare: str, echo: Echo) -> None:
    del echo
    command.ok("attach", INTERFACE, "--netns", lab.server)
    command.ok("attach", spare, "--netns", lab.server)
    assert works(lab, 4, "tcp")
    stats = command.json("stats")
    assert on(stats, INTERFACE)["protocols"]["tcp"] > 0
    assert on(stats, spare)["protocols"]["tcp"] == 0
    command.ok("detach", spare, "--netns", lab.server)
    assert program_of(lab) is not None
    command.ok("block", client_address(4))
    assert not works(lab, 4, "tcp")


def test_an_interface_that_disappears(lab: Lab, command: Command, spare: str) -> None:
    command.ok("attach", spare, "--netns", lab.server)
    subprocess.run(["ip", "-n", lab.server, "link", "del", spare], check=True)
    (interface,) = command.json("status")["interfaces"]
    assert (interface["state"], interface["prog_id"]) == ("gone", None)
    command.ok("block", "203.0.113.9")
    command.ok("stats")
    command.ok("detach", spare, "--netns", lab.server)
    assert command.json("status")["interfaces"] == []
    assert not command.pins.exists()


def test_a_namespace_that_disappears(lab: Lab, command: Command) -> None:
    name = f"{lab.name}-short"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "add", "a0", "type", "veth", "peer", "name", "a1"], check=True)
        command.ok("attach", "a0", "--netns", name)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)
    assert command.json("status")["interfaces"][0]["state"] == "gone"
    command.ok("detach", "--all")
    assert command.json("status")["interfaces"] == []
    assert not command.pins.exists()


def test_tables_are_made_large_enough_for_what_is_stored(lab: Lab, command: Command) -> None:
    count = 140_000
    addresses = "".join(f"100.{64 + (n >> 16)}.{n >> 8 & 255}.{n & 255}\n" for n in range(count))
    command.ok("block", "-", stdin=addresses)
    command.ok("attach", INTERFACE, "--netns", lab.server)
    audit = command.json("status")["audit"]
    assert audit["rules"] == {"stored": count, "held": count}
    command.ok("block", "100.99.0.1")


def test_a_full_table_refuses_and_changes_nothing(lab: Lab, command: Command, tmp_path: Path) -> None:
    config = tmp_path / "small.toml"
    config.write_text("[limits]\nrules = 1024\n")
    command.ok("attach", INTERFACE, "--netns", lab.server, "--config", str(config))
    addresses = "".join(f"10.1.{n // 256}.{n % 256}\n" for n in range(1024))
    command.ok("block", "-", stdin=addresses)
    before = command.json("rules")
    assert len(before) == 1024
    line = command.refused(1, "block", "10.9.9.9")
    assert "limits.rules" in line
    command.refused(1, "allow", "10.9.9.9", "10.9.9.10")
    assert command.json("rules") == before
    command.ok("block", "10.1.0.1", "--reason", "one that is there is renewed")
    command.ok("unblock", "10.1.0.0")
    command.ok("block", "10.9.9.9")


def test_commands_at_the_same_time_wait_for_each_other(attached: Command) -> None:
    running = [
        subprocess.Popen(attached.line("block", f"203.0.113.{n}"), env=attached.environment, stdout=subprocess.DEVNULL)
        for n in range(8)
    ]
    assert [process.wait(patient(60)) for process in running] == [0] * 8
    assert {rule["target"] for rule in attached.json("rules")} == {f"203.0.113.{n}" for n in range(8)}


def test_a_waiting_command_says_so(attached: Command) -> None:
    with (attached.store.parent / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = subprocess.Popen(
            attached.line("block", "203.0.113.1"), env=attached.environment, stderr=subprocess.PIPE, text=True
        )
        assert waiting.stderr is not None
        assert "waiting for another xdpguard command" in waiting.stderr.readline()
        assert attached.json("rules") == [], "reading goes on meanwhile"
        fcntl.flock(lock, fcntl.LOCK_UN)
    assert waiting.wait(patient(30)) == 0
    waiting.stderr.close()
    assert len(attached.json("rules")) == 1


def test_an_interface_without_native_mode(lab: Lab, command: Command) -> None:
    subprocess.run(["ip", "-n", lab.server, "link", "add", "bridge0", "type", "bridge"], check=True)
    try:
        line = command.refused(1, "attach", "bridge0", "--netns", lab.server, "--mode", "native")
        assert "generic" in line
        assert not command.pins.exists()
        result = command("attach", "bridge0", "--netns", lab.server)
        assert result.code == 0
        assert "generic mode" in result.err
        assert "does not support" in result.err
        assert command.json("status")["interfaces"][0]["mode"] == "generic"
        line = command.refused(1, "attach", "bridge0", "--netns", lab.server, "--mode", "native")
        assert "detach it first" in line
    finally:
        command("detach", "--all")
        subprocess.run(["ip", "-n", lab.server, "link", "del", "bridge0"], check=True)


def test_an_interface_without_ethernet_headers_is_refused(lab: Lab, command: Command) -> None:
    subprocess.run(["ip", "-n", lab.server, "tuntap", "add", "dev", "tunnel0", "mode", "tun"], check=True)
    try:
        line = command.refused(1, "attach", "tunnel0", "--netns", lab.server)
        assert "is not an Ethernet interface" in line
        assert not command.pins.exists()
    finally:
        subprocess.run(["ip", "-n", lab.server, "link", "del", "tunnel0"], check=True)


def test_jumbo_frames(lab: Lab, command: Command, spare: str) -> None:
    """A program built for frames in several buffers; the kernel takes it, and where it cannot go native it says so."""
    for name in (spare, "spare1"):
        subprocess.run(["ip", "-n", lab.server, "link", "set", name, "mtu", "9000"], check=True)
    command.ok("guard", "set", "mode=off")  # on, it would have generic mode, as the peer carries no program
    command("attach", spare, "--netns", lab.server)
    assert command.json("status")["interfaces"][0]["mode"] == "native"


def test_rules_of_the_configuration(lab: Lab, command: Command, echo: Echo, tmp_path: Path) -> None:
    del echo
    config = tmp_path / "guard.toml"
    config.write_text(f'[rules]\nblock = ["{client_address(4)}"]\nports = ["9/udp"]\n')
    command.ok("attach", INTERFACE, "--netns", lab.server, "--config", str(config))
    assert not works(lab, 4, "tcp")
    assert {(rule["target"], rule["source"]) for rule in command.json("rules")} == {
        (client_address(4), "config"),
        ("9/udp", "config"),
    }
    command.ok("block", client_address(4, 1))
    config.write_text('[rules]\nports = ["9/udp"]\n')
    command.ok("attach", INTERFACE, "--netns", lab.server)  # the file is remembered
    assert works(lab, 4, "tcp")
    assert not works(lab, 4, "tcp", client=1), "what the command line made stays"
    assert eventually(lambda: len(command.json("rules")) == 2)


def test_what_a_guarded_namespace_needs(lab: Lab, command: Command) -> None:
    """Its own addresses, its gateway: no rule may cut them off, whatever namespace the command runs in."""
    command.ok("block", OUTSIDE4, SERVER4)
    refused = command.refused(1, "attach", INTERFACE, "--netns", lab.server)
    assert f"is an address of this host in {lab.server}, and the rule {SERVER4} blocks it" in refused
    assert program_of(lab) is None
    command.ok("unblock", OUTSIDE4, SERVER4)
    command.ok("attach", INTERFACE, "--netns", lab.server)
    for target, role in ((SERVER4, "an address of this host"), (OUTSIDE6, "this host's gateway")):
        assert f"{target} is {role} in {lab.server}" in command.refused(1, "block", target)
    both = command.refused(1, "block", "198.18.0.0/30")
    for target, role in ((OUTSIDE4, "this host's gateway"), (SERVER4, "an address of this host")):
        assert f"{target} ({role} in {lab.server})" in both
    command.ok("block", SERVER4, "--shadow")
    assert "is an address of this host" in command.refused(1, "promote", SERVER4)
    command.ok("unblock", SERVER4, "--shadow")
    assert command.json("rules") == []
    command.ok("allow", OUTSIDE4)
    command.ok("block", OUTSIDE4)
    assert f"is this host's gateway in {lab.server}, and {OUTSIDE4} blocks it" in command.refused(
        1, "disallow", OUTSIDE4
    )
    command.ok("block", SERVER4, "--force")
    assert "blocks it" in command.refused(1, "attach", INTERFACE, "--netns", lab.server)
    command.ok("attach", INTERFACE, "--netns", lab.server, "--force")
