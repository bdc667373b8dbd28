# SPDX-License-Identifier: GPL-2.0
"""What the guard leaves alone because its owner is unknown, and what it leaves to containers and to a firewall."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.command import Command
from support.field import INTERFACE, PORT, Field, reasons, shown, watching

from xdpguard.dataplane.sys import kernel
from xdpguard.net import firewall, owners
from xdpguard.net.devices import read
from xdpguard.net.netns import entered

CONTAINER4 = "198.51.100.2"
TPROXY = (
    "table inet t { chain c { type filter hook prerouting priority mangle;"
    " tcp dport 80 tproxy ip to :3129 accept; }; }\n"
)
# Holds a port under the name of Docker's process, as Docker does: it listens, and never gets a connection.
_HOLDER = """
import socket, sys
open("/proc/self/comm", "w").write(sys.argv[1])
held = socket.create_server(("", int(sys.argv[2])))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def field() -> Iterator[Field]:
    with Field(f"xgow{os.getpid()}") as made:
        yield made


@pytest.fixture
def attached(field: Field, command: Command) -> Command:
    command.ok("attach", INTERFACE, "--netns", field.host)
    return command


def reasons_of(field: Field) -> list[str]:
    return owners.reasons(read(field.host), field.link().ifindex, field.host)


def test_rules_that_hand_over_to_a_proxy(field: Field, attached: Command) -> None:
    assert shown(attached)["passed"] == []
    assert not shown(attached)["translated"]
    field.run(field.host, "nft -f -", TPROXY)
    attached.ok("guard", "set", "mode=auto")
    assert shown(attached)["passed"] == ["TPROXY rules"]
    assert shown(attached)["translated"]
    assert "segments without a socket pass: TPROXY rules" in attached.ok("guard", "show")
    field.run(field.host, "nft flush ruleset")
    attached.ok("guard", "set", "mode=auto")
    assert shown(attached)["passed"] == []
    assert not shown(attached)["translated"]


def test_what_traffic_control_does(field: Field) -> None:
    """A redirection to another device counts; to an ifb, which gives back what it gets, does not; nor does a class."""
    assert reasons_of(field) == []
    for line in (
        "ip link add ifb7 type ifb",
        "ip link add other0 type veth peer name other1",
        f"tc qdisc add dev {INTERFACE} clsact",
        f"tc filter add dev {INTERFACE} ingress prio 1 u32 match ip dport 9 0xffff flowid :1",
        f"tc filter add dev {INTERFACE} ingress prio 2 u32 match u32 0 0 action mirred egress redirect dev ifb7",
        f"tc filter add dev {INTERFACE} ingress prio 3 u32 match u32 0 0 action mirred egress mirror dev other0",
    ):
        field.run(field.host, line)
    assert reasons_of(field) == []
    line = f"tc filter add dev {INTERFACE} ingress prio 4 u32 match u32 0 0 action mirred egress redirect dev other0"
    field.run(field.host, line)
    assert reasons_of(field) == ["tc filters on its ingress"]


@pytest.mark.parametrize("kind", ["clsact", "ingress"])
def test_a_program_of_traffic_control(field: Field, attached: Command, kind: str) -> None:
    """A program may do anything, as Cilium's translate addresses."""
    from pyroute2 import IPRoute

    with entered(field.host), IPRoute() as route:
        route.tc("add", kind, field.link().ifindex)
        program = kernel.load(3, bytes.fromhex("b7000000000000009500000000000000"), "anothers")  # SCHED_CLS: TC_ACT_OK
        parent = 0xFFFFFFF2 if kind == "clsact" else 0xFFFF0000
        index = field.link().ifindex
        route.tc("add-filter", "bpf", index, ":1", fd=program, name="it", parent=parent, classid=1, direct_action=True)
        os.close(program)
    attached.ok("guard", "set", "mode=auto")
    assert shown(attached)["passed"] == ["tc filters on its ingress"]


def test_a_program_of_tcx(field: Field, attached: Command) -> None:
    program = kernel.load(3, bytes.fromhex("b7000000000000009500000000000000"), "anothers")  # SCHED_CLS: TC_ACT_OK
    with entered(field.host):
        kernel.attach_program(kernel.TCX_INGRESS, field.link().ifindex, program)
    os.close(program)
    attached.ok("guard", "set", "mode=auto")
    assert shown(attached)["passed"] == ["tcx programs on its ingress"]


def test_what_the_policy_says_counts(field: Field, attached: Command) -> None:
    attached.ok("guard", "set", "translated=yes")
    assert shown(attached)["passed"] == ["the policy says so (translated=yes)"]
    field.run(field.host, "nft -f -", TPROXY)
    attached.ok("guard", "set", "translated=no")
    assert shown(attached)["passed"] == []


@contextmanager
def held(field: Field, name: str, port: int) -> Iterator[None]:
    """A process of that name listens on a port of the host."""
    line = ["ip", "netns", "exec", field.host, sys.executable, "-c", _HOLDER, name, str(port)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "held\n"
            yield
        finally:
            process.stdin.close()


@pytest.fixture
def container(field: Field) -> str:
    """A container whose port PORT the host publishes by NAT."""
    netns = field.more("c")
    for line in (
        f"ip link add c0 type veth peer name eth0 netns {netns}",
        "ip address add 198.51.100.1/24 dev c0",
        "ip link set c0 up",
        "sysctl -qw net.ipv4.ip_forward=1",
    ):
        field.run(field.host, line)
    for line in (
        f"ip address add {CONTAINER4}/24 dev eth0",
        "ip link set eth0 up",
        "ip route add default via 198.51.100.1",
    ):
        field.run(netns, line)
    rule = f"tcp dport {PORT} dnat to {CONTAINER4}"
    chain = f"chain c {{ type nat hook prerouting priority dstnat; {rule}; }}"
    field.run(field.host, "nft -f -", f"table ip t {{ {chain}; }}\n")
    return netns


def test_ports_that_containers_publish(field: Field, attached: Command, container: str) -> None:
    """Docker's process listens on them too, and a cookie in its name leads to a container that knows nothing of it."""
    attached.ok("guard", "set", "mode=always")
    with field.serving(container), held(field, "docker-proxy", PORT):
        assert not field.connects(), "positive control: what the guard does without knowing"
        with watching(attached) as service:
            assert service.says(f"port {PORT}/tcp is exempt: docker-proxy listens on it"), service.lines
            assert attached.json("guard", "show")["exempt_found"] == [PORT]
            assert f"because NAT redirects their connections: {PORT}" in attached.ok("guard", "show")
            before = reasons(attached)["cookie_sent"]
            assert field.connects()
            assert reasons(attached)["cookie_sent"] == before
        attached.ok("guard", "set", "mode=always")
        assert field.connects(), "it stays so without run"


def test_rootless_publishing_is_a_listener_like_any_other(field: Field, attached: Command, container: str) -> None:
    """It accepts what comes: no reason to leave its port to a flood."""
    del container
    attached.ok("guard", "set", "mode=always")
    with held(field, "rootlessport", 9000), watching(attached):
        attached.ok("guard", "set", "mode=always")
        assert attached.json("guard", "show")["exempt_found"] == []


RULES = {
    "a policy": ("policy drop; tcp dport 9150 accept;", [9001]),
    "a rule": ("tcp dport 9001 drop;", [9001]),
    "a set": ("tcp dport { 9001, 9100-9200 } reject;", [9001, 9150]),
    "the rest": ('iif "lo" accept; tcp dport 22 accept; counter reject;', [9001, 9150]),
    "a jump": ("jump more;", [9001]),
    "accepted by a map": ("policy drop; tcp dport vmap { 9001 : accept, 9150 : drop };", [9150]),
    "accepted by a span": ("policy drop; tcp dport 9000-9999 accept;", []),
    "everything": ("policy drop; meta l4proto tcp accept;", []),
    "only some sources": ("ip saddr 192.0.2.1 tcp dport 9001 drop; tcp dport 9001 limit rate over 9/second drop;", []),
    "another protocol": ("udp dport 9001 drop;", []),
}


@pytest.mark.parametrize("name", RULES)
def test_a_firewall_behind_the_guard(field: Field, name: str) -> None:
    rules, expected = RULES[name]
    listening = [9001, 9150]
    chains = f"chain more {{ tcp dport 9001 drop; }}; chain i {{ type filter hook input priority 0; {rules} }}"
    assert firewall.conflicts(field.host, listening) == [], "positive control: without rules"
    field.run(field.host, "nft -f -", f"table inet filter {{ {chains}; }}\n")
    found = firewall.conflicts(field.host, listening)
    assert sorted(port for it in found for port in it.ports) == expected, found
    assert all(it.chain == "inet filter i" for it in found)


def test_a_firewall_is_noticed(field: Field, attached: Command) -> None:
    """Such a port looks open while the guard answers: run and doctor say so, and what to do."""
    chain = "chain input { type filter hook input priority 0; policy drop; tcp dport 9150 accept; }"
    with field.serving(), field.serving(port=9150):
        with watching(attached):
            pass
        field.run(field.host, "nft -f -", f"table inet filter {{ {chain}; }}\n")
        with watching(attached) as service:
            assert service.says(f"nftables chain inet filter input may drop traffic to port {PORT} ("), service.lines
            assert service.says("exempt_ports=")
        check = next(it for it in attached.json("doctor") if it["name"] == "host firewall")
        assert check["result"] == "warn"
        assert f"port {PORT} (" in check["finding"]
        assert "9150" not in check["finding"]
        assert "exempt_ports=" in check["remedy"]
        attached.ok("guard", "set", f"exempt_ports={PORT}")
        assert next(it for it in attached.json("doctor") if it["name"] == "host firewall")["result"] == "ok"
