# SPDX-License-Identifier: GPL-2.0
"""`xdpguard top` during a flood, as SVG: real figures of a real run of half a minute.

A listener with clients, a blocked source, a named list, and a SYN flood that begins some seconds after the screen has
started.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from topology import CLIENTS4, INTERFACE, SERVER4, Lab

from xdpguard.net import sysctl
from xdpguard.net.netns import entered

_HERE = Path(__file__).parent
_PICTURE = _HERE.parent / "top.svg"
_COMMAND = [sys.executable, "-m", "xdpguard.cli"]
_PORT = 80
_FLOOD_RATE = 5000  # SYNs/s: a busy machine may not send the 20,000 at which the guard acts by default
_QUIET = 8.0  # seconds before the flood
_BLOCKED, _LISTED, _SCANNER = CLIENTS4[3], CLIENTS4[4], CLIENTS4[5]
_EXAMPLES = """\
examples:
  sudo netns-lab/scenarios/screenshot
  sudo netns-lab/scenarios/screenshot --file wide.svg --size 160x48
"""


class _Server:
    """Accepts connections and closes them. Clients come one after another. Use as a context manager."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._running = True
        with entered(lab.server):
            self._listener = socket.create_server((SERVER4, _PORT), backlog=128)
        self._listener.settimeout(0.2)
        self._threads = [threading.Thread(target=it) for it in (self._serve, self._connect)]

    def __enter__(self) -> _Server:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._running = False
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while self._running:
            with contextlib.suppress(OSError):
                connection, _ = self._listener.accept()
                connection.close()

    def _connect(self) -> None:
        pause = threading.Event()
        with entered(self._lab.outside):
            while self._running:
                with contextlib.suppress(OSError):
                    socket.create_connection((SERVER4, _PORT), 1, (CLIENTS4[0], 0)).close()
                pause.wait(0.02)


@contextlib.contextmanager
def _flood(lab: Lab, *arguments: str) -> Iterator[None]:
    line = [sys.executable, str(_HERE.parent / "flood.py"), *arguments, "--netns", lab.outside]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def shoot(file: Path, columns: int, lines: int, rate: int) -> None:
    """Take the screenshot."""
    with tempfile.TemporaryDirectory(prefix="xdpguard-top-") as folder, ExitStack() as stack:
        lab = stack.enter_context(Lab("xgtop", owner=os.getpid()))
        environment = os.environ | {
            "XDPGUARD_STATE_DIR": folder,
            "XDPGUARD_CONFIG_DIR": folder,
            "XDPGUARD_INSTANCE": "picture",
            "COLUMNS": str(columns),
            "LINES": str(lines),
            "LC_ALL": "C.UTF-8",
            "TERM": "xterm-256color",
        }
        environment.pop("NO_COLOR", None)

        def guard(*arguments: str, text: str = "") -> None:
            subprocess.run([*_COMMAND, *arguments], env=environment, check=True, input=text, text=True, stdout=2)

        stack.callback(subprocess.run, [*_COMMAND, "detach", "--all"], env=environment, check=False, stdout=2)
        guard("attach", INTERFACE, "--netns", lab.server)
        guard("guard", "set", f"flood_rate={_FLOOD_RATE}")
        guard("block", _BLOCKED, "--for", "10m", "--reason", "ssh brute force")
        guard("allow", CLIENTS4[1], "--reason", "monitor")
        guard("block", "--port", "8080/tcp")
        guard("lists", "load", "botnets", "-", text=f"{_LISTED}\n203.0.113.0/24\n2001:db8:bad::/48\n")
        for name in ("tcp_syncookies", "tcp_timestamps"):
            sysctl.write(f"net.ipv4.{name}", "2", lab.server)
        stack.enter_context(_Server(lab))
        stack.enter_context(_flood(lab, "udp", "--source", _BLOCKED, "--rate", "4000", "--seconds", "50"))
        stack.enter_context(_flood(lab, "udp", "--source", _LISTED, "--rate", "900", "--seconds", "50"))
        stack.enter_context(_flood(lab, "syn", "--source", _SCANNER, "--rate", "40", "--seconds", "50", "--port", "22"))
        top = subprocess.Popen(
            [*_COMMAND, "top", "--screenshot", str(file), "--interval", "0.5", "--updates", "50"], env=environment
        )
        stack.callback(top.kill)
        with contextlib.suppress(subprocess.TimeoutExpired):
            top.wait(_QUIET)
        with _flood(lab, "syn", "--rate", str(rate), "--seconds", "50"):
            if top.wait(60):
                sys.exit("screenshot: xdpguard top has failed")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="screenshot", description=__doc__, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--file", type=Path, default=_PICTURE, help="where to (default: netns-lab/top.svg)")
    parser.add_argument("--size", default="140x40", help="columns and lines (default: 140x40)")
    parser.add_argument("--rate", type=int, default=150_000, help="SYNs a second (default: 150000)")
    given = parser.parse_args()
    columns, _, lines = given.size.partition("x")
    if not (columns.isdigit() and lines.isdigit() and 60 <= int(columns) <= 300 and 14 <= int(lines) <= 100):
        parser.error("--size goes from 60x14 to 300x100")
    if not 20_000 <= given.rate <= 10_000_000:
        parser.error("--rate goes from 20000 to 10000000")
    # The contexts clean up, but SIGTERM would not end them otherwise.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    shoot(given.file, int(columns), int(lines), given.rate)
    print(f"{given.file}: {given.file.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
