# SPDX-License-Identifier: GPL-2.0
"""The defences of the SYN-flood scenario: three of the kernel's, and xdpguard; and the minimum cost of an answer."""

from __future__ import annotations

import os
import re
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from scenarios.peers import PATIENCE, PORT
from topology import INTERFACE, Lab

from xdpguard.bench.ends import XDP_PASS
from xdpguard.dataplane.build.cflags import header_flags
from xdpguard.dataplane.build.compiler import import_bcc
from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.sys.source import source_folder
from xdpguard.dataplane.tables import guard
from xdpguard.net import sysctl
from xdpguard.net.links import Links
from xdpguard.net.netns import entered
from xdpguard.telemetry import counters

_BPFFS = Path("/sys/fs/bpf")
_POLL = 0.001  # seconds
# Answers every IPv4 packet from a spoofed source with itself: the minimum cost of an answer here.
_SWAP = r"""
int swap(struct xdp_md *ctx)
{
	u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	u16 *mac = (void *)data, half;
	u32 *address = (void *)(data + 26), word;
	int i;

	if (data + 34 > end || (address[0] & 0xf0) != 0x10)
		return XDP_PASS;
#pragma unroll
	for (i = 0; i < 3; i++) {
		half = mac[i];
		mac[i] = mac[i + 3];
		mac[i + 3] = half;
	}
	word = address[0];
	address[0] = address[1];
	address[1] = word;
	return XDP_TX;
}
"""
_SYNPROXY = f"""\
table ip syn_flood {{
	chain raw {{
		type filter hook prerouting priority raw; policy accept;
		tcp dport {PORT} tcp flags & (fin | syn | rst | ack) == syn notrack
	}}
	chain input {{
		type filter hook input priority filter; policy accept;
		tcp dport {PORT} ct state invalid,untracked synproxy mss 1460 wscale 7 timestamp sack-perm
		ct state invalid drop
	}}
}}
"""


class Unavailable(Exception):
    """This machine lacks a defence; the message says what."""


@dataclass(frozen=True)
class Times:
    """Seconds from the flood's first SYN until the guard acted, and from its last SYN until it was idle."""

    to_active: float
    to_idle: float


# The defences. Each is set up in a lab, and yields the core for the sender, and the count of SYNs answered so far.

Ready = tuple[int, Callable[[], int]]


@dataclass(frozen=True)
class Defence:
    """One of the kernel's defences: its name, its setup, and the rates at which it is tried."""

    name: str
    set_up: Callable[[Lab], Ready]
    rates: tuple[int, ...] = (400_000, 600_000, 800_000, 1_200_000)


def attach(lab: Lab, program: int) -> int:
    """Attach a program to the server's interface, where it stays; return the core for the sender.

    Uses the mode in which its answers arrive: native, or generic if the peer has no program.
    """
    links = Links()
    links.attach(links.get(INTERFACE, lab.server), program, "generic" if lab.ordinary else "native", None)
    os.close(program)
    return lab.split_cores()


def _attach_pass(lab: Lab) -> int:
    # xdpguard has a program, so all defences get the same receive path.
    return attach(lab, kernel.load_xdp(XDP_PASS, "lab_pass"))


def _tcp(lab: Lab, table: str, name: str) -> int:
    """Return a counter of ``/proc/net/snmp`` or ``netstat`` in the server's namespace."""
    with entered(lab.server):
        lines = Path(f"/proc/thread-self/net/{table}").read_text(encoding="ascii").splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        found = dict(zip(names.split(), values.split(), strict=True))
        if name in found:
            return int(found[name])
    return 0


def _kernel_alone(lab: Lab) -> Ready:
    sysctl.write("net.ipv4.tcp_syncookies", "0", lab.server)
    # Nothing counts the SYNs that fit in the queue. But each is answered, and without connections nothing is sent but
    # those answers, retransmitted.
    return _attach_pass(lab), lambda: _tcp(lab, "snmp", "OutSegs") - _tcp(lab, "snmp", "RetransSegs")


def _kernel_cookies(lab: Lab) -> Ready:
    sysctl.write("net.ipv4.tcp_syncookies", "2", lab.server)
    return _attach_pass(lab), lambda: _tcp(lab, "netstat", "SyncookiesSent")


def _synproxy(lab: Lab) -> Ready:
    if not shutil.which("nft"):
        raise Unavailable("there is no nft here: install nftables")
    done = lab.run(lab.server, ["nft", "-f", "-"], input=_SYNPROXY, check=False)
    if done.returncode:
        reason = next(iter(done.stderr.strip().splitlines()), "no reason given")
        raise Unavailable(f"nft does not take a table with synproxy, the kernel's module may be missing: {reason}")
    # As its documentation requires: an ACK must not create a connection that conntrack takes for an established one.
    wanted = {"netfilter.nf_conntrack_tcp_loose": 0, "ipv4.tcp_syncookies": 2, "ipv4.tcp_timestamps": 1}
    for name, value in wanted.items():
        sysctl.write(f"net.{name}", str(value), lab.server)
    return _attach_pass(lab), lambda: _synproxy_answers(lab)


def _synproxy_answers(lab: Lab) -> int:
    """Return the SYNs answered with a cookie; the file has one line per CPU, in hexadecimal."""
    with entered(lab.server):
        names, *rows = Path("/proc/thread-self/net/stat/synproxy").read_text(encoding="ascii").splitlines()
    place = names.split().index("syn_received")
    return sum(int(row.split()[place], 16) for row in rows)


KERNEL = (
    # Its queue is full after a few thousand SYNs, at any rate.
    Defence("kernel, no cookies", _kernel_alone, (400_000,)),
    Defence("kernel SYN cookies", _kernel_cookies),
    Defence("nftables synproxy", _synproxy),
)
# Frames that arrive over a bridge as socket buffers cost the receiver more than any defence.
ORDINARY_RATES = (100_000, 200_000, 300_000, 400_000, 600_000)
GUARD_RATES = (1_500_000, 2_000_000, 2_600_000, 3_200_000)


# xdpguard.


class Guarded:
    """xdpguard on the server's interface, with an instance and a state directory of its own."""

    def __init__(self, lab: Lab, state: Path, instance: str = "syn-flood") -> None:
        self._lab = lab
        self._state = state
        self._pins = Pins(_BPFFS, instance)
        self._environment = {key: value for key, value in os.environ.items() if not key.startswith("XDPGUARD_")} | {
            "XDPGUARD_STATE_DIR": str(state),
            "XDPGUARD_CONFIG_DIR": str(state / "etc"),
            "XDPGUARD_INSTANCE": instance,
            "XDPGUARD_BPFFS": str(_BPFFS),
        }

    def __enter__(self) -> Guarded:
        self("attach", INTERFACE, "--netns", self._lab.server)
        return self

    def __exit__(self, *_: object) -> None:
        self("detach", "--all")

    def __call__(self, *arguments: str) -> str:
        """Run a command; its failure ends the scenario."""
        done = subprocess.run(
            self._line(*arguments), env=self._environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"syn-flood: xdpguard {' '.join(arguments)} failed: {done.stderr.strip()}")
        return done.stdout

    @contextmanager
    def service(self) -> Iterator[None]:
        """Run ``xdpguard run`` in the background, from the moment it reports that it is ready."""
        address = self._state / "notify"
        with ExitStack() as stack:
            # Closed once it has reported: nobody would read later messages, and the service would block on them.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
                ready.bind(str(address))
                ready.settimeout(PATIENCE)
                stack.enter_context(self._running(address))
                try:
                    while b"READY=1" not in ready.recv(4096):
                        pass
                except TimeoutError as error:
                    raise SystemExit(f"syn-flood: xdpguard run did not start: {self.log()}") from error
            yield

    @contextmanager
    def _running(self, notify: Path) -> Iterator[None]:
        with (self._state / "log").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                self._line("run"),
                env=self._environment | {"NOTIFY_SOCKET": str(notify)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            notify.unlink()

    def log(self) -> str:
        """Return the service's output."""
        return (self._state / "log").read_text(encoding="utf-8")

    def state(self) -> guard.State:
        """Return the guard's state on the server's interface."""
        return guard.read(self._pins, INTERFACE, self._lab.server)

    def counters(self) -> counters.Counters:
        """Return the counters of the server's interface."""
        return counters.read(self._pins, INTERFACE, self._lab.server)

    def mode(self) -> str:
        """Return the mode that attach chose."""
        xdp = Links().get(INTERFACE, self._lab.server).xdp
        return xdp.mode if xdp else "no"

    def cookies(self) -> int:
        """Return the SYNs answered with a cookie."""
        return self.counters().reasons["cookie_sent"].packets

    def _line(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "xdpguard.cli", *arguments]


def wait_for(happened: Callable[[], bool], what: str, patience: float = PATIENCE) -> float:
    """Poll what sends no notification; return when it was seen (monotonic)."""
    end = time.monotonic() + patience
    while not happened():
        if time.monotonic() > end:
            raise SystemExit(f"syn-flood: no sign of {what} in {patience:.0f} s")
        select.select([], [], [], _POLL)
    return time.monotonic()


class Watch:
    """Follows the guard through a flood by polling: its state is in maps, which send no notifications."""

    def __init__(self, guarded: Guarded) -> None:
        self._guarded = guarded
        self._began = self._active = self._ended = self._idle = 0.0

    def begin(self) -> None:
        """Wait for the next SYN: while the flood starts nobody else sends any."""
        before = self._syns()
        self._began = wait_for(lambda: self._syns() > before, "the flood")

    def active(self) -> None:
        """Wait until the guard acts."""
        self._active = wait_for(lambda: self._guarded.state().active(), "an active guard")

    def end(self) -> None:
        """Wait until no SYN has come for a while, the clients being done, and then until the guard is idle."""
        self._ended = time.monotonic()
        before = self._syns()

        def idle() -> bool:
            nonlocal before
            now = self._syns()
            if now != before:
                before, self._ended = now, time.monotonic()
            return not self._guarded.state().active()

        self._idle = wait_for(idle, "an idle guard", 2 * PATIENCE)

    def times(self) -> Times:
        """Return the findings."""
        return Times(self._active - self._began, self._idle - self._ended)

    def _syns(self) -> int:
        return self._guarded.counters().flags["syn"]


# The ceiling: the fastest possible answer.


def swapping() -> int:
    """Load the program that swaps addresses; return its descriptor."""
    bcc = import_bcc()
    module = bcc.BPF(text=_SWAP.encode(), cflags=[*header_flags(source_folder()), "-Wno-macro-redefined"])
    return os.dup(module.load_func("swap", bcc.BPF.XDP).fd)


def sent_back(lab: Lab) -> int:
    """Return the packets that the server's interface sent by XDP_TX, without errors.

    In generic mode they are counted with the host's own packets, of which there are none while only the flood runs.
    """
    if lab.ordinary:
        with entered(lab.server):
            lines = Path("/proc/thread-self/net/dev").read_text(encoding="ascii").splitlines()
        return next(int(line.split(":")[1].split()[9]) for line in lines if line.strip().startswith(f"{INTERFACE}:"))
    text = lab.run(lab.server, ["ethtool", "-S", INTERFACE]).stdout
    return sum(int(number) for number in re.findall(r"rx_queue_\d+_xdp_tx: (\d+)", text))
