# SPDX-License-Identifier: GPL-2.0
"""The default on real traffic: what works without it works with it, and a scan finds nothing that nobody admitted."""

from __future__ import annotations

import contextlib
import itertools
import os
import selectors
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from signal import SIGHUP

import pytest
from netns.test_replay import v4
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import ICMPv6ND_RA, ICMPv6NDOptPrefixInfo, IPv6
from scapy.layers.l2 import Ether
from support.captures import pcap
from support.command import Command, on
from support.field import Namespaces
from support.patience import patient
from support.service import Run
from support.traffic import PORT, Echo, eventually, works
from topology import CLIENTS4, INTERFACE, OUTSIDE4, OUTSIDE6, OUTSIDE_MAC, SERVER4, SERVER6, SERVER_MAC, Lab

from xdpguard.closeable import opened
from xdpguard.dataplane.sys import abi, kernel
from xdpguard.errors import XdpguardError
from xdpguard.net import egress
from xdpguard.net.netns import entered

WAIT = patient(1.0)  # seconds
SERVICE = 7070  # of the world outside
ENFORCED = ["default", "drop", "--enforce", "--strict-udp"]
_SCHED_CLS, _OK = 3, bytes.fromhex("b7000000000000009500000000000000")  # BPF_PROG_TYPE_*; TC_ACT_OK
REMOTE = {4: OUTSIDE4, 6: OUTSIDE6}


class World:
    """What is outside: servers for TCP and UDP on SERVICE, which echo, both families. Use as a context manager."""

    def __init__(self, lab: Lab) -> None:
        self._selector, self._running = selectors.DefaultSelector(), True
        with entered(lab.outside):
            for family, kind in itertools.product((4, 6), (socket.SOCK_STREAM, socket.SOCK_DGRAM)):
                its = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind)
                its.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                its.bind((REMOTE[family], SERVICE))
                if kind == socket.SOCK_STREAM:
                    its.listen()
                self._selector.register(its, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> World:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._running = False
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def _serve(self) -> None:
        while self._running:
            for key, _ in self._selector.select(0.05):
                its = key.fileobj
                assert isinstance(its, socket.socket)
                with contextlib.suppress(OSError):
                    if its.type == socket.SOCK_DGRAM:
                        its.sendto(*its.recvfrom(2048))
                        continue
                    connection, _ = its.accept()
                    with connection:
                        connection.settimeout(WAIT)
                        connection.sendall(connection.recv(2048))


@pytest.fixture
def _world(lab: Lab) -> Iterator[World]:
    with World(lab) as made:
        yield made


def made(netns: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
    with entered(netns):
        its = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind, protocol)
    its.settimeout(WAIT)
    return its


def asks(lab: Lab, family: int, kind: int, netns: str = "", address: str = "") -> bool:
    """The host, or another namespace, asks a server outside, as for HTTP or a name, and gets its answer."""
    with made(netns or lab.server, family, kind) as its:
        try:
            its.connect((address or REMOTE[family], SERVICE))
            its.sendall(b"question")
            return its.recv(100) == b"question"
        except OSError:
            return False


def pings(lab: Lab, family: int, netns: str = "", address: str = "") -> bool:
    """The host, or another namespace, pings the outside, or an address, through a raw socket as ping does."""
    protocol = socket.IPPROTO_ICMP if family == 4 else socket.IPPROTO_ICMPV6
    number = os.getpid() & 0xFFFF
    request = struct.pack("!BBHHH", 8 if family == 4 else 128, 0, 0, number, 1)
    if family == 4:
        total = sum(struct.unpack("!4H", request))
        request = request[:2] + struct.pack("!H", 0xFFFF ^ (total & 0xFFFF) + (total >> 16)) + request[4:]
    with made(netns or lab.server, family, socket.SOCK_RAW, protocol) as its:
        its.sendto(request, (address or REMOTE[family], 0))
        with contextlib.suppress(TimeoutError):
            while True:
                reply = its.recv(100)[20 if family == 4 else 0 :]
                if reply[0] == (0 if family == 4 else 129) and struct.unpack_from("!H", reply, 4)[0] == number:
                    return True
    return False


def is_told(lab: Lab, family: int) -> bool:
    """The host hears that nobody listens at a port: what traceroute ends with."""
    with made(lab.server, family, socket.SOCK_DGRAM) as its:
        its.connect((REMOTE[family], 33_434))
        its.send(b"probe")
        try:
            its.recv(10)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def learns_the_path_mtu(lab: Lab, its: socket.socket, mtu: int) -> bool:
    """A router says that a segment of this connection of the host was too long for the next link."""
    local, remote = its.getsockname(), its.getpeername()
    about = IP(src=local[0], dst=remote[0], flags="DF", len=1500) / TCP(
        sport=local[1], dport=remote[1], seq=_sequence(its)
    )
    frame = Ether(src=OUTSIDE_MAC, dst=SERVER_MAC) / IP(src="198.18.0.77", dst=local[0])
    send(lab, bytes(frame / ICMP(type=3, code=4, nexthopmtu=mtu) / bytes(about)[:28]))
    return eventually(lambda: its.getsockopt(socket.IPPROTO_IP, 14) == mtu, 1.0)  # IP_MTU


def _sequence(its: socket.socket) -> int:
    """The number that the socket's window begins with: all is acknowledged, so that of the repaired queue counts."""
    its.setsockopt(socket.IPPROTO_TCP, 19, 1)  # TCP_REPAIR
    its.setsockopt(socket.IPPROTO_TCP, 20, 2)  # TCP_REPAIR_QUEUE, TCP_SEND_QUEUE
    found = its.getsockopt(socket.IPPROTO_TCP, 21)  # TCP_QUEUE_SEQ
    its.setsockopt(socket.IPPROTO_TCP, 19, 0)
    return found & 0xFFFFFFFF


def send(lab: Lab, frame: bytes) -> None:
    with entered(lab.outside), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((INTERFACE, 0))
        raw.send(frame)


def hears_routers(lab: Lab, prefix: str) -> bool:
    """The host makes an address from a router advertisement."""
    option = ICMPv6NDOptPrefixInfo(prefix=prefix, prefixlen=64, validlifetime=60, preferredlifetime=60)
    ip = IPv6(src="fe80::77", dst="ff02::1", hlim=255)
    send(lab, bytes(Ether(src=OUTSIDE_MAC, dst="33:33:00:00:00:01") / ip / ICMPv6ND_RA(routerlifetime=0) / option))
    start = prefix.removesuffix(":")
    there = eventually(lambda: start in lab.run(lab.server, ["ip", "-6", "address"]).stdout, 1.0)
    lab.run(lab.server, ["ip", "-6", "address", "flush", "dev", INTERFACE, "scope", "global", "dynamic"], check=False)
    return there


def forgets_neighbours(lab: Lab) -> None:
    for netns in (lab.server, lab.outside):
        lab.run(netns, ["ip", "neighbour", "flush", "dev", INTERFACE])


ORDINARY: dict[str, Callable[[Lab], bool]] = {
    **{f"HTTP out, IPv{it}": lambda lab, it=it: asks(lab, it, socket.SOCK_STREAM) for it in (4, 6)},  # type: ignore[misc]
    **{f"DNS or NTP out, IPv{it}": lambda lab, it=it: asks(lab, it, socket.SOCK_DGRAM) for it in (4, 6)},  # type: ignore[misc]
    **{f"ping out, IPv{it}": lambda lab, it=it: pings(lab, it) for it in (4, 6)},  # type: ignore[misc]
    **{f"traceroute out, IPv{it}": lambda lab, it=it: is_told(lab, it) for it in (4, 6)},  # type: ignore[misc]
}


def dropped(command: Command) -> int:
    return int(on(command.json("stats"), INTERFACE)["reasons"]["default_deny"]["packets"])


@pytest.mark.usefixtures("_world")
@pytest.mark.parametrize("strict", [False, True], ids=["any UDP socket", "strict"])
def test_what_works_without_works_with(attached: Command, lab: Lab, strict: bool) -> None:
    for what, works_ in ORDINARY.items():
        assert works_(lab), f"positive control: {what}"
    assert hears_routers(lab, "2001:db8:a::")
    attached.ok(*(ENFORCED if strict else ENFORCED[:-1]))
    forgets_neighbours(lab)
    for what, works_ in ORDINARY.items():
        assert works_(lab), what
    assert hears_routers(lab, "2001:db8:b::")
    forgets_neighbours(lab)
    assert asks(lab, 6, socket.SOCK_DGRAM), "neighbours are found again"
    with made(lab.server, 4, socket.SOCK_STREAM) as its:
        its.connect((OUTSIDE4, SERVICE))
        assert learns_the_path_mtu(lab, its, 1300)
    lab.run(lab.server, ["ip", "route", "flush", "cache"])


def test_a_scan_finds_only_what_is_admitted(attached: Command, lab: Lab) -> None:
    """TCP and UDP servers listen; a client that is allowed reaches them, others only without a default."""
    with Echo(lab):
        for family, protocol in ((4, "tcp"), (6, "tcp"), (4, "udp"), (6, "udp")):
            assert works(lab, family, protocol), "positive control"  # type: ignore[arg-type]
        assert pings(lab, 4, lab.outside, SERVER4)
        attached.ok(*ENFORCED)
        for family, protocol in ((4, "tcp"), (6, "tcp"), (4, "udp"), (6, "udp")):
            assert not works(lab, family, protocol), (family, protocol)  # type: ignore[arg-type]
        assert not pings(lab, 4, lab.outside, SERVER4)
        assert not pings(lab, 6, lab.outside, SERVER6)
        assert dropped(attached) > 0
        assert answered(lab, range(1, 200)) == [], "neither open nor closed: nothing answers"
        attached.ok("allow", CLIENTS4[0])
        assert works(lab, 4, "tcp")
        assert works(lab, 4, "udp")
        assert not works(lab, 4, "tcp", client=1)
        attached.ok("disallow", CLIENTS4[0])
        attached.ok("filter", "add", "service", f"tcp dport {PORT}", "--pass")
        for client in (0, 1):
            assert works(lab, 4, "tcp", client=client)
        assert works(lab, 6, "tcp")
        assert not works(lab, 4, "udp")
        assert answered(lab, range(PORT - 100, PORT + 100)) == [PORT]
        attached.ok("filter", "add", "names", f"ip saddr {CLIENTS4[1]} udp dport {PORT}", "--pass")
        assert works(lab, 4, "udp", client=1)
        assert not works(lab, 4, "udp")
        attached.ok("filter", "add", "pings", "icmp type echo-request", "--pass")
        assert pings(lab, 4, lab.outside, SERVER4)
        attached.ok("filter", "remove", "service")
        assert not works(lab, 4, "tcp")
        attached.ok("default", "pass")
        assert works(lab, 4, "tcp", client=1)
        assert works(lab, 6, "udp")
        assert answered(lab, range(1, 5)) == [1, 2, 3, 4], "closed ports are refused again"


def answered(lab: Lab, ports: range) -> list[int]:
    """The ports of the host from which a scan gets any answer, open or closed."""
    clients = {port: made(lab.outside, 4, socket.SOCK_STREAM) for port in ports}
    found = []
    with ExitStack() as held, selectors.DefaultSelector() as selector:
        for port, its in clients.items():
            held.enter_context(its)
            its.setblocking(False)
            its.connect_ex((SERVER4, port))
            selector.register(its, selectors.EVENT_WRITE, port)
        while ready := selector.select(WAIT / 2):
            for key, _ in ready:
                found.append(key.data)
                selector.unregister(key.fileobj)
    return sorted(found)


def test_pass_in_shadow_is_drop_in_shadow(attached: Command, lab: Lab) -> None:
    """`default pass --shadow`: everything passes, and what drop would cut is counted."""
    with Echo(lab):
        attached.ok(*ENFORCED)
        assert not works(lab, 4, "tcp")
        assert "in shadow" in attached.ok("default", "pass", "--shadow")
        assert works(lab, 4, "tcp")
        found = attached.json("default", "show")
        assert (found["policy"], found["mode"], found["strict_udp"]) == ("drop", "shadow", True)
        assert found["observed"] > 0
        attached.ok("default", "pass")
        assert attached.json("default", "show")["policy"] == "pass"


def test_udp_to_any_socket_unless_strict(attached: Command, lab: Lab) -> None:
    with Echo(lab):
        attached.ok("default", "drop", "--enforce")
        assert works(lab, 4, "udp")
        assert not works(lab, 4, "tcp")
        attached.ok("default", "drop", "--strict-udp")
        assert attached.json("default", "show")["mode"] == "enforce", "it stays so"
        assert not works(lab, 4, "udp")
        attached.ok("default", "drop", "--no-strict-udp")
        assert works(lab, 4, "udp")


def test_a_connection_outlives_the_change(attached: Command, lab: Lab) -> None:
    with entered(lab.server):
        listener = socket.create_server((SERVER4, PORT))
    with listener, made(lab.outside, 4, socket.SOCK_STREAM) as client:
        client.connect((SERVER4, PORT))
        server, _ = listener.accept()
        with server:
            attached.ok(*ENFORCED)
            client.sendall(b"still there")
            assert server.recv(100) == b"still there"
            server.sendall(b"yes")
            assert client.recv(100) == b"yes"


@pytest.mark.usefixtures("_world")
def test_a_shadow_cuts_nothing_and_tells(attached: Command, lab: Lab) -> None:
    said = attached("default", "drop")
    assert "nothing is cut yet" in said.err
    with Echo(lab):
        for client in (0, 1, 1):
            assert works(lab, 4, "tcp", client=client)
        assert works(lab, 6, "udp")
    assert asks(lab, 4, socket.SOCK_DGRAM)
    found = attached.json("default", "show")
    assert (found["policy"], found["mode"], found["dropped"]) == ("drop", "shadow", 0)
    assert found["observed"] == 3, "a SYN of each connection; UDP has a socket here"
    assert [(it["port"], it["packets"], it["sources"]) for it in found["ports"]] == [(f"{PORT}/tcp", 3, 2)]
    assert [(it["source"], it["packets"]) for it in found["sources"]] == [(CLIENTS4[1], 2), (CLIENTS4[0], 1)]
    text = attached.ok("default", "show")
    assert "in shadow" in text
    assert f"{PORT}/tcp" in text
    events = attached.ok("events", "--reason", "default_deny")
    assert CLIENTS4[1] in events
    packet = f"tcp {CLIENTS4[0]}:4000 > {SERVER4}:{PORT} S"
    assert attached.json("explain", packet)["reason"] == "default_deny"
    assert "the default is in shadow: the packet is counted, and passes" in attached.ok("explain", packet)
    assert attached.json("default", "show")["ports"] == found["ports"], "asking counts nothing"


def _session(client: int) -> dict[str, str]:
    return {"SSH_CONNECTION": f"{CLIENTS4[client]} 4000 {SERVER4} 22"}


def test_a_session_is_not_locked_out(attached: Command) -> None:
    line = attached.refused(1, *ENFORCED, **_session(0))
    assert CLIENTS4[0] in line
    assert "22/tcp" in line
    assert attached.json("status")["default"] == "pass"
    attached.ok("default", "drop", **_session(0))  # a shadow cuts nothing
    attached.ok("filter", "add", "logins", "tcp dport 22", "--pass", "--for", "1h")
    assert CLIENTS4[0] in attached.refused(1, *ENFORCED, **_session(0)), "it ends"
    attached.ok("filter", "add", "lasting", "tcp dport 22", "--pass")
    attached.ok(*ENFORCED, **_session(0))
    assert CLIENTS4[0] in attached.refused(1, "filter", "remove", "lasting", **_session(0))
    attached.ok("filter", "add", "other", "udp dport 9", "--drop")
    assert "belongs to nothing" not in attached("filter", "remove", "other", "--force", **_session(0)).err
    forced = attached("filter", "remove", "lasting", "--force", **_session(0))
    assert (forced.code, forced.out) == (0, "removed the filter lasting\n")
    assert f"{CLIENTS4[0]} is" in forced.err
    assert "over 22/tcp, and a new login there belongs to nothing that the default admits" in forced.err
    attached.ok("filter", "add", "lasting", "tcp dport 22", "--pass")
    attached.ok("allow", CLIENTS4[0], **_session(0))
    attached.ok("filter", "remove", "lasting", **_session(0))
    assert attached.json("status")["default"] == "drop, enforced, strict for UDP"
    assert CLIENTS4[0] in attached.refused(1, "disallow", CLIENTS4[0], **_session(0))
    attached.ok("default", "pass", **_session(0))
    attached.ok("disallow", CLIENTS4[0], **_session(0))
    attached.ok(*ENFORCED, "--force", **_session(0))
    attached.ok("default", "pass", **_session(0))
    assert CLIENTS4[0] in attached.refused(1, "undo", **_session(0))


def test_undo_and_confirm(attached: Command, lab: Lab) -> None:
    with Echo(lab):
        attached.ok(*ENFORCED, "--confirm", "1s")
        assert not works(lab, 4, "tcp")
        assert eventually(lambda: works(lab, 4, "tcp"))
        assert attached.json("status")["default"] == "pass"
        attached.ok(*ENFORCED)
        attached.ok("undo")
        assert works(lab, 4, "tcp")
        attached.ok(*ENFORCED)
        attached.ok("default", "pass")
        attached.ok("undo")
        assert not works(lab, 4, "tcp")
        assert attached.json("status")["default"] == "drop, enforced, strict for UDP"


def hangs(lab: Lab) -> int:
    with entered(lab.server):
        index = socket.if_nametoindex(INTERFACE)
    return len(egress.programs_at(index, lab.server))


def take_off(index: int, netns: str) -> None:
    for hung in egress.programs_at(index, netns):
        egress.take_off(index, netns, hung)


def test_attach_and_detach(command: Command, lab: Lab, tmp_path: Path) -> None:
    config = tmp_path / "policy.toml"
    config.write_text('[default]\npolicy = "drop"\nmode = "enforce"\nstrict_udp = true\n')
    place = (INTERFACE, "--netns", lab.server)
    assert "SSH session" in command.refused(1, "attach", *place, "--config", str(config), **_session(0))
    assert not hangs(lab)
    command.ok("attach", *place, "--config", str(config))
    with Echo(lab):
        assert not works(lab, 4, "tcp")
        assert hangs(lab)
        text = config.read_text()
        config.write_text('[default]\npolicy = "pass"\n')
        found = command.json("default", "show")
        assert (found["policy"], found["mode"], found["strict_udp"]) == ("drop", "enforce", True), (
            "it is in force still"
        )
        config.write_text(text)
        command.ok("default", "pass")
        found = command.json("default", "show")
        assert (found["policy"], found["mode"]) == ("pass", "shadow"), "nothing is enforced"
        assert works(lab, 4, "tcp")
        assert not hangs(lab)
        command.ok("attach", *place)
        assert works(lab, 4, "tcp"), "what a command has set overrides the configuration"
        command.ok("default", "drop", "--enforce", "--strict-udp")
        assert not command.json("default", "show")["set_here"], "that is what is configured"
        command.ok("detach", *place)
        assert works(lab, 4, "tcp")
        assert not hangs(lab)
        assert "clsact" not in lab.run(lab.server, ["tc", "qdisc", "show", "dev", INTERFACE]).stdout
        command.ok("attach", *place)
        assert not works(lab, 4, "tcp")
        assert hangs(lab)
    command.ok("detach", "--all")
    assert not hangs(lab)
    # Judged by what an attach brings, not by what the one before has left.
    config.write_text('[default]\npolicy = "pass"\n')
    command.ok("attach", *place, "--config", str(config), **_session(0))
    command.ok("detach", "--all")
    config.write_text(f'{text}[[filters]]\nname = "ssh"\nmatch = "tcp dport 22"\naction = "pass"\n')
    command.ok("attach", *place, "--config", str(config), **_session(0))
    assert command.json("default", "show")["mode"] == "enforce"


def test_a_configuration_is_judged_with_the_default_that_its_attach_brings(
    attached: Command, lab: Lab, tmp_path: Path
) -> None:
    """Its own, unless a command has set another, whatever is in force now."""
    syn = tmp_path / "syn.pcap"
    syn.write_bytes(pcap([v4(CLIENTS4[0], dport=9999, flags="S")]))
    dropping, passing = tmp_path / "drop.toml", tmp_path / "pass.toml"
    dropping.write_text('[default]\npolicy = "drop"\nmode = "enforce"\n')
    passing.write_text("")

    def judged(config: Path) -> str:
        found = attached.json("replay", str(syn), "--config", str(config), "--diff")
        return next(str(name) for name, its in found["reasons"].items() if its["packets"])

    def brought(config: Path) -> str:
        attached.ok("attach", INTERFACE, "--netns", lab.server, "--config", str(config))
        found = attached.json("replay", str(syn))
        return next(str(name) for name, its in found["reasons"].items() if its["packets"])

    assert judged(dropping) == "default_deny"
    assert judged(passing) == "pass"
    assert brought(dropping) == "default_deny"
    assert judged(passing) == "pass", "not what is in force"
    assert brought(passing) == "pass"
    attached.ok("default", "drop", "--enforce")
    assert judged(passing) == "default_deny", "a command has set it"
    assert brought(passing) == "default_deny"


def test_a_lost_store_is_rebuilt_with_it(command: Command, lab: Lab) -> None:
    command.ok("attach", INTERFACE, "--netns", lab.server)
    command.ok(*ENFORCED)
    for path in command.store.parent.glob("store.db*"):
        path.unlink()
    command.ok("recover")
    assert command.json("status")["default"] == "drop, enforced, strict for UDP"
    assert command.json("default", "show")["set_here"]


@pytest.mark.parametrize("step", ["mark", "begin", "default", "commit"])
def test_a_kill_leaves_all_or_nothing(attached: Command, lab: Lab, step: str) -> None:
    with Echo(lab):
        attached(*ENFORCED, kill_at=step)
        attached.ok("block", "203.0.113.9")  # any change takes back what was interrupted
        assert works(lab, 4, "tcp")
        assert attached.json("status")["default"] == "pass"
        attached.ok(*ENFORCED)
        attached("default", "pass", kill_at=step)
        attached.ok("unblock", "203.0.113.9")
        assert not works(lab, 4, "tcp")
        attached.ok("default", "pass")
        assert works(lab, 4, "tcp")
        assert not hangs(lab)


class Elsewhere(Namespaces):
    """A namespace with an interface, with an `ingress` queue discipline: somebody's police of what comes in."""

    def _make(self) -> None:
        self.host = self.more("q")
        self.run(self.host, "ip link add eth0 type veth peer name eth1")
        self.run(self.host, "tc qdisc add dev eth0 ingress")
        with entered(self.host):
            self.index = socket.if_nametoindex("eth0")

    def hang(self, program: int) -> None:
        egress.hang("eth0", self.index, self.host, program, "test")

    def there(self) -> str:
        """The queue disciplines, and what hangs at the ingress."""
        return "".join(self.run(self.host, f"tc {it} show dev eth0 ingress") for it in ("qdisc", "filter"))


def test_an_ingress_queue_discipline_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel would take the program there for one at the ingress."""
    with ExitStack() as held:
        program = held.enter_context(opened(kernel.load(_SCHED_CLS, _OK, "test")))
        its = held.enter_context(Elsewhere(f"xgq{os.getpid()}"))
        before = its.there()
        with pytest.raises(XdpguardError, match=f"egress of eth0 .*{its.host}.* ingress takes the place of clsact"):
            its.hang(program)
        assert its.there() == before
        take_off(its.index, its.host)
        assert its.there() == before
        with monkeypatch.context() as patched:
            patched.setattr(egress, "_queue_kind", lambda _: "clsact")
            its.hang(program)
        before = its.there()
        assert "0x7864" in before
        assert not egress.programs_at(its.index, its.host)
        take_off(its.index, its.host)
        assert its.there() == before
        its.run(its.host, "tc qdisc delete dev eth0 ingress")
        its.hang(program)
        assert egress.programs_at(its.index, its.host), "positive control"
        take_off(its.index, its.host)
        assert "clsact" not in its.there()


class Behind(Namespaces):
    """A container behind the lab's server, whose address is translated there."""

    def __init__(self, lab: Lab, name: str) -> None:
        super().__init__(name)
        self._lab = lab
        self.inside = f"{name}-c"

    def _make(self) -> None:
        self.more("c")
        server = self._lab.server
        self.run(self.inside, f"ip link add eth0 type veth peer name xgc netns {server}")
        self.run(self.inside, "ip address add 10.99.0.2/24 dev eth0")
        self.run(self.inside, "ip link set eth0 up")
        self.run(self.inside, "ip route add default via 10.99.0.1")
        self.run(server, "ip address add 10.99.0.1/24 dev xgc")
        self.run(server, "ip link set xgc up")
        self.run(server, "sysctl -qw net.ipv4.ip_forward=1")
        self.run(server, "nft -f -", _NAT)

    def _remove(self) -> None:
        for line in ("nft delete table ip xgd", "sysctl -qw net.ipv4.ip_forward=0", "ip link del xgc"):
            subprocess.run(["ip", "netns", "exec", self._lab.server, *line.split()], capture_output=True, check=False)
        super()._remove()


_NAT = f"""
table ip xgd {{
    chain out {{
        type nat hook postrouting priority 100;
        oifname "{INTERFACE}" masquerade
    }}
}}
"""


@contextlib.contextmanager
def translated(lab: Lab) -> Iterator[None]:
    """Connections of the server itself to 10.96.0.1 go to the outside: a service's address, as kube-proxy has them."""
    rules = f"""
table ip xgd {{
    chain local {{
        type nat hook output priority -100;
        ip daddr 10.96.0.1 dnat to {OUTSIDE4}
    }}
}}
"""
    inside = ["ip", "netns", "exec", lab.server]
    subprocess.run([*inside, "nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run([*inside, "nft", "delete", "table", "ip", "xgd"], check=True)


def remembered(attached: Command, protocol: int) -> int:
    """How many remote ends of a protocol the program at egress knows, SYN-ACKs and services aside."""
    name = "connections" if protocol == socket.IPPROTO_TCP else "sent"
    with opened(kernel.open_pin(str(next(attached.pins.rglob(name))))) as descriptor:
        keys = (abi.SENT_KEY.unpack(raw) for raw in kernel.pairs(descriptor, abi.SENT_KEY.size, 8))
        return sum(its == protocol for _address, _remote, _local, its, _version in keys)


@pytest.mark.usefixtures("_world")
def test_own_connections_that_are_translated_go_on(attached: Command, lab: Lab) -> None:
    """Their socket has other addresses than the packets: that they were begun from here is known from the egress."""

    def reaches() -> bool:
        return asks(lab, 4, socket.SOCK_STREAM, address="10.96.0.1")

    with translated(lab):
        assert reaches(), "positive control"
        attached.ok(*ENFORCED)
        before = remembered(attached, socket.IPPROTO_TCP)
        assert asks(lab, 4, socket.SOCK_STREAM)
        assert asks(lab, 6, socket.SOCK_STREAM)
        assert remembered(attached, socket.IPPROTO_TCP) == before, "their sockets are found without"
        assert reaches()
        assert remembered(attached, socket.IPPROTO_TCP) == before + 1


@pytest.mark.usefixtures("_world")
def test_containers_behind_the_host_go_on(attached: Command, lab: Lab) -> None:
    """Their connections have no socket on the host; that they were begun from inside is known from the egress."""

    def reaches(kind: int) -> bool:
        return asks(lab, 4, kind, behind.inside)

    with Behind(lab, f"xgd{os.getpid()}") as behind:
        kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM)
        assert all(map(reaches, kinds)), "positive control"
        assert pings(lab, 4, behind.inside)
        attached.ok(*ENFORCED)
        assert all(map(reaches, kinds))
        assert pings(lab, 4, behind.inside)
        with entered(lab.server):
            take_off(socket.if_nametoindex(INTERFACE), lab.server)
        assert not reaches(socket.SOCK_STREAM), "positive control: without the program at egress nobody knows of them"
        attached.ok(*ENFORCED)
        assert reaches(socket.SOCK_STREAM), "the command has put it back"


def test_run_keeps_it(command: Command, lab: Lab, tmp_path: Path) -> None:
    """The service puts a reloaded configuration in force, and restores what somebody has taken off."""
    config = tmp_path / "policy.toml"
    config.write_text("")
    place = (INTERFACE, "--netns", lab.server)
    command.ok("attach", *place, "--config", str(config))
    with Echo(lab), Run(command, "--config", str(config)) as service:
        assert service.says("watching")
        assert works(lab, 4, "tcp")
        config.write_text('[default]\npolicy = "drop"\nmode = "enforce"\n')
        service.signal(SIGHUP)
        assert service.says("configuration reloaded")
        assert eventually(lambda: not works(lab, 4, "tcp"))
        with entered(lab.server):
            take_off(socket.if_nametoindex(INTERFACE), lab.server)
        assert eventually(lambda: bool(hangs(lab)), 60.0)
        config.write_text("")
        service.signal(SIGHUP)
        assert eventually(lambda: works(lab, 4, "tcp"))
        assert eventually(lambda: not hangs(lab))


@pytest.mark.parametrize("step", ["detach", "egress", "fold in", "unpin"])
def test_a_killed_detach_can_be_repeated(command: Command, lab: Lab, step: str) -> None:
    place = (INTERFACE, "--netns", lab.server)
    command.ok("attach", *place)
    command.ok(*ENFORCED)
    with Echo(lab):
        assert not works(lab, 4, "tcp")
        command("detach", *place, kill_at=step)
        command("detach", *place)
        command.ok("detach", "--all")
        assert works(lab, 4, "tcp")
        assert not hangs(lab)
