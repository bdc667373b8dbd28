# SPDX-License-Identifier: GPL-2.0
"""The name servers behind a stub, and what DHCP needs, read from the files of those who know them; many routes."""

from __future__ import annotations

import calendar
from pathlib import Path

import pytest

from xdpguard.net import dhcp, nameservers, nexthops, tcptable

SERVER = "192.0.2.53"
STUB = "nameserver 127.0.0.53\noptions edns0\n"
# Where a name server is found: file and text.
BEHIND = {
    "resolv.conf": ("etc/resolv.conf", f"search example.com\n nameserver {SERVER}\n"),
    "systemd-resolved": ("run/systemd/resolve/resolv.conf", f"nameserver {SERVER}\n"),
    "systemd-resolved, its configuration": ("etc/systemd/resolved.conf", f"[Resolve]\nDNS={SERVER}:53#dns.example\n"),
    "systemd-resolved, the last resort": ("etc/systemd/resolved.conf.d/x.conf", f"FallbackDNS=2001:db8::1 {SERVER}\n"),
    "NetworkManager": ("run/NetworkManager/no-stub-resolv.conf", f"nameserver {SERVER}\n"),
    "dnsmasq": ("etc/dnsmasq.d/lan.conf", f"no-resolv\nserver={SERVER}#5353\n"),
    "dnsmasq, of a domain": ("etc/dnsmasq.conf", f"server=/lan.example/corp.example/{SERVER}\n"),
    "dnsmasq, of an interface": ("etc/dnsmasq.conf", f"server={SERVER}@eth0\n"),
    "resolvconf for dnsmasq": ("run/dnsmasq/resolv.conf", f"nameserver {SERVER}\n"),
    "unbound": (
        "etc/unbound/unbound.conf.d/up.conf",
        f"forward-zone:\n name: .\n  forward-addr: {SERVER}@853#dns.example\n",
    ),
    "BIND": (
        "etc/bind/named.conf.options",
        f"options {{\n forwarders {{\n  198.51.100.1;\n  {SERVER} port 54; }};\n}};\n",
    ),
    "PowerDNS": ("etc/powerdns/recursor.conf", f"forward-zones-recurse=.=198.51.100.1;{SERVER}:53\n"),
    "Pi-hole": (
        "etc/pihole/pihole.toml",
        f'[dns]\n  upstreams = [\n    "198.51.100.1",\n    "{SERVER}#53"\n  ] ### x\n',
    ),
    "CoreDNS": ("etc/coredns/Corefile", f". {{\n  forward . 198.51.100.1 tls://{SERVER}\n}}\n"),
    "stubby": ("etc/stubby/stubby.yml", f"upstream_recursive_servers:\n  - address_data: {SERVER}\n"),
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(nameservers, "_ROOT", tmp_path)
    monkeypatch.setattr(dhcp, "_ROOT", tmp_path)
    monkeypatch.setattr(tcptable, "PROC", tmp_path)
    write(tmp_path, "etc/resolv.conf", STUB)
    return tmp_path


def write(root: Path, name: str, text: str | bytes) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize("name", BEHIND)
def test_a_name_server(root: Path, name: str) -> None:
    assert nameservers.read()[0] == []
    write(root, *BEHIND[name])
    assert SERVER in map(str, nameservers.read()[0])


def test_a_file_that_dnsmasq_is_told_of(root: Path) -> None:
    write(root, "etc/dnsmasq.conf", "resolv-file=/etc/upstream.conf\n")
    write(root, "etc/upstream.conf", f"nameserver {SERVER}\n")
    assert [str(it) for it in nameservers.read()[0]] == [SERVER]


def test_what_is_no_name_server(root: Path) -> None:
    """Comments, names, networks, loopback; the stub is told apart."""
    write(root, "etc/dnsmasq.conf", "#server=192.0.2.1\nserver=/example.com/#\nserver=192.0.2.0/24\nserver=\n")
    write(root, "run/systemd/resolve/resolv.conf", "nameserver dns.example\nnameserver ::1\nnameserver fe80::1%eth0\n")
    write(
        root,
        "etc/bind/named.conf",
        "acl bad { 192.0.2.1; };\n// forwarders { 192.0.2.2; };\n/* forwarders { 192.0.2.3; }; */\n",
    )
    found, stubs = nameservers.read()
    assert [str(it) for it in found] == ["fe80::1"]
    assert [str(it) for it in stubs] == ["127.0.0.53"]


DAY = calendar.timegm((2026, 11, 20, 12, 0, 0))
LEASES = """\
lease {
  interface "eth0";
  option dhcp-server-identifier 192.0.2.2;
  expire 5 2026/11/20 10:00:00;
}
lease {
  interface "eth0";
  option dhcp-server-identifier 192.0.2.3;
  expire 5 2026/11/20 14:00:00;
}
lease {
  option dhcp-server-identifier 192.0.2.4;
  expire never;
}
lease {
  option dhcp-server-identifier 192.0.2.5;
  expire epoch 1; # Thu Jan 1 00:00:01 1970
}
"""


def test_leases_of_dhclient(root: Path) -> None:
    assert list(dhcp.dhclient(LEASES, DAY)) == ["192.0.2.3", "192.0.2.4"], "and not what has expired"
    write(root, "var/lib/dhcp/dhclient.eth0.leases", LEASES)
    assert "192.0.2.4" in map(str, dhcp.servers())


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("run/systemd/netif/leases/2", "ADDRESS=192.0.2.9\nSERVER_ADDRESS=192.0.2.2\nROUTER=192.0.2.1\n"),
        ("var/lib/NetworkManager/internal-1-eth0.lease", "SERVER_ADDRESS=192.0.2.2\n"),
        (
            "var/lib/dhcpcd/eth0.lease",
            bytes(236) + b"\x63\x82\x53\x63" + b"\x35\x01\x05\x00\x36\x04\xc0\x00\x02\x02\xff",
        ),
    ],
    ids=["systemd-networkd", "NetworkManager", "dhcpcd"],
)
def test_leases(root: Path, name: str, data: str | bytes) -> None:
    assert dhcp.servers() == []
    write(root, name, data)
    assert [str(it) for it in dhcp.servers()] == ["192.0.2.2"]


@pytest.mark.parametrize("data", [b"", bytes(300), bytes(236) + b"\x63\x82\x53\x63\x36\x04\xc0", b"SERVER_ADDRESS=x\n"])
def test_what_is_no_lease(root: Path, data: bytes) -> None:
    write(root, "var/lib/dhcpcd/eth0.lease", data)
    write(root, "run/systemd/netif/leases/2", data)
    write(root, "var/lib/dhcp/dhclient.leases", data)
    assert dhcp.servers() == []


@pytest.mark.parametrize(
    ("name", "port", "needs"),
    [
        ("udp", "0043", "0.0.0.0"),
        ("udp", "0044", ""),
        ("udp6", "0222", "fe80::/64"),
        ("udp6", "0223", "fe80::/64"),
        ("udp6", "0035", ""),
    ],
)
def test_whom_dhcp_hears(root: Path, name: str, port: str, needs: str) -> None:
    write(root, name, f"  sl  local_address rem_address   st\n   1: 00000000:{port} 00000000:0000 07\n")
    assert [str(it) for it, _ in dhcp.sources()] == ([needs] if needs else [])


def test_routes_that_take_long_to_read_are_not_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, seconds, reads = [1000.0], [0.05], [0]

    def slowly(*_: object) -> list[bytes]:
        reads[0] += 1
        clock[0] += seconds[0]
        return []

    monkeypatch.setattr(nexthops, "_held", {})
    monkeypatch.setattr(nexthops, "_dump", slowly)
    monkeypatch.setattr("xdpguard.net.nexthops.time.monotonic", lambda: clock[0])
    for expected in (2, 4):  # one for each family
        nexthops.read()
        assert reads[0] == expected, "quick ones are"
    seconds[0] = 1.0
    for later, expected in ((0.0, 6), (39.0, 6), (2.0, 8)):
        clock[0] += later
        nexthops.read()
        assert reads[0] == expected
