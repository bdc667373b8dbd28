# SPDX-License-Identifier: GPL-2.0
"""The SYN guard on the bench, inside a lab's server namespace, where there are sockets for it to find."""

from __future__ import annotations

import array
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from topology import INTERFACE, OUTSIDE_MAC, SERVER4, SERVER6, SERVER_MAC, Lab

from support.bench import VERDICTS, Answer, Bench, one_cpu
from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.tables import guard, guardpolicy
from xdpguard.net.netns import entered, entered_path, place
from xdpguard.policy.model import Guard

ETHER = Ether(src=OUTSIDE_MAC, dst=SERVER_MAC)
_ETHERS: dict[int, bytes] = {4: bytes(ETHER / IP())[:14], 6: bytes(ETHER / IPv6())[:14]}
SOURCE4, SOURCE6 = "16.1.2.3", "2001:db8::77"
PORT = 8000
AROUND = guard.Surroundings(bytes.fromhex(SERVER_MAC.replace(":", "")))


def set_sysctl(lab: Lab, name: str, value: object) -> None:
    """Sets net.ipv4.NAME in the server's namespace."""
    with entered(lab.server):
        Path("/proc/sys/net/ipv4", name).write_text(str(value))


@contextmanager
def sysctls(lab: Lab, **values: object) -> Iterator[None]:
    """Sets net.ipv4.* in the server's namespace, and puts them back."""
    with entered(lab.server):
        before = {name: Path("/proc/sys/net/ipv4", name).read_text().strip() for name in values}
    try:
        for name, value in values.items():
            set_sysctl(lab, name, value)
        yield
    finally:
        for name, value in before.items():
            set_sysctl(lab, name, value)


def listen(lab: Lab, port: int = PORT, backlog: int = 64) -> socket.socket:
    """A dual-stack listener in the server's namespace."""
    with entered(lab.server):
        made = socket.socket(socket.AF_INET6)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(("::", port))
        made.listen(backlog)
    return made


class GuardBench:
    """A bench whose packets seem to come from the lab server's interface."""

    def __init__(self, bench: Bench, lab: Lab) -> None:
        self.bench = bench
        # Found once: to look it up for each packet takes as long as the rest.
        self._namespace = place(lab.server).path
        with entered(lab.server):
            self._ifindex = socket.if_nametoindex(INTERFACE)

    def policy(
        self, active: bool = True, around: guard.Surroundings = AROUND, translated: bool = False, **values: Any
    ) -> None:
        """Puts a policy in force; ``active``: as mode always."""
        chosen = Guard(**({"mode": "always" if active else "auto"} | values))
        guardpolicy.write(self.bench.pins, guardpolicy.encode(chosen, True, True))
        around = around._replace(pass_unknown=translated or around.pass_unknown)
        guard.settle(self.bench.pins, "bench", "", "always" if active else "off", around)
        if active and chosen.mode != "always":
            # As in a flood without an end.
            descriptor = self.bench.pins.open_link("guard", "bench", "", abi.GUARD.size)
            kernel.update(descriptor, bytes(4), abi.GUARD.pack(*self.state()._replace(until=guard.ALWAYS - 1)))
            os.close(descriptor)

    def state(self) -> guard.State:
        """The guard's state."""
        return guard.read(self.bench.pins, "bench", "")

    def clock(self, seconds: float) -> None:
        """Sets the fake clock."""
        self.bench.set_clock(int(seconds * 1e9))

    def send(self, frame: bytes) -> tuple[Answer, Ether]:
        """Runs a frame; returns what became of it, and the frame that came out."""
        answer, data = self.send_raw(frame)
        return answer, Ether(data)

    def send_raw(self, frame: bytes) -> tuple[Answer, bytes]:
        """The same, without scapy."""
        with self.bench.counted() as answer, entered_path(self._namespace):
            run = kernel.test_run(self.bench.fd, frame, 1, self._ifindex)
        return answer(run), run.data

    def run(self, frame: bytes, times: int) -> None:
        """Runs a frame so many times, whatever becomes of it."""
        with entered_path(self._namespace):
            for _ in range(times):
                kernel.test_run(self.bench.fd, frame, 1, self._ifindex)

    def connect(self, ports: Iterable[int]) -> int:
        """A client for each port, which acknowledges the cookie that it gets; returns how many got one.

        Frames are made once and changed, and only verdicts are looked at: thousands of clients are a matter of seconds.
        """
        asked, acknowledged = bytearray(syn()), bytearray(segment("A", seq=1001))
        answered = 0
        with entered_path(self._namespace):
            for port in ports:
                asked[34:36] = acknowledged[34:36] = port.to_bytes(2, "big")
                run = kernel.test_run(self.bench.fd, bytes(asked), 1, self._ifindex)
                if VERDICTS[run.verdict] == "TX":
                    answered += 1
                    cookie = int.from_bytes(run.data[38:42], "big")
                    acknowledged[42:46] = ((cookie + 1) % (1 << 32)).to_bytes(4, "big")
                    proof = kernel.test_run(self.bench.fd, bytes(acknowledged), 1, self._ifindex)
                    assert VERDICTS[proof.verdict] == "PASS", port
        return answered

    def reason(self, frame: bytes) -> str:
        """The reason alone."""
        return self.send_raw(frame)[0].reason

    def forget_buckets(self) -> None:
        """Fills every token bucket."""
        descriptor = self.bench.pins.open("buckets", 4, abi.BUCKETS.size)
        count = kernel.map_info(descriptor).max_entries
        keys = array.array("I", range(count)).tobytes()
        kernel.update_batch(descriptor, keys, bytes(abi.BUCKETS.size * count), count)
        os.close(descriptor)


# No scans, and a flood from a thousand SYNs a second on.
QUIET: dict[str, Any] = {"scan_ports": 0, "flood_rate": 1000, "window": "1s", "hold": "5s"}


@contextmanager
def guarding(bench: Bench, lab: Lab) -> Iterator[GuardBench]:
    """A guard on one CPU, without a policy, at second 100 of its clock; cookies are allowed, a listener is on PORT."""
    with one_cpu():
        bench.reset()
        made = GuardBench(bench, lab)
        made.forget_buckets()
        made.clock(100)
        with sysctls(lab, tcp_syncookies=2, tcp_timestamps=2), listen(lab):
            yield made


def ip(family: int, source: str = "") -> IP | IPv6:
    """The IP header of a packet to the server."""
    if family == 4:
        return IP(src=source or SOURCE4, dst=SERVER4)
    return IPv6(src=source or SOURCE6, dst=SERVER6)


def syn(family: int = 4, source: str = "", port: int = PORT, **tcp: Any) -> bytes:
    """An initial SYN to the server."""
    return segment("S", family, source, port, **({"seq": 1000} | tcp))


def segment(flags: str, family: int = 4, source: str = "", port: int = PORT, **tcp: Any) -> bytes:
    """Any other segment to the server."""
    if tcp.keys() <= {"sport", "seq", "ack"}:
        return _plain(flags, family, source, port, **tcp)
    fields: dict[str, Any] = {"sport": 4000, "dport": port, "flags": flags} | tcp
    return bytes(ETHER / ip(family, source) / TCP(**fields))


def _plain(flags: str, family: int, source: str, port: int, sport: int = 4000, seq: int = 0, ack: int = 0) -> bytes:
    """What scapy makes of it, in a hundredth of its time: floods are made of these."""
    bits = sum(1 << "FSRPAUEC".index(flag) for flag in flags)
    tcp = struct.pack("!HHIIHHHH", sport, port, seq, ack, 5 << 12 | bits, 8192, 0, 0)
    if family == 4:
        ends = socket.inet_aton(source or SOURCE4) + socket.inet_aton(SERVER4)
        header = struct.pack("!BBHHHBBH", 0x45, 0, 40, 1, 0, 64, 6, 0)
        below = header[:10] + _checksum(header + ends) + ends
    else:
        ends = socket.inet_pton(socket.AF_INET6, source or SOURCE6) + socket.inet_pton(socket.AF_INET6, SERVER6)
        below = struct.pack("!IHBB", 6 << 28, 20, 6, 64) + ends
    checksum = _checksum(ends + struct.pack("!HH", 6, 20) + tcp)
    return _ETHERS[family] + below + tcp[:16] + checksum + tcp[18:]


def _checksum(data: bytes) -> bytes:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return (0xFFFF ^ (total & 0xFFFF) + (total >> 16)).to_bytes(2, "big")
