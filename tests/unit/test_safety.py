# SPDX-License-Identifier: GPL-2.0
"""Nobody locks himself out, and nobody is locked in by a stranger: who is protected, and what is refused."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support.sshd import USER, Folder

from xdpguard.control import losses, needs, openness, safety
from xdpguard.errors import EXIT_FAILED, MissingError, XdpguardError
from xdpguard.net import dhcp, logins, nameservers, nexthops, sessions, sockets, sshd, tcptable
from xdpguard.policy.rule import NewRule
from xdpguard.policy.target import Kind, Port, Prefix, parse_prefix
from xdpguard.store.attachments import Attachment, put_attachment
from xdpguard.store.database import Store

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 010012C6:0016 076433C6:D431 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 010012C6:0050 097100CB:D432 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 100 0 0 10 0
   3: 010012C6:0016 0A7100CB:D432 01 00000000:00000000 00:00000000 00000000     0        0 6 1 0 100 0 0 10 0
   4: 010012C6:08AE 4D0200C0:D432 01 00000000:00000000 00:00000000 00000000     0        0 7 1 0 100 0 0 10 0
"""
TCP6 = """\
  sl  local_address                         remote_address                        st
   0: B80D0120000000000000000001000000:0016 B80D0120000000000000000007000000:D431 01 0:0 0:0 0 0 0 4
   1: 0000000000000000FFFF0000010012C6:0016 0000000000000000FFFF0000086433C6:D431 01 0:0 0:0 0 0 0 5
"""
TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
           |-- 127.0.0.1
              /32 host LOCAL
           |-- 198.18.0.1
              /32 host LOCAL
           |-- 198.18.0.255
              /32 link BROADCAST
"""
PEER, STRANGER, WEB = "198.51.100.7", "203.0.113.10", "203.0.113.9"
ON_2222 = "192.0.2.77"  # logged in over port 2222
NEIGHBOURS = "198.51.100.0/24"


def prefix(text: str) -> Prefix:
    return parse_prefix(text)[0]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc of our own: SSH from 198.51.100.7, 198.51.100.8, 2001:db8::7, and 192.0.2.77 to port 2222.

    Half logged in is 203.0.113.10; the gateway is 198.18.0.254.
    """
    net, processes = tmp_path / "net", Folder(tmp_path / "proc")
    net.mkdir()
    for name, text in {"tcp": TCP, "tcp6": TCP6, "fib_trie": TRIE}.items():
        (net / name).write_text(text)
    for pid, inode in enumerate((2, 4, 5, 7), 10):
        processes.process(10 * pid, "sshd: bob [priv]", inode)
        processes.process(10 * pid + 1, "sshd: bob@pts/0", inode, parent=10 * pid, user=USER)
    processes.process(20, "sshd: bob [priv]", 6)
    processes.process(21, "sshd: bob [net]", 6, parent=20, user=USER)
    monkeypatch.setattr(sshd, "_PROC", processes.path)
    monkeypatch.setattr(tcptable, "PROC", net)
    monkeypatch.setattr(nexthops, "read", lambda: [prefix("198.18.0.254")])
    monkeypatch.setattr(nameservers, "read", lambda: ([prefix("192.0.2.53")], [prefix("127.0.0.53")]))
    monkeypatch.setattr(dhcp, "servers", lambda: [prefix("192.0.2.67")])
    monkeypatch.setattr(logins, "_SESSIONS", tmp_path / "sessions")
    monkeypatch.setattr(logins, "_UTMP", tmp_path / "utmp")
    monkeypatch.setattr(sessions, "_environments", lambda: iter(()))
    return net


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store.db") as made:
        yield made


def rule(kind: Kind, text: str, source: str = "cli", life: float | None = None) -> NewRule:
    now = time.time()
    target = Port(int(text), "tcp") if kind == "port" else prefix(text)
    return NewRule(kind, target, "", source, now, None if life is None else now + life)


def hold(store: Store, *rules: NewRule) -> None:
    with store.transaction():
        used = len(store.used_slots())
        store.put((it, used + place) for place, it in enumerate(rules))


def put(store: Store, kind: Kind, *texts: str, expires: float | None = None) -> None:
    hold(store, *(NewRule(kind, prefix(text), "", "cli", 0.0, expires) for text in texts))


def test_who_is_protected(host: Path) -> None:
    del host
    found = {str(it.address): it.words for it in sockets.protected()}
    assert set(found) == {
        "198.51.100.7", "198.51.100.8", "2001:db8::7", ON_2222, "198.18.0.1", "198.18.0.254", "192.0.2.53",
        "192.0.2.67",
    }  # fmt: skip
    assert found[PEER] == "the other end of an SSH session to this host (sshd process 101, bob@pts/0)"
    assert "gateway" in found["198.18.0.254"]
    assert "DHCP" in found["192.0.2.67"]


def test_loopback_while_lo_is_attached(host: Path, store: Store) -> None:
    """127.0.0.1, ::1 and the stub that resolv.conf names; also when it is just being attached."""
    del host
    targets = [prefix(it) for it in ("127.0.0.0/8", "::1")]
    safety.check_block(store, targets)
    hold(store, rule("block", "127.0.0.53"))
    safety.check_attach(store, {""}, [])
    with pytest.raises(XdpguardError, match=r"127\.0\.0\.53 is this host's name server"):
        safety.check_attach(store, {""}, [], {""})
    put_attachment(store, Attachment("lo", "", "generic", observe=False), 0.0)
    for target in targets:
        with pytest.raises(XdpguardError, match="loopback"):
            safety.check_block(store, [target])


def test_who_is_half_logged_in_is_a_stranger(host: Path, store: Store) -> None:
    """Sixty of them, too: the address is blocked and listed, and the port is not theirs."""
    del host
    safety.check_block(store, [prefix(STRANGER), prefix(WEB)])
    assert needs.visitors(store) == {prefix(STRANGER)}
    hold(store, rule("allow", NEIGHBOURS), rule("allow", "2001:db8::/64"))
    safety.check_ports(store, [Port(22, "tcp")])


def test_dhcp_sources(host: Path, store: Store) -> None:
    """A DHCPv6 client needs the link-local addresses as a whole; one of them is not worth a refusal."""
    (host / "udp6").write_text("  sl  local_address\n   1: 0:0222 0:0 07\n")
    for target in ("fe80::/10", "fe80::/64"):
        with pytest.raises(XdpguardError, match="DHCPv6"):
            safety.check_block(store, [prefix(target)])
    safety.check_block(store, [prefix("fe80::1")])
    hold(store, rule("allow", "fe80::/10"))
    safety.check_block(store, [prefix("fe80::/64")])


@pytest.mark.parametrize(
    "target", ["198.51.100.7", "198.51.100.0/24", "198.0.0.0/8", "2001:db8::/64", "198.18.0.254", "192.0.2.53"]
)
def test_blocking_whom_the_host_needs(host: Path, store: Store, target: str) -> None:
    del host
    with pytest.raises(XdpguardError, match="is ") as refused:
        safety.check_block(store, [prefix(target)])
    assert "xdpguard allow" in refused.value.remedy


def test_blocking_others(host: Path, store: Store) -> None:
    del host
    safety.check_block(store, [prefix(text) for text in ("203.0.113.9", "198.51.101.0/24", "2001:db8:1::/48")])


def test_blocking_around_the_allowed(host: Path, store: Store) -> None:
    del host
    put(store, "allow", "198.51.100.0/28")
    safety.check_block(store, [prefix(NEIGHBOURS)])


SESSION = "the other end of an SSH session to this host"


def test_all_that_a_block_cuts_off_is_named(host: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most four, one of each role first; the only one with its evidence; what is allowed is not among them."""
    del host
    monkeypatch.setattr(nameservers, "read", lambda: ([prefix("192.0.2.53"), prefix("198.18.0.254")], []))
    own = {b"SSH_CONNECTION": f"{PEER} 54321 198.18.0.1 22".encode()}
    monkeypatch.setattr(sessions, "_environments", lambda: iter([own]))

    def refusal(*targets: str) -> XdpguardError:
        with pytest.raises(XdpguardError) as refused:
            safety.check_block(store, [prefix(it) for it in targets])
        return refused.value

    gateway = "198.18.0.254 (this host's gateway and this host's name server)"
    named = f"{gateway}, 192.0.2.53 (this host's name server), 192.0.2.67 (this host's DHCP server) and "
    everybody = refusal("0.0.0.0/0")
    all_of_it = f"what this host needs: {PEER} ({SESSION}), {named}3 more"
    assert str(everybody) == f"0.0.0.0/0 covers every IPv4 address, also {all_of_it}"
    command = f"xdpguard allow {PEER} 198.18.0.254 192.0.2.53 192.0.2.67"
    assert everybody.remedy == f"allow what you need first: {command}; use --force to override"
    both = str(refusal("0.0.0.0/0", "::/0"))
    assert both.startswith(
        "0.0.0.0/0 covers every IPv4 address and ::/0 covers every IPv6 address, also what this host"
    )
    assert str(refusal("192.0.0.0/3")) == f"192.0.0.0/3 contains {all_of_it}"
    assert str(refusal("198.18.0.0/24", "192.0.2.0/24")) == (
        f"192.0.2.0/24, 198.18.0.0/24 contain what this host needs: {ON_2222} ({SESSION}), {named}1 more"
    )
    hold(store, rule("allow", ON_2222))
    only = refusal("192.0.2.64/26")
    assert str(only) == "192.0.2.64/26 contains 192.0.2.67, which is this host's DHCP server"
    assert only.remedy == "allow it first: xdpguard allow 192.0.2.67; use --force to override"


def test_what_a_forced_block_cuts_off(host: Path, store: Store) -> None:
    """What is allowed for as long is not cut off. DHCP has notes of its own."""
    assert losses.note(store, [prefix("203.0.113.0/24"), Port(22, "tcp")], None) == ""
    hold(store, rule("allow", "192.0.0.0/8"), rule("allow", "198.51.0.0/16", life=60))
    assert losses.note(store, [prefix("0.0.0.0/0")], None) == (
        f"0.0.0.0/0 contains what this host needs: {PEER} ({SESSION}), 198.18.0.254 (this host's gateway), 198.18.0.1"
        f" (an address of this host), 198.51.100.8 ({SESSION}); to let them through: xdpguard allow {PEER}"
        " 198.18.0.254 198.18.0.1 198.51.100.8"
    )
    assert PEER not in losses.note(store, [prefix("0.0.0.0/0")], 30.0)
    assert losses.note(store, [prefix(PEER)], None).endswith("; to let it through: xdpguard allow 198.51.100.7")
    (host / "udp6").write_text("  sl  local_address\n   1: 0:0222 0:0 07\n")
    assert losses.note(store, [prefix("fe80::/10")], None) == ""
    assert needs.dhcp_notes(store, needs.holder_of([prefix("fe80::/10")]))


@pytest.mark.parametrize("target", ["0.0.0.0/0", "::/0"])
def test_blocking_everybody(host: Path, store: Store, target: str) -> None:
    del host
    with pytest.raises(XdpguardError, match="every IPv") as refused:
        safety.check_block(store, [prefix(target)])
    assert refused.value.exit_code == EXIT_FAILED


def test_closing_the_port_one_is_logged_in_over(host: Path, store: Store) -> None:
    del host
    with pytest.raises(XdpguardError, match="22/tcp"):
        safety.check_ports(store, [Port(22, "tcp")])
    safety.check_ports(store, [Port(22, "udp"), Port(80, "tcp")])
    put(store, "allow", "198.51.100.0/24", "2001:db8::/64")
    safety.check_ports(store, [Port(22, "tcp")])


def test_an_allowance_that_ends_sooner_does_not_protect(host: Path, store: Store) -> None:
    del host
    target = prefix(PEER)
    put(store, "allow", "198.51.100.7", expires=time.time() + 60)
    safety.check_block(store, [target], 30)
    for life in (90, None):
        with pytest.raises(XdpguardError, match="SSH"):
            safety.check_block(store, [target], life)


def test_expired_rules_neither_protect_nor_cut_off(host: Path, store: Store) -> None:
    del host
    put(store, "block", "198.51.0.0/16", expires=time.time() - 1)
    safety.check_attach(store, {""}, [])
    put(store, "allow", "198.51.100.7", expires=time.time() - 1)
    with pytest.raises(XdpguardError, match="SSH"):
        safety.check_block(store, [prefix(PEER)])


class Route(NamedTuple):
    """A way to be cut off: what is stored, what is done, and what the refusal says."""

    held: list[NewRule]
    done: Callable[[Store], None]
    says: str


def allow(text: str, life: float) -> Callable[[Store], None]:
    return lambda store: safety.check_allow(store, [prefix(text)], life)


def disallow(*texts: str) -> Callable[[Store], None]:
    return lambda store: safety.check_disallow(store, [prefix(it) for it in texts])


def attach(*config: NewRule) -> Callable[[Store], None]:
    return lambda store: safety.check_attach(store, {""}, config)


def close(port: int, life: float | None = None) -> Callable[[Store], None]:
    return lambda store: safety.check_ports(store, [Port(port, "tcp")], life)


BLOCK, CLOSE = rule("block", NEIGHBOURS), rule("port", "22")
OTHERS = [rule("allow", it) for it in ("198.51.100.8", "2001:db8::7", ON_2222)]
SHORT = "when what else allows it ends, in "
ROUTES = {
    "disallow the last": Route([BLOCK, rule("allow", PEER)], disallow(PEER), "198.51.100.0/24 blocks it"),
    "disallow both": Route(
        [BLOCK, rule("allow", PEER), rule("allow", "198.51.100.0/28")], disallow(PEER, "198.51.100.0/28"), "blocks it"
    ),
    "disallow, a short-lived one is left": Route(
        [BLOCK, rule("allow", PEER), rule("allow", "198.51.100.0/28", life=36000)], disallow(PEER), SHORT
    ),
    "disallow a longer one of two that end": Route(
        [BLOCK, rule("allow", PEER, life=54000), rule("allow", "198.51.100.0/28", life=36000)], disallow(PEER), SHORT
    ),
    "disallow, a port is closed": Route(
        [CLOSE, *OTHERS, rule("allow", PEER)], disallow(PEER), "22/tcp, which is closed"
    ),
    "disallow, a port is closed, a short-lived one is left": Route(
        [CLOSE, *OTHERS, rule("allow", PEER), rule("allow", "198.51.100.0/28", life=36000)],
        disallow(PEER),
        f"22/tcp, which is closed {SHORT}",
    ),
    "disallow, port 2222 is closed": Route(
        [rule("port", "2222"), rule("allow", ON_2222)], disallow(ON_2222), "2222/tcp, which is closed"
    ),
    "allow --for over one without an end": Route([BLOCK, rule("allow", PEER)], allow(PEER, 3600), SHORT),
    "allow --for over a longer one": Route([BLOCK, rule("allow", PEER, life=54000)], allow(PEER, 3600), SHORT),
    "allow --for over a wider, longer one": Route(
        [BLOCK, rule("allow", NEIGHBOURS), rule("allow", PEER, life=54000)], allow(NEIGHBOURS, 3600), SHORT
    ),
    "allow --for, a port is closed": Route([CLOSE, *OTHERS, rule("allow", PEER)], allow(PEER, 3600), SHORT),
    "attach, a stored block": Route([rule("block", "198.51.0.0/16")], attach(), "198.51.0.0/16 blocks it"),
    "attach, a stored block, a short-lived allowance": Route(
        [BLOCK, rule("allow", NEIGHBOURS, life=3600)], attach(), SHORT
    ),
    "attach, a configured block": Route([], attach(rule("block", "0.0.0.0/0", "config")), r"0.0.0.0/0 blocks it"),
    "attach, a configured closed port": Route([], attach(rule("port", "22", "config")), "22/tcp is closed"),
    "attach, the configured allowance is not in the new file": Route(
        [BLOCK, rule("allow", NEIGHBOURS, "config")],
        attach(rule("allow", "192.0.2.0/24", "config")),
        "198.51.100.0/24 blocks it",
    ),
    "attach --no-config": Route([BLOCK, rule("allow", NEIGHBOURS, "config")], attach(), "198.51.100.0/24 blocks it"),
    "attach --no-config, a port is closed": Route(
        [CLOSE, *OTHERS, rule("allow", NEIGHBOURS, "config")], attach(), "22/tcp is closed"
    ),
    "attach, the configured allowance is a block now": Route(
        [rule("allow", PEER, "config")], attach(rule("block", PEER, "config")), f"rule {PEER} blocks it"
    ),
    "attach, a stored closed port 2222": Route([rule("port", "2222")], attach(), "2222/tcp is closed"),
    "attach, a configured closed port 2222": Route([], attach(rule("port", "2222", "config")), "2222/tcp is closed"),
    "close the port": Route([], close(22), "22/tcp carries the SSH session"),
    "close port 2222": Route([], close(2222), r"2222/tcp carries the SSH session from 192.0.2.77 (sshd process 131"),
    "close the port for longer than the allowance": Route(
        [*OTHERS, rule("allow", PEER, life=3600)], close(22, 54000), "22/tcp carries the SSH session"
    ),
}
# The same with one thing that makes it harmless.
HARMLESS = {
    "disallow, another lasts": Route(
        [BLOCK, rule("allow", PEER), rule("allow", "198.51.100.0/28")], disallow(PEER), ""
    ),
    "disallow, another lasts as long as the block": Route(
        [rule("block", NEIGHBOURS, life=18000), rule("allow", PEER), rule("allow", NEIGHBOURS, life=36000)],
        disallow(PEER),
        "",
    ),
    "disallow, nothing blocks it": Route([rule("allow", PEER)], disallow(PEER), ""),
    "disallow, another port is closed": Route([rule("port", "80"), rule("allow", PEER)], disallow(PEER), ""),
    "disallow, who is logged in over another port": Route([CLOSE, rule("allow", ON_2222)], disallow(ON_2222), ""),
    "disallow, of a stranger": Route([rule("block", STRANGER), rule("allow", STRANGER)], disallow(STRANGER), ""),
    "allow --for inside a wider, longer one": Route([BLOCK, rule("allow", NEIGHBOURS)], allow(PEER, 3600), ""),
    "allow --for of what was blocked by force": Route([BLOCK], allow(PEER, 3600), ""),
    "allow --for longer than before": Route([BLOCK, rule("allow", PEER, life=3600)], allow(PEER, 54000), ""),
    "allow --for, nothing blocks it": Route([rule("allow", PEER)], allow(PEER, 3600), ""),
    "attach, the allowance is in the new file as well": Route(
        [BLOCK, rule("allow", NEIGHBOURS, "config")], attach(rule("allow", NEIGHBOURS, "config")), ""
    ),
    "attach, the block was in the old file alone": Route([rule("block", PEER, "config")], attach(), ""),
    "attach, the closed port was in the old file alone": Route([rule("port", "22", "config")], attach(), ""),
    "attach, the allowance is by hand": Route([BLOCK, rule("allow", NEIGHBOURS)], attach(), ""),
    "close the port for as long as the allowance": Route(
        [*OTHERS, rule("allow", PEER, life=54000)], close(22, 3600), ""
    ),
    "close a port that nobody uses": Route([], close(80), ""),
}


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("name", ROUTES)
def test_a_route_to_be_cut_off(store: Store, name: str) -> None:
    route = ROUTES[name]
    hold(store, *route.held)
    with pytest.raises(XdpguardError) as refused:
        route.done(store)
    assert route.says in str(refused.value)
    assert "--force" in refused.value.remedy


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("name", HARMLESS)
def test_what_cuts_nobody_off(store: Store, name: str) -> None:
    hold(store, *HARMLESS[name].held)
    HARMLESS[name].done(store)


def test_the_port_of_the_session_that_the_environment_tells_of(
    host: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no process shows it."""
    del host
    words = b"203.0.113.77 54321 198.18.0.1 2022"
    monkeypatch.setattr(sessions, "_environments", lambda: iter([{b"SSH_CONNECTION": words}]))
    for done in (close(2022), attach(rule("port", "2022", "config"))):
        with pytest.raises(XdpguardError, match=r"203\.0\.113\.77 \(SSH_CONNECTION of this command\)"):
            done(store)
    hold(store, rule("port", "2022"))
    with pytest.raises(XdpguardError, match="2022/tcp is closed"):
        attach()(store)


EVERYBODY = {
    "0.0.0.0/0": ([], ["0.0.0.0/0"]),
    "::/0": ([], ["::/0"]),
    "both halves": ([], ["0.0.0.0/1", "128.0.0.0/1"]),
    "the other half": (["0.0.0.0/1"], ["128.0.0.0/1"]),
    "all that is public": ([], ["0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/3"]),
    "all but what is private": (
        [],
        ["0.0.0.0/5", "8.0.0.0/7", "11.0.0.0/8", "12.0.0.0/6", "16.0.0.0/4", "32.0.0.0/3", "64.0.0.0/2", "128.0.0.0/1"],
    ),
    "all that is global": ([], ["2000::/3"]),
    "again": (["0.0.0.0/0"], ["0.0.0.0/0"]),
}


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("name", EVERYBODY)
def test_allowing_everybody(store: Store, name: str) -> None:
    held, targets = EVERYBODY[name]
    hold(store, *(rule("allow", it) for it in held))
    for life in (None, 60):
        with pytest.raises(XdpguardError, match=r"would let every IPv. address in") as refused:
            safety.check_allow(store, [prefix(it) for it in targets], life)
        assert "--force" in refused.value.remedy
        assert refused.value.exit_code == EXIT_FAILED
    with pytest.raises(XdpguardError, match="would let every IPv"):
        safety.check_attach(store, {""}, [rule("allow", it, "config") for it in (*held, *targets)])
    assert (openness.notes(store) == []) == (name != "again")
    hold(store, *(rule("allow", it) for it in {*targets} - {*held}))
    (note,) = openness.notes(store)
    assert "lets every IPv" in note
    assert "xdpguard disallow" in note


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(
    "targets", [["0.0.0.0/1"], ["0.0.0.0/1", "192.0.0.0/2"], ["2001::/16", "fe80::/10"], ["10.0.0.0/8"]], ids=str
)
def test_allowing_many(store: Store, targets: list[str]) -> None:
    safety.check_allow(store, [prefix(it) for it in targets], None)
    hold(store, rule("allow", "0.0.0.0/0"))
    safety.check_allow(store, [prefix("192.0.2.1")], None)


def test_attaching_with_rules_that_cut_off(host: Path, store: Store) -> None:
    del host
    safety.check_attach(store, {""}, [])
    put(store, "block", "198.51.0.0/16")
    with pytest.raises(XdpguardError, match=r"198\.51\.0\.0/16 blocks it"):
        safety.check_attach(store, {""}, [])
    put(store, "allow", "198.51.100.0/24")
    safety.check_attach(store, {""}, [])


@pytest.mark.usefixtures("host")
def test_which_namespaces_are_the_host(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's, the machine's, and those in which something is attached; one that cannot be entered is skipped."""
    closed: set[str] = set()
    asked: list[str] = []

    @contextlib.contextmanager
    def entered(name: str) -> Iterator[None]:
        if name in closed:
            raise MissingError("no permission", "")
        asked.append(name)
        yield

    monkeypatch.setattr(needs, "_initial", lambda: "pid 1")
    monkeypatch.setattr("xdpguard.net.netns.entered", entered)
    put_attachment(store, Attachment("eth0", "web", "generic", observe=False), 0.0)
    found = needs.refusing(store)
    assert asked == ["", "pid 1", "web"]
    assert {it.role for it in found if it.address == prefix("198.18.0.254")} == {
        "this host's gateway", "this host's gateway in pid 1", "this host's gateway in web"
    }  # fmt: skip
    closed.add("pid 1")
    assert len(needs.refusing(store)) == len(found) * 2 // 3
    closed.add("web")
    with pytest.raises(MissingError):
        needs.refusing(store)
