# SPDX-License-Identifier: GPL-2.0
"""Frames with the address of a device above the guarded interface: a bridge's, a macvlan's, VRRP's."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from support.command import Command
from support.field import HOST4, INTERFACE, NETWORK, OUTSIDE4, Field, macs, reasons, shown, watching
from support.traffic import eventually

from xdpguard.net.netns import entered

VRRP = "00:00:5e:00:01:05"  # of virtual router 5, RFC 5798
GUEST4 = f"{NETWORK}.77"


@pytest.fixture
def field() -> Iterator[Field]:
    with Field(f"xgup{os.getpid()}") as made:
        made.run(made.host, f"ip address del {HOST4}/24 dev {INTERFACE}")
        yield made


def bridge(field: Field) -> list[str]:
    for line in (
        "ip link add br0 address 02:00:00:77:00:99 type bridge",
        f"ip link set {INTERFACE} master br0",
        "ip link set br0 up",
        f"ip address add {HOST4}/24 dev br0",
    ):
        field.run(field.host, line)
    return ["02:00:00:77:00:99"]


def macvlan(field: Field, mac: str = "02:00:00:77:00:98", lower: str = INTERFACE) -> list[str]:
    field.run(field.host, f"ip link add link {lower} name mac0 address {mac} type macvlan mode bridge")
    field.run(field.host, "ip link set mac0 up")
    field.run(field.host, f"ip address add {HOST4}/24 dev mac0")
    return [mac]


def vrrp_on_bridge(field: Field) -> list[str]:
    own = bridge(field)
    field.run(field.host, f"ip address del {HOST4}/24 dev br0")
    return own + macvlan(field, VRRP, "br0")


TOPOLOGIES = {
    "bridge": bridge,
    "macvlan": macvlan,
    "VRRP": lambda field: macvlan(field, VRRP),
    "VRRP over a bridge": vrrp_on_bridge,
}


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_device_above_is_guarded(field: Field, command: Command, name: str) -> None:
    """Every SYN is answered, as guard show says, and the connections work."""
    expected = TOPOLOGIES[name](field)
    command.ok("attach", INTERFACE, "--netns", field.host)
    with field.serving():
        assert field.connects(), "positive control: without the guard"
        assert reasons(command)["cookie_sent"] == 0
        command.ok("guard", "set", "mode=always")
        assert macs(command, field.host) == set(expected)
        assert all(field.connects() for _ in range(3))
    assert reasons(command)["cookie_sent"] >= 3
    assert shown(command)["passed"] == []


def test_a_guest_behind_the_bridge_is_left_alone(field: Field, command: Command) -> None:
    """It has an address of its own, and segments to it have no sockets here."""
    bridge(field)
    guest = field.more("g")
    for line in (f"ip link add g0 type veth peer name eth0 netns {guest}", "ip link set g0 master br0 up"):
        field.run(field.host, line)
    field.run(guest, f"ip address add {GUEST4}/24 dev eth0")
    field.run(guest, "ip link set eth0 up")
    command.ok("attach", INTERFACE, "--netns", field.host)
    command.ok("guard", "set", "mode=always")
    with field.serving(), field.serving(guest):
        assert all(field.connects(GUEST4) for _ in range(3))
        counted = reasons(command)
        assert counted["cookie_sent"] == counted["ack_unknown"] == counted["cookie_bad"] == 0
        assert field.connects(), "positive control: the host's own"
        assert reasons(command)["cookie_sent"] >= 1


def test_a_macvlan_of_another_namespace_is_not_ours(field: Field, command: Command) -> None:
    """Neither one that a container has, nor what stands on a device of another namespace."""
    container = field.more("c")
    field.run(field.host, f"ip address add {HOST4}/24 dev {INTERFACE}")
    field.run(field.host, f"ip link add link {INTERFACE} name mac1 address 02:00:00:77:00:97 type macvlan mode bridge")
    field.run(field.host, f"ip link set mac1 netns {container}")
    field.run(container, f"ip address add {GUEST4}/24 dev mac1")
    field.run(container, "ip link set mac1 up")
    command.ok("attach", INTERFACE, "--netns", field.host)
    command.ok("guard", "set", "mode=always")
    assert macs(command, field.host) == set()
    with field.serving(), field.serving(container):
        assert all(field.connects(GUEST4) for _ in range(3))
        assert reasons(command)["cookie_sent"] == reasons(command)["ack_unknown"] == 0
        assert field.connects(), "positive control: the host's own"
        assert reasons(command)["cookie_sent"] >= 1


def test_run_follows_devices_above(field: Field, command: Command) -> None:
    """A virtual router's address that comes is answered for, and one that goes is not."""
    command.ok("attach", INTERFACE, "--netns", field.host)
    command.ok("guard", "set", "mode=always")
    with watching(command):
        macvlan(field, VRRP)
        assert eventually(lambda: macs(command, field.host) == {VRRP}, 30)
        with field.serving():
            assert field.connects()
        assert reasons(command)["cookie_sent"] >= 1
        field.run(field.host, "ip link del mac0")
        assert eventually(lambda: macs(command, field.host) == set(), 30)


def test_sockets_bound_to_the_bridge_go_on(field: Field, command: Command) -> None:
    """The guard asks for sockets as of its own interface, so these it does not see: their segments pass."""
    bridge(field)
    command.ok("attach", INTERFACE, "--netns", field.host)
    command.ok("guard", "set", "mode=always")
    assert shown(command)["passed"] == []
    with field.serving(port=9000, device="br0"):
        command.ok("guard", "set", "mode=always")
        assert shown(command)["passed"] == ["sockets bound to br0"]
        assert "segments without a socket pass: sockets bound to br0" in command.ok("guard", "show")
        assert field.connects(port=9000)
    assert reasons(command)["ack_unknown"] == 0


def test_sockets_of_the_interface_itself_are_seen(field: Field, command: Command) -> None:
    """Bound to the guarded interface, they are found: nothing is passed for their sake."""
    field.run(field.host, f"ip address add {HOST4}/24 dev {INTERFACE}")
    command.ok("attach", INTERFACE, "--netns", field.host)
    with entered(field.host):
        client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, INTERFACE.encode())
    with field.serving(field.outside), client:
        command.ok("guard", "set", "mode=always")
        client.settimeout(5)
        client.connect((OUTSIDE4, 8000))
        client.sendall(b"hello")
        assert client.recv(16) == b"hello"
        assert shown(command)["passed"] == []
