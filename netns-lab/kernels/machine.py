# SPDX-License-Identifier: GPL-2.0
"""A machine in qemu whose virtio_net interface is the server's end of an ordinary lab, and a separate management one.

    NAME-outside eth0 ─── eth0-out  NAME-between (bridge)  vm0 ─── virtio_net, 198.18.0.1, the machine

qemu runs in NAME-between; commands reach the machine by ssh over qemu's own network there, which leads nowhere else.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

from kernels.image import SOURCE, Image, say, tree_archive
from kernels.steps import SERVE, wait_for_server
from tied import tied
from topology import SERVER_MAC, Lab

_PORT = 2222  # of the machine's sshd, on the loopback interface of NAME-between
_SSH = (
    *("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ControlMaster=no", "ConnectTimeout=60"),
    "ServerAliveInterval=60",  # a connection does not outlive a machine that crashed
)
_LOST = 255  # ssh's exit code for a connection that broke
_CRASH = "Kernel panic"
_SHOWN = 3000  # characters of a console
_MANAGE_MAC = "02:00:00:00:00:fe"
_BOOT = 300.0  # seconds; limit of a boot under TCG on a busy machine
_START = 30.0  # seconds; limit for qemu to start
_TAP = "vm0"
# An emulated `rep movs` takes a step for each byte or word. Without these features the kernel and the C library copy in
# plain loops, and the verifier, which mostly copies its states, is four times as fast.
# Emulated AVX2 gives wrong results (qemu 7.2): numpy's sort of unsigned numbers left them unsorted, real AVX2 does not.
_CPU = "max,-erms,-fsrm,-avx2"
_PLAIN = "mitigations=off clearcpuid=rep_good"


class Nic(NamedTuple):
    """A machine's virtio_net interface: pairs of queues, and whether it can switch its receive offloads off."""

    queues: int = 1
    offload_control: bool = True


class Failed(Exception):
    """The machine does not come up, or is gone."""


class Machine:
    """A running machine; use as a context manager, at whose end it is discarded with everything it wrote."""

    def __init__(self, image: Image, nic: Nic) -> None:
        self._image = image
        self.lab = Lab(f"xgvm{os.getpid()}", owner=os.getpid(), ordinary=True)
        self._nic = nic
        self._cleanup = contextlib.ExitStack()
        self._folder = Path()
        self._qemu: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Machine:
        try:
            self._folder = Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="xdpguard-machine-")))
            self._cleanup.enter_context(self.lab)
            self._join()
            self._start()
            self.wait_until_up()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    @property
    def console(self) -> str:
        """Return the output of its serial console so far."""
        path = self._folder / "console"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def wait_until_up(self) -> None:
        """Wait until it reports that it is up: after its start, and after each `reboot` in it. Raise Failed if not."""
        assert self._qemu is not None
        deadline = time.monotonic() + _BOOT
        heard = b""
        while b"ready" not in heard:
            left = deadline - time.monotonic()
            if self._qemu.poll() is not None or left <= 0:
                raise Failed("the machine does not come up; its console ends with:\n" + self.console[-_SHOWN:])
            if select.select([self._ready], [], [], min(left, 1.0))[0]:
                heard += self._ready.recv(100)

    def bring_tree(self) -> None:
        """Copy the checkout's files to the machine."""
        with subprocess.Popen(tree_archive(), stdout=subprocess.PIPE) as archive:
            self.ok(f"cd {SOURCE} && rm -rf xdpguard bpf tests netns-lab && tar -xz", stdin=archive.stdout)

    def put(self, path: Path, to: str) -> None:
        """Copy a file into the machine."""
        with path.open("rb") as file:
            self.ok(f"cat > {shlex.quote(to)}", stdin=file)

    def line(self, command: str, *options: str) -> list[str]:
        """Return the local command line that runs a shell command in the machine."""
        ssh = ["ssh", "-F", "none", "-q", "-i", str(self._image.key), "-p", str(_PORT), *options]
        chosen = [word for option in _SSH for word in ("-o", option)]
        return ["ip", "netns", "exec", self.lab.between, *ssh, *chosen, "root@127.0.0.1", command]

    @property
    def interface(self) -> str:
        """Return the name of its virtio_net interface on the lab."""
        links = json.loads(self.ok("ip -json link"))
        return str(next(it["ifname"] for it in links if it["address"] == SERVER_MAC))

    def run(
        self, command: str, timeout: float = 600.0, stdin: IO[bytes] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command in the machine, whatever its exit code.

        Raise Failed if it takes too long, or if the kernel crashed meanwhile; the machine is up again then.
        """
        before = len(self.console)
        try:
            done = subprocess.run(
                self.line(command),
                stdin=stdin or subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Failed(f"{command!r} has not ended after {timeout:.0f} s in the machine") from error
        said = self.console[before:]
        if done.returncode == _LOST and _CRASH in said:
            self.wait_until_up()
            raise Failed(f"the kernel crashed while {command!r} was running; its console:\n{said[:_SHOWN]}")
        return done

    def ok(self, command: str, timeout: float = 600.0, stdin: IO[bytes] | None = None) -> str:
        """Run a command that must succeed; return its output. Raise Failed with the output otherwise."""
        done = self.run(command, timeout, stdin)
        if done.returncode:
            raise Failed(f"{command!r} ends with {done.returncode} in the machine:\n{done.stdout}{done.stderr}")
        return done.stdout

    def serve(self) -> None:
        """Make it serve the web, also after a restart, and wait until it does."""
        unit = f"[Service]\nExecStart={SERVE}\n[Install]\nWantedBy=multi-user.target\n"
        self.ok(f"printf '{unit}' > /etc/systemd/system/web.service && systemctl enable -q --now web")
        wait_for_server(self.lab)

    def reboot(self) -> None:
        """Reboot it in an orderly way, and wait until it is up again."""
        self.run("systemctl reboot")
        self.wait_until_up()

    def _join(self) -> None:
        """Put a tap in place of the lab's server."""
        lab = self.lab
        lab.run(lab.server, ["ip", "link", "del", lab.interface])
        multi = ["multi_queue"] if self._nic.queues > 1 else []
        lab.run(lab.between, ["ip", "tuntap", "add", _TAP, "mode", "tap", *multi])
        lab.run(lab.between, ["ip", "link", "set", _TAP, "master", "lab", "up"])
        lab.run(lab.between, ["ip", "link", "set", "lo", "up"])

    def _start(self) -> None:
        layer, ready = self._folder / "layer.qcow2", self._folder / "ready"
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(self._image.disk), str(layer)],
            check=True,
        )
        nic = f",mq=on,vectors={2 * self._nic.queues + 2}" if self._nic.queues > 1 else ""
        nic += "" if self._nic.offload_control else ",ctrl_guest_offloads=off"
        line = [
            *("ip", "netns", "exec", self.lab.between),
            *("qemu-system-x86_64", "-accel", f"tcg,thread={self._image.threads}", "-machine", "q35", "-cpu", _CPU),
            *("-smp", "2", "-m", "2048", "-nodefaults", "-display", "none", "-no-user-config"),
            *("-kernel", str(self._image.kernel), "-initrd", str(self._image.initrd)),
            *("-append", f"root=/dev/vda rw console=ttyS0 quiet panic=-1 net.ifnames=1 audit=0 {_PLAIN}"),
            *("-drive", f"file={layer},if=virtio,format=qcow2,cache=unsafe"),
            *("-serial", f"file:{self._folder / 'console'}"),
            *("-device", "virtio-rng-pci", "-device", "virtio-serial-pci"),
            *("-chardev", f"socket,id=lab,path={ready}"),
            *("-device", "virtserialport,chardev=lab,name=lab"),
            *("-netdev", f"user,id=manage,restrict=on,hostfwd=tcp:127.0.0.1:{_PORT}-10.0.2.15:22"),
            *("-device", f"virtio-net-pci,netdev=manage,mac={_MANAGE_MAC},romfile=,addr=0x10"),
            *("-netdev", f"tap,id=lan,ifname={_TAP},script=no,downscript=no,queues={self._nic.queues}"),
            *("-device", f"virtio-net-pci,netdev=lan,mac={SERVER_MAC},romfile=,addr=0x11{nic}"),
        ]
        said = (self._folder / "qemu").open("wb")
        self._cleanup.callback(said.close)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(ready))
            listener.listen(1)
            self._qemu = subprocess.Popen(tied(line), stdin=subprocess.DEVNULL, stdout=said, stderr=said)
            self._cleanup.callback(self._stop)
            self._ready = self._cleanup.enter_context(self._accept(listener))

    def _accept(self, listener: socket.socket) -> socket.socket:
        """Open the port on which the machine reports that it is up; qemu connects to it before booting."""
        assert self._qemu is not None
        ended = os.pidfd_open(self._qemu.pid)
        try:
            if listener.fileno() in select.select([listener.fileno(), ended], [], [], _START)[0]:
                return listener.accept()[0]
        finally:
            os.close(ended)
        said = (self._folder / "qemu").read_text(encoding="utf-8", errors="replace")
        raise Failed(f"qemu does not start: {said}")

    def _stop(self) -> None:
        assert self._qemu is not None
        self._qemu.kill()
        self._qemu.wait()


@contextlib.contextmanager
def machine(image: Image, nic: Nic) -> Iterator[Machine]:
    """Yield a running machine with the checkout in it, and how long that took."""
    began = time.monotonic()
    with Machine(image, nic) as made:
        say(f"up after {time.monotonic() - began:.0f} s")
        made.bring_tree()
        yield made


def shell_words(words: Sequence[str]) -> str:
    """Quote words for a shell: one word as it is, several quoted."""
    return words[0] if len(words) == 1 else shlex.join(words)
