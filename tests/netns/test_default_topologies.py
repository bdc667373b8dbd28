# SPDX-License-Identifier: GPL-2.0
"""The default where others share the interface: their filters, containers, VLANs, other names."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from support.command import Command
from support.field import HOST4, INTERFACE, NETWORK, OUTSIDE4, PORT, Field, echoed, watching
from support.kinds import kernel_makes
from support.patience import patient
from support.traffic import eventually

from xdpguard.closeable import opened
from xdpguard.dataplane.sys import kernel
from xdpguard.net import egress
from xdpguard.net.netns import entered

ENFORCED = ["default", "drop", "--enforce"]
STRICT = [*ENFORCED, "--strict-udp"]
WAIT = patient(0.5)  # seconds
CONTAINER4 = f"{NETWORK}.3"
_SCHED_CLS, _UNSPEC = 3, bytes.fromhex("b7000000ffffffff9500000000000000")  # BPF_PROG_TYPE_*; TC_ACT_UNSPEC


@pytest.fixture
def field() -> Iterator[Field]:
    with Field(f"xgdt{os.getpid()}") as made:
        yield made


@pytest.fixture
def attached(field: Field, command: Command) -> Command:
    command.ok("attach", INTERFACE, "--netns", field.host)
    return command


@contextmanager
def answering(netns: str, device: str = "") -> Iterator[None]:
    """Who echoes UDP on PORT; ``device``: bound to that."""
    with entered(netns):
        its = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if device:
        its.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    its.bind(("", PORT))
    its.settimeout(0.05)
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            with suppress(TimeoutError):
                its.sendto(*its.recvfrom(100))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        its.close()


def hears_all(field: Field, inside: str) -> bool:
    """What is sent to all on the link reaches who listens inside."""
    with entered(inside):
        its = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with entered(field.outside):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with its, sender:
        its.bind(("", PORT + 1))
        its.settimeout(WAIT)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sender.sendto(b"all", (f"{NETWORK}.255", PORT + 1))
        try:
            return its.recv(10) == b"all"
        except TimeoutError:
            return False


def asks(netns: str, address: str) -> bool:
    """Somebody asks over UDP and is answered."""
    with entered(netns):
        its = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with its:
        its.settimeout(WAIT)
        its.connect((address, PORT))
        try:
            its.send(b"question")
            return its.recv(100) == b"question"
        except OSError:
            return False


def hung(field: Field) -> list[egress.Hung]:
    return egress.programs_at(field.link().ifindex, field.host)


def test_filters_of_others_stay_and_are_asked(field: Field, attached: Command) -> None:
    """One of another kind has the first priority; of a program with our handle, the other one is chosen."""
    tc = f"tc filter add dev {INTERFACE} egress"
    field.run(field.host, f"tc qdisc add dev {INTERFACE} clsact")
    field.run(field.host, f"{tc} prio 1 protocol ip u32 match ip dport 9 0xffff flowid :1")
    with ExitStack() as held:
        program = held.enter_context(opened(kernel.load(_SCHED_CLS, _UNSPEC, "others")))
        egress.hang(INTERFACE, field.link().ifindex, field.host, program, "others")
        (others,) = hung(field)
        held.enter_context(answering(field.outside))
        assert asks(field.host, OUTSIDE4), "positive control"
        attached.ok(*STRICT)
        assert asks(field.host, OUTSIDE4), "what was sent is known"
        assert [it.priority for it in hung(field)] == [2, 2]
        assert others in hung(field)
        attached.ok("default", "pass")
        assert hung(field) == [others]
        attached.ok(*STRICT)
        attached.ok("detach", INTERFACE, "--netns", field.host)
        assert hung(field) == [others]
        assert "u32" in field.run(field.host, f"tc filter show dev {INTERFACE} egress")


def test_a_missing_program_is_told_and_brought_back(field: Field, attached: Command) -> None:
    with answering(field.outside):
        attached.ok(*STRICT)
        assert asks(field.host, OUTSIDE4), "positive control"
        assert attached.json("status")["audit"]["without_egress"] == []
        for it in hung(field):
            egress.take_off(field.link().ifindex, field.host, it)
        place = f"{INTERFACE} (in {field.host})"
        assert f"the program at the egress of {place} is missing" in attached("status").err
        found = attached("status", "--json")
        assert found.code == 1
        assert f"the program at the egress of {place} is missing" in found.out
        with watching(attached) as service:
            assert service.says(f"{place}: the program at its egress was missing: restored")
        assert asks(field.host, OUTSIDE4)
        attached.ok("status")


def test_a_renamed_interface_keeps_it(field: Field, attached: Command) -> None:
    def rename(before: str, after: str) -> None:
        field.run(field.host, f"ip link set {before} down")
        field.run(field.host, f"ip link set {before} name {after}")
        field.run(field.host, f"ip link set {after} up")

    with answering(field.outside):
        rename(INTERFACE, "wan")
        try:
            assert eventually(lambda: asks(field.host, OUTSIDE4)), "positive control"
            attached.ok(*STRICT)
            assert eventually(lambda: asks(field.host, OUTSIDE4))
            attached.ok("default", "pass")
            assert not egress.programs_at(field.link("wan").ifindex, field.host)
        finally:
            rename("wan", INTERFACE)


def test_idle_connections_of_containers_outlive_the_change(field: Field, attached: Command) -> None:
    """Their addresses are translated, nothing of them was sent since, and the next segment comes from outside."""
    inside = field.more("c")
    for line in (
        f"ip link add inner type veth peer name eth0 netns {inside}",
        "ip address add 10.99.0.1/24 dev inner",
        "ip link set inner up",
        "sysctl -qw net.ipv4.ip_forward=1",
    ):
        field.run(field.host, line)
    rules = (
        f'table ip t {{ chain c {{ type nat hook postrouting priority 100; oifname "{INTERFACE}" masquerade; }}; }}\n'
    )
    field.run(field.host, "nft -f -", rules)
    for line in ("ip address add 10.99.0.2/24 dev eth0", "ip link set eth0 up", "ip route add default via 10.99.0.1"):
        field.run(inside, line)
    with ExitStack() as held:
        with entered(field.outside):
            listener = held.enter_context(socket.create_server((OUTSIDE4, PORT)))
        with entered(inside):
            client = held.enter_context(socket.create_connection((OUTSIDE4, PORT), timeout=WAIT * 4))
        server = held.enter_context(listener.accept()[0])
        client.sendall(b"hello")
        assert server.recv(10) == b"hello", "positive control"
        attached.ok(*STRICT)
        server.sendall(b"later")
        assert client.recv(10) == b"later"


def _ipvlan(field: Field, inside: str) -> str:
    field.run(field.host, f"ip link add link {INTERFACE} name sub type ipvlan mode l2")
    field.run(field.host, f"ip link set sub netns {inside}")
    field.run(inside, f"ip address add {CONTAINER4}/24 dev sub")
    return CONTAINER4


def _macvlan(field: Field, inside: str) -> str:
    field.run(field.host, f"ip link add link {INTERFACE} name sub type macvlan mode bridge")
    field.run(field.host, f"ip link set sub netns {inside}")
    field.run(inside, f"ip address add {CONTAINER4}/24 dev sub")
    return CONTAINER4


def _vlan(field: Field, inside: str) -> str:
    field.run(field.host, f"ip link add link {INTERFACE} name sub type vlan id 5")
    field.run(field.host, f"ip link set sub netns {inside}")
    field.run(inside, "ip address add 10.78.1.3/24 dev sub")
    outside_vlan(field)
    return "10.78.1.3"


def outside_vlan(field: Field) -> None:
    field.run(field.outside, f"ip link add link {INTERFACE} name v5 type vlan id 5")
    field.run(field.outside, "ip address add 10.78.1.2/24 dev v5")
    field.run(field.outside, "ip link set v5 up")


# Not every kernel has all of these kinds.
CONTAINERS = [
    make for kind, make in (("ipvlan", _ipvlan), ("macvlan", _macvlan), ("vlan id 5", _vlan)) if kernel_makes(kind)
]


@pytest.mark.parametrize("make", CONTAINERS)
def test_devices_of_containers_are_left_alone(
    field: Field, command: Command, make: Callable[[Field, str], str]
) -> None:
    """Their sockets are in another namespace: what is for them passes, and what answers them."""
    inside = field.more("c")
    address = make(field, inside)
    field.run(inside, "ip link set sub up")
    command.ok("attach", INTERFACE, "--netns", field.host)
    remote = "10.78.1.2" if address.startswith("10.78") else OUTSIDE4
    on_the_link = address == CONTAINER4  # not in a VLAN
    with ExitStack() as held:
        for netns in (inside, field.host, field.outside):
            held.enter_context(answering(netns))
        for netns in (inside, field.outside):
            held.enter_context(field.serving(netns))
        for its in (address, HOST4):
            assert eventually(lambda its=its: asks(field.outside, its)), "positive control"  # type: ignore[misc]
        assert echoed(inside, remote)
        assert not on_the_link or hears_all(field, inside)
        command.ok(*STRICT)
        assert asks(field.outside, address)
        assert field.connects(address)
        assert asks(inside, remote)
        assert echoed(inside, remote)
        assert not on_the_link or hears_all(field, inside)
        assert not asks(field.outside, HOST4), "the host's own services stay guarded"


def test_sockets_bound_to_a_bridge_above(field: Field, command: Command) -> None:
    """The kernel does not find them from below; in strict mode they get answers only, as all."""
    for line in (
        "ip link add br0 type bridge",
        f"ip address del {HOST4}/24 dev {INTERFACE}",
        f"ip link set {INTERFACE} master br0",
        f"ip address add {HOST4}/24 dev br0",
        "ip link set br0 up",
    ):
        field.run(field.host, line)
    command.ok("attach", INTERFACE, "--netns", field.host)
    with answering(field.host, "br0"):
        assert eventually(lambda: asks(field.outside, HOST4)), "positive control"
        command.ok(*ENFORCED)
        assert asks(field.outside, HOST4)
        command.ok(*STRICT)
        assert not asks(field.outside, HOST4)
