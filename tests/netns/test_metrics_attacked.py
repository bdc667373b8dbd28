# SPDX-License-Identifier: GPL-2.0
"""A flood of connections and requests to the metrics holds up neither the loop of `run` nor who scrapes."""

from __future__ import annotations

import http.client
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from support.command import Command
from support.patience import patient
from support.service import Run
from support.traffic import eventually

# Requests as fast as they go, connections that stay open, and heads without an end, from another address.
FLOOD = """
import socket, sys, time
port, held = int(sys.argv[1]), []
print("flooding", flush=True)
while True:
    try:
        link = socket.create_connection(("127.0.0.1", port), 5, ("127.0.0.2", 0))
        link.settimeout(1)
        if len(held) % 3:
            link.sendall(b"GET /metrics HTTP/1.1\\r\\nHost: localhost\\r\\nX: " + b"a" * 20000 * (len(held) % 3 - 1))
        else:
            link.sendall(b"GET /metrics HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
        held.append(link)
        if len(held) > 60:
            held.pop(0).close()
    except OSError:
        time.sleep(0.01)
"""


@contextmanager
def flooded(port: int) -> Iterator[None]:
    attackers = [
        subprocess.Popen([sys.executable, "-c", FLOOD, str(port)], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    try:
        for its in attackers:
            assert its.stdout is not None
            assert its.stdout.readline() == "flooding\n"
        yield
    finally:
        for its in attackers:
            its.kill()
            its.communicate()


def memory(pid: int) -> int:
    """Resident, in kB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(it.split()[1]) for it in lines if it.startswith("VmRSS:"))


def scraped(port: int) -> bool:
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=patient(10))) as link:
            link.request("GET", "/metrics")
            return b"xdpguard_packets_total" in link.getresponse().read()
    except OSError:
        return False


@pytest.mark.timeout(200)
def test_the_service_goes_on(attached: Command, tmp_path: Path) -> None:
    config = tmp_path / "x.toml"
    config.write_text('[metrics]\nlisten = "127.0.0.1:0"\n')
    with Run(attached, "--config", str(config)) as run:
        assert run.says("metrics: http://"), run.lines
        port = int(next(it[1] for line in run.lines if (it := re.search(r"metrics: http://127\.0\.0\.1:(\d+)/", line))))
        assert scraped(port)
        before = memory(run.pid)
        with flooded(port):
            served = [scraped(port) for _ in range(8)]
            assert sum(served) >= 4, served
            begun = time.monotonic()
            run.signal(signal.SIGHUP)
            assert run.says("configuration reloaded", patient(10)), "the loop of `run` had its turn"
            assert time.monotonic() - begun < patient(10)
            assert attached.json("status")["degraded"] == []
            assert len(list(Path(f"/proc/{run.pid}/task").iterdir())) < 80
            assert memory(run.pid) - before < 30_000
        assert eventually(lambda: scraped(port))
