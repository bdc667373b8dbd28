# SPDX-License-Identifier: GPL-2.0
"""Nobody locks himself out: who is protected, and what is refused."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from xdpguard.control import safety
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.net import sockets
from xdpguard.policy.rule import NewRule
from xdpguard.policy.target import Kind, Port, parse_prefix
from xdpguard.store.database import Store

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 010012C6:0016 076433C6:D431 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 010012C6:0050 097100CB:D432 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 100 0 0 10 0
"""
TCP6 = """\
  sl  local_address                         remote_address                        st
   0: B80D0120000000000000000001000000:0016 B80D0120000000000000000007000000:D431 01 0:0 0:0 0 0 0 4
   1: 0000000000000000FFFF0000010012C6:0016 0000000000000000FFFF0000086433C6:D431 01 0:0 0:0 0 0 0 5
"""
ROUTE = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\tFE0012C6\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000012C6\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
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


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc/net of our own: SSH from 198.51.100.7, 198.51.100.8 and 2001:db8::7; gateway 198.18.0.254."""
    for name, text in {"tcp": TCP, "tcp6": TCP6, "route": ROUTE, "fib_trie": TRIE}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(sockets, "_PROC", tmp_path)
    monkeypatch.setattr(sockets, "resolvers", lambda: [parse_prefix("192.0.2.53")[0]])
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    return tmp_path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store.db") as made:
        yield made


def put(store: Store, kind: Kind, *texts: str, expires: float | None = None) -> None:
    with store.transaction():
        used = len(store.used_slots())
        rules = [NewRule(kind, parse_prefix(text)[0], "", "cli", 0.0, expires) for text in texts]
        store.put((rule, used + place) for place, rule in enumerate(rules))


def test_who_is_protected(host: Path) -> None:
    del host
    found = {str(address): role for address, role in sockets.protected()}
    assert set(found) == {
        "198.51.100.7", "198.51.100.8", "2001:db8::7", "198.18.0.1", "198.18.0.254", "192.0.2.53",
    }  # fmt: skip
    assert "SSH" in found["198.51.100.7"]
    assert "gateway" in found["198.18.0.254"]


def test_the_session_this_command_runs_in(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del host
    monkeypatch.setenv("SSH_CONNECTION", "203.0.113.9 54321 198.18.0.1 2222")
    assert ("203.0.113.9", 2222) in {(str(peer), port) for peer, port in sockets.ssh_sessions()}


def test_the_session_of_a_shell_above_sudo(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sudo strips SSH_CONNECTION: the shell that called it still has it."""
    del host
    monkeypatch.setenv("SSH_CONNECTION", "203.0.113.9 54321 198.18.0.1 2222")
    code = "from xdpguard.net import sockets; print(sorted((str(p), n) for p, n in sockets.ssh_sessions()))"
    shell = f"env -u SSH_CONNECTION {sys.executable} -c '{code}'; true"
    assert "('203.0.113.9', 2222)" in subprocess.check_output(["sh", "-c", shell], text=True)


@pytest.mark.parametrize(
    "target", ["198.51.100.7", "198.51.100.0/24", "198.0.0.0/8", "2001:db8::/64", "198.18.0.254", "192.0.2.53"]
)
def test_blocking_whom_the_host_needs(host: Path, store: Store, target: str) -> None:
    del host
    with pytest.raises(XdpguardError, match="is ") as refused:
        safety.check_block(store, [parse_prefix(target)[0]])
    assert "xdpguard allow" in refused.value.remedy


def test_blocking_others(host: Path, store: Store) -> None:
    del host
    safety.check_block(store, [parse_prefix(text)[0] for text in ("203.0.113.9", "198.51.101.0/24", "2001:db8:1::/48")])


def test_blocking_around_the_allowed(host: Path, store: Store) -> None:
    del host
    put(store, "allow", "198.51.100.0/28")
    safety.check_block(store, [parse_prefix("198.51.100.0/24")[0]])


@pytest.mark.parametrize("target", ["0.0.0.0/0", "::/0"])
def test_blocking_everybody(host: Path, store: Store, target: str) -> None:
    del host
    with pytest.raises(UsageError, match="every IPv"):
        safety.check_block(store, [parse_prefix(target)[0]])


def test_closing_the_port_one_is_logged_in_over(host: Path, store: Store) -> None:
    del host
    with pytest.raises(XdpguardError, match="22/tcp"):
        safety.check_ports(store, [Port(22, "tcp")])
    safety.check_ports(store, [Port(22, "udp"), Port(80, "tcp")])
    put(store, "allow", "198.51.100.0/24", "2001:db8::/64")
    safety.check_ports(store, [Port(22, "tcp")])


def test_an_allowance_that_ends_sooner_does_not_protect(host: Path, store: Store) -> None:
    del host
    target = parse_prefix("198.51.100.7")[0]
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
        safety.check_block(store, [parse_prefix("198.51.100.7")[0]])


def test_a_configuration_that_cuts_off(host: Path, store: Store) -> None:
    del host

    def config(kind: Kind, text: str) -> NewRule:
        target = Port(22, "tcp") if kind == "port" else parse_prefix(text)[0]
        return NewRule(kind, target, "", "config", 0.0, None)

    with pytest.raises(XdpguardError, match=r"0\.0\.0\.0/0 blocks it"):
        safety.check_attach(store, {""}, [config("block", "0.0.0.0/0")])
    with pytest.raises(XdpguardError, match="22/tcp is closed"):
        safety.check_attach(store, {""}, [config("port", "")])
    safety.check_attach(store, {""}, [config("port", ""), config("allow", "0.0.0.0/0"), config("allow", "::/0")])


def test_taking_an_allowance_away_while_the_ssh_port_is_closed(host: Path, store: Store) -> None:
    del host
    put(store, "allow", "198.51.100.7")
    with store.transaction():
        store.put([(NewRule("port", Port(22, "tcp"), "", "cli", 0.0, None), 40)])
    with pytest.raises(XdpguardError, match="22/tcp, which is closed"):
        safety.check_disallow(store, [parse_prefix("198.51.100.7")[0]])


def test_taking_the_last_allowance_away(host: Path, store: Store) -> None:
    del host
    put(store, "allow", "198.51.100.7", "198.51.100.0/28")
    put(store, "block", "198.51.100.0/24")
    safety.check_disallow(store, [parse_prefix("198.51.100.7")[0]])
    with pytest.raises(XdpguardError, match=r"198\.51\.100\.7"):
        safety.check_disallow(store, [parse_prefix(text)[0] for text in ("198.51.100.7", "198.51.100.0/28")])


def test_attaching_with_rules_that_cut_off(host: Path, store: Store) -> None:
    del host
    safety.check_attach(store, {""}, [])
    put(store, "block", "198.51.0.0/16")
    with pytest.raises(XdpguardError, match=r"198\.51\.0\.0/16 blocks it"):
        safety.check_attach(store, {""}, [])
    put(store, "allow", "198.51.100.0/24")
    safety.check_attach(store, {""}, [])
