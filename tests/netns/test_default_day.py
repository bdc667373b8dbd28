# SPDX-License-Identifier: GPL-2.0
"""Ordinary protocols of a day through a host with an enforced default, with programs of the distribution."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from support.command import Command
from support.patience import patient
from support.traffic import PORT, Echo, eventually, works
from topology import INTERFACE, OUTSIDE4, SERVER4, Lab

from xdpguard.net.netns import entered

ENFORCED = ["default", "drop", "--enforce", "--strict-udp"]
WAIT = patient(2.0)  # seconds
FTP, MDNS, GROUP = 2121, 5353, "224.0.0.251"


class Daemon:
    """A program in a namespace, and what it has printed. Use as a context manager."""

    def __init__(self, netns: str, *words: str) -> None:
        self.said = ""
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", netns, *words], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Daemon:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def says(self, text: str, times: int = 1) -> bool:
        return eventually(lambda: self.said.count(text) >= times, WAIT * 5)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said += line


def scanned(lab: Lab, *arguments: str) -> tuple[list[str], str]:
    """What nmap finds from outside: open ports, and the state of all others."""
    words = ["nmap", "-n", "-Pn", "-T4", "--max-retries", "1", "--min-rate", "500", "-oG", "-", *arguments, SERVER4]
    found = lab.run(lab.outside, words).stdout
    others = re.search(r"Ignored State: ([\w|]+)", found)
    return re.findall(r"(\d+)/open/", found), others[1] if others else ""


def test_nmap_finds_what_is_admitted_and_nothing_else(attached: Command, lab: Lab) -> None:
    ports = f"{PORT - 50}-{PORT + 50}"
    with Echo(lab):
        for how in ("-sS", "-sT"):
            assert scanned(lab, how, "-p", ports) == ([str(PORT)], "closed"), "positive control"
        attached.ok(*ENFORCED)
        assert scanned(lab, "-sS", "-p", ports) == ([], "filtered")
        attached.ok("filter", "add", "service", f"tcp dport {PORT}", "--pass")
        for how in ("-sS", "-sT"):
            assert scanned(lab, how, "-p", ports) == ([str(PORT)], "filtered")
        for how in ("-sA", "-sF", "-sX", "-sN"):
            assert scanned(lab, how, "-p", f"{PORT - 50}-{PORT - 1}")[1] in ("filtered", "open|filtered")
        assert attached.json("default", "show")["dropped"] > 100
        attached.ok("default", "pass")
        assert scanned(lab, "-sS", "-p", ports) == ([str(PORT)], "closed")


def test_a_lease_is_renewed(attached: Command, lab: Lab, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('#!/bin/sh\n[ "$1" != bound ] || ip address add "$ip/24" dev "$interface"\n')
    script.chmod(0o755)
    serve = [
        *("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", f"--interface={INTERFACE}"),
        *("--bind-interfaces", "--leasefile-ro", "--dhcp-range=198.18.0.200,198.18.0.209,2m", "--no-ping"),
    ]
    client = ["udhcpc", "-f", "-i", INTERFACE, "-s", str(script)]
    try:
        with Daemon(lab.outside, *serve) as server:
            assert server.says("DHCP, IP range")
            with Daemon(lab.server, *client) as asking:
                assert server.says("DHCPACK"), "positive control"
                assert asking.says("lease of")
                attached.ok(*ENFORCED)
                asking.signal(signal.SIGUSR1)
                assert server.says("DHCPACK", 2)
                assert asking.says("lease of", 2)
            with Daemon(lab.server, *client) as asking:
                assert asking.says("lease of"), "a new lease, under the default"
    finally:
        for number in range(200, 210):
            lab.run(lab.server, ["ip", "address", "del", f"198.18.0.{number}/24", "dev", INTERFACE], check=False)


def lists(lab: Lab, passive: bool) -> bool:
    """The host lists a folder of a server of FTP outside."""
    how = ["--ftp-pasv"] if passive else ["--ftp-port", "-"]
    words = ["curl", "--silent", "--list-only", "--max-time", str(WAIT), *how, f"ftp://{OUTSIDE4}:{FTP}/"]
    return "there" in lab.run(lab.server, words, check=False).stdout


def test_ftp_passive_works_and_active_does_not(attached: Command, lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    serve = ["/usr/bin/python3", "-m", "pyftpdlib", "-i", OUTSIDE4, "-p", str(FTP), "-d", str(tmp_path)]
    with Daemon(lab.outside, *serve) as server:
        assert server.says("starting FTP server")
        for passive in (True, False):
            assert lists(lab, passive), "positive control"
        attached.ok(*ENFORCED)
        assert lists(lab, passive=True)
        assert not lists(lab, passive=False), "the server opens the connection for the data"
        attached.ok("filter", "add", "ftp", f"ip saddr {OUTSIDE4} tcp dport 1024-65535", "--pass")
        assert lists(lab, passive=False)


@contextlib.contextmanager
def responding(lab: Lab) -> Iterator[None]:
    """Who answers what is sent to the group of mDNS, to the asker alone, from its own address (RFC 6762, 6.7)."""
    with entered(lab.outside):
        its = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    its.bind(("", MDNS))
    member = socket.inet_aton(GROUP) + socket.inet_aton(OUTSIDE4)
    its.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    its.settimeout(0.05)
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                data, asker = its.recvfrom(100)
                its.sendto(data, (OUTSIDE4 if data == b"stop" else asker[0], asker[1]))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        its.close()


def finds(lab: Lab) -> bool:
    """The host asks the group and gets an answer."""
    with entered(lab.server):
        its = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with its:
        its.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(SERVER4))
        its.settimeout(WAIT)
        its.sendto(b"who", (GROUP, MDNS))
        try:
            return its.recvfrom(100) == (b"who", (OUTSIDE4, MDNS))
        except TimeoutError:
            return False


def is_asked(lab: Lab) -> bool:
    """A question to the group from outside reaches the host, which listens to it."""
    with entered(lab.server):
        its = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with entered(lab.outside):
        asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with its, asker:
        its.bind(("", MDNS))
        its.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + socket.inet_aton(SERVER4))
        its.settimeout(WAIT / 2)
        asker.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(OUTSIDE4))
        asker.sendto(b"who", (GROUP, MDNS))
        try:
            return its.recv(100) == b"who"
        except TimeoutError:
            return False


def test_mdns_out_and_by_choice_in(attached: Command, lab: Lab) -> None:
    """Answers come from others than the group; questions of others need a filter where UDP is strict."""
    with responding(lab):
        assert finds(lab), "positive control"
        assert is_asked(lab), "positive control"
        attached.ok(*ENFORCED)
        assert finds(lab)
    assert not is_asked(lab)
    attached.ok("filter", "add", "mdns", f"ip daddr {GROUP} udp dport {MDNS}", "--pass")
    assert is_asked(lab)


def test_services_are_reached_that_a_filter_names(attached: Command, lab: Lab) -> None:
    with Echo(lab):
        attached.ok("filter", "add", "service", f"tcp dport {PORT}", "--pass")
        attached.ok(*ENFORCED)
        assert works(lab, 4, "tcp")
        assert works(lab, 6, "tcp")
        assert not works(lab, 4, "udp")
