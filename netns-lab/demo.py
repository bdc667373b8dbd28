# SPDX-License-Identifier: GPL-2.0
"""The main job on real traffic, from start to end. Prints a table; exits 1 if any figure differs from what was sent."""

from __future__ import annotations

import argparse
import http.client
import http.server
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from topology import CLIENTS4, CLIENTS6, INTERFACE, SERVER4, SERVER6, Lab

from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import guard
from xdpguard.net.netns import entered
from xdpguard.telemetry import counters

_HERE = Path(__file__).parent
_REQUESTS = 25
_PINS = Pins(Path("/sys/fs/bpf"), "demo")
_COMMAND = [sys.executable, "-m", "xdpguard.cli"]
_RAISED = ("tcp_syncookies", "tcp_timestamps")
_PAGE = b"xdpguard demo\n" * 1000
_TIMEOUT = 0.5


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer every request with the same page."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(_PAGE)))
        self.end_headers()
        self.wfile.write(_PAGE)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


class _Server6(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6


@dataclass
class Demo:
    """The steps, and the table they fill."""

    lab: Lab
    ordinary: Lab  # whose server has an ordinary peer
    state: Path
    untimed: bool = False  # do not judge how long things take
    rows: list[tuple[str, str, str, bool]] = field(default_factory=list)

    def run(self) -> bool:
        """Run everything; return whether every figure was right."""
        self.serve()
        self.expect("HTTP before attaching, IPv4 and IPv6", "ok ok", f"{self.get(4)} {self.get(6)}")
        begin = time.monotonic()
        self.guard("attach", INTERFACE, "--netns", self.lab.server)
        took = time.monotonic() - begin
        mode = self.json("status")["interfaces"][0]["mode"]
        self.expect(f"attach {INTERFACE} ({took:.2f} s)", "native", mode)
        self.traffic()
        self.connections()
        self.blocking()
        self.questions()
        self.lists()
        self.ports_and_checks()
        self.flood()
        self.syn_flood(300_000)
        self.guard("detach", INTERFACE, "--netns", self.lab.server)
        self.expect("detach: HTTP goes on, rules are kept", "ok 2", f"{self.get(4)} {len(self.json('rules'))}")
        left = Path("/sys/fs/bpf/xdpguard/demo").exists()
        self.expect("detach: nothing left in the kernel", "nothing", "pins" if left else "nothing")
        self.ordinary_peer()
        return all(right for *_, right in self.rows)

    def serve(self) -> None:
        """Serve pages on the server, IPv4 and IPv6, until the demo ends."""
        for address, kind in ((SERVER4, http.server.ThreadingHTTPServer), (SERVER6, _Server6)):
            with entered(self.lab.server):
                server = kind((address, 80), _Page)
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def ordinary_peer(self) -> None:
        """Repeat the flood on a veth whose peer has no program: in native mode no answer would arrive there."""
        self.lab = self.ordinary
        self.serve()
        self.guard("attach", INTERFACE, "--netns", self.lab.server)
        mode = self.json("status")["interfaces"][0]["mode"]
        self.expect("a peer without a program: attach", "generic", mode)
        self.syn_flood(60_000)
        self.guard("detach", INTERFACE, "--netns", self.lab.server)

    def traffic(self) -> None:
        """Compare the counters with a known number of requests and packets."""
        for number in range(_REQUESTS):
            self.get(4, number % 10)
            self.get(6, number % 10)
        stats = self.stats()
        self.expect(f"{2 * _REQUESTS} HTTP requests: SYNs counted", 2 * _REQUESTS, stats["flags"]["syn"])
        self.expect("  their tuples in `syns`", 2 * _REQUESTS, sum(row["syns"] for row in self.syns()))
        self.expect("  dropped", 0, stats["dropped"])
        sent = self.send("udp", "--count", "20000")
        self.expect("UDP packets counted", sent, self.stats()["protocols"]["udp"] - stats["protocols"]["udp"])

    def connections(self) -> None:
        """Follow a request through the server's TCP: each state transition of its socket, and the listener."""
        trace = [
            *_COMMAND,
            "tcp",
            "trace",
            "--json",
            "--netns",
            self.lab.server,
            "--remote",
            CLIENTS4[8],
            "--for",
            "20s",
        ]
        running = subprocess.Popen(trace, env=self.environment(), stdout=-1, stderr=-1, text=True)
        assert running.stderr is not None
        assert running.stdout is not None
        running.stderr.readline()  # it is ready
        self.get(4, 8)
        first = json.loads(running.stdout.readline())
        changes = [first]
        while changes[-1]["new"] not in ("TIME_WAIT", "CLOSE"):
            changes.append(json.loads(running.stdout.readline()))
        running.terminate()
        running.communicate()
        whole = all(before["new"] == after["old"] for before, after in itertools.pairwise(changes))
        told = f"{first['old']} to {first['new']}, {'no gap' if whole and len(changes) > 3 else 'a gap'}"
        self.expect("tcp trace: the changes of one request", "LISTEN to SYN_RECV, no gap", told)
        listening = self.json("tcp", "states", "--by", "listener", "--netns", self.lab.server)["namespaces"][0][
            "listeners"
        ]
        self.expect("tcp states: who listens", "80 80", " ".join(str(it["port"]) for it in listening))

    def blocking(self) -> None:
        """Block and unblock, ban for a time, and allow inside a blocked prefix."""
        client = CLIENTS4[0]
        self.guard("block", client, "--reason", "demo")
        self.expect(f"block {client}: it and another client", "no answer, ok", f"{self.get(4)}, {self.get(4, 1)}")
        hits = self.rule(client)["packets"]
        sent = self.send("udp", "--source", client, "--count", "20000")
        self.expect("  packets the rule counted", sent, self.rule(client)["packets"] - hits)
        self.guard("unblock", client)
        self.expect("unblock", "ok", self.get(4))
        begin = time.monotonic()
        self.guard("block", CLIENTS6[0], "--for", "2s")
        blocked = self.get(6)
        while self.get(6) != "ok" and time.monotonic() - begin < 10:
            pass
        took = time.monotonic() - begin
        self.expect(f"block {CLIENTS6[0]} --for 2s", "no answer", blocked)
        self.expect_time("  back after it", 2.5, took)
        self.guard("block", "198.18.0.0/24", "--force")  # it contains the server's own address
        self.guard("allow", CLIENTS4[2])
        self.expect(f"allow {CLIENTS4[2]} inside a blocked /24", "ok", self.get(4, 2))
        self.expect("  its neighbour", "no answer", self.get(4, 3))
        self.guard("unblock", "198.18.0.0/24")

    def questions(self) -> None:
        """Ask why a packet is dropped: explained before, watched live, captured, and replayed."""
        client, file = CLIENTS4[7], self.state / "drops.pcapng"
        self.guard("block", client, "--reason", "demo")
        counted = self.stats()
        told = self.json("explain", f"udp {client}:9 > {SERVER4}:9 len=20")
        by = told["decided_by"]["target"]
        self.expect("explain: what becomes of its packets, and by", f"DROP {client}", f"{told['verdict']} {by}")
        self.expect("  counters as before", counted["reasons"], self.stats()["reasons"])
        capture = [*_COMMAND, "capture", "-w", str(file), "--count", "100", "--for", "20s"]
        running = subprocess.Popen(capture, env=self.environment(), stderr=subprocess.DEVNULL)
        while running.poll() is None:
            self.send("udp", "--source", client, "--count", "200", "--rate", "2000")
        last = self.json("events", "--reason", "deny")["events"][-1]
        self.expect("events: the last drop, and its rule", client, last["entry"]["target"])
        replayed = self.json("replay", str(file), "--expect-drop")["packets"]
        self.expect("capture, then replay: packets, all dropped", 100, replayed)
        self.guard("unblock", client)

    def lists(self) -> None:
        """Load a list of 100,000 prefixes that contains a client, and swap it for one that does not."""
        client, file = CLIENTS4[6], self.state / "list.txt"
        nets = "\n".join(f"100.{n >> 10 & 127}.{n >> 2 & 255}.{(n & 3) << 6}/27" for n in range(100_000))
        file.write_text(f"# many, and one of the lab\n{nets}\n{client}\n")
        self.guard("lists", "load", "demo", str(file))
        self.expect("list of 100,000: a client in it, another", "no answer, ok", f"{self.get(4, 6)}, {self.get(4, 1)}")
        hits = self.json("lists", "show")[0]["packets"]
        sent = self.send("udp", "--source", client, "--count", "20000")
        self.expect("  packets the list counted", sent, self.json("lists", "show")[0]["packets"] - hits)
        file.write_text(nets)
        self.guard("lists", "load", "demo", str(file))
        self.expect("  swapped for one without it", "ok", self.get(4, 6))
        self.guard("lists", "remove", "demo")

    def ports_and_checks(self) -> None:
        """Close a port, send impossible packets, and observe."""
        self.guard("block", "--port", "80/tcp")
        self.expect("block --port 80/tcp: allowed, others", "ok, no answer", f"{self.get(4, 2)}, {self.get(6)}")
        self.guard("unblock", "--port", "80/tcp")
        before = self.stats()["reasons"]["malformed"]["packets"]
        sent = self.send("malformed", "--count", "20000")
        self.expect("malformed packets dropped", sent, self.stats()["reasons"]["malformed"]["packets"] - before)
        self.guard("attach", INTERFACE, "--netns", self.lab.server, "--observe")
        self.guard("block", CLIENTS4[4])
        seen = self.get(4, 4)
        observed = self.stats()["reasons"]["deny"]["observed_packets"]
        self.expect("--observe: a blocked client, counted only", "ok yes", f"{seen} {'yes' if observed else 'no'}")
        self.guard("attach", INTERFACE, "--netns", self.lab.server)
        self.expect("attach again, now dropping", "no answer", self.get(4, 4))

    def flood(self) -> None:
        """Flood from one blocked source at full speed, while another client goes on."""
        core = self.lab.split_cores()
        before = self.stats()["reasons"]["deny"]["packets"]
        running = subprocess.Popen(
            self.flood_line("syn", "--source", CLIENTS4[4], "--seconds", "3"),
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
        assert running.stdout is not None
        text = running.stdout.read()
        running.wait()
        done = json.loads(text)
        dropped = self.stats()["reasons"]["deny"]["packets"] - before
        rate = dropped / done["seconds"] / 1e6
        name = f"flood: {rate:.2f} M packets/s dropped on one core"
        self.expect(name, done["packets"] - done["lost"], dropped)

    def syn_flood(self, rate: int) -> None:
        """Send spoofed SYNs while clients connect: the guard starts and stops by itself, its controller helps."""
        found = self.sysctls()
        log = self.state / "run.log"
        with log.open("w") as file:
            controller = subprocess.Popen([*_COMMAND, "run"], env=self.environment(), stdout=file, stderr=file)
        try:
            while "watching" not in log.read_text() and controller.poll() is None:
                select.select([], [], [], 0.05)
            before = self.stats()
            running = subprocess.Popen(
                self.flood_line("syn", "--rate", str(rate), "--seconds", "5"), stdout=-1, text=True
            )
            begin = self.until(lambda: self.received() > before["flags"]["syn"])
            begun = self.until(self.active) - begin
            self.expect_time("SYN flood: guard active", 1, begun)
            answers = [self.get(family, 5, 5.0) for _ in range(20) for family in (4, 6)]
            self.expect("  HTTP meanwhile, IPv4 and IPv6", "40 of 40", f"{answers.count('ok')} of 40")
            done = json.loads(running.communicate(timeout=60)[0])
            end = time.monotonic()
            calm = self.until(lambda: not self.active()) - end
            self.expect_time("  idle again", 10, calm)
            after = self.stats()
            cookies = after["reasons"]["cookie_sent"]["packets"] - before["reasons"]["cookie_sent"]["packets"]
            arrived = done["packets"] - done["lost"]
            self.expect(
                f"  SYNs answered: {cookies:,} of {arrived:,}", "90 %", "90 %" if cookies > 0.9 * arrived else "less"
            )
            self.expect(
                "  bans of spoofed sources", 0, len([it for it in self.json("rules") if it["source"] == "guard"])
            )
        finally:
            controller.terminate()
            controller.wait(30)
        told = "begin, end" if "a flood begins" in log.read_text() and controller.returncode == 0 else log.read_text()
        self.expect("  the controller's log", "begin, end", told)
        self.expect("  the host's settings, as before", found, self.sysctls())

    def sysctls(self) -> str:
        """Check what the controller may raise temporarily."""
        with entered(self.lab.server):
            return " ".join(Path("/proc/sys/net/ipv4", name).read_text().strip() for name in _RAISED)

    def active(self) -> bool:
        """Return whether the guard is active; from its map, as a command is too slow on a flooded core."""
        return guard.read(_PINS, INTERFACE, self.lab.server).active()

    def received(self) -> int:
        """Return the SYNs received, from the map."""
        return counters.read(_PINS, INTERFACE, self.lab.server).flags["syn"]

    def until(self, condition: Callable[[], bool]) -> float:
        """Wait up to 20 s for a condition; return when it came true."""
        end = time.monotonic() + 20
        while not condition() and time.monotonic() < end:
            pass
        return time.monotonic()

    def expect(self, what: str, wanted: object, found: object) -> None:
        """Add a line to the table."""
        self.rows.append((what, _text(wanted), _text(found), wanted == found))

    def expect_time(self, what: str, limit: float, took: float) -> None:
        """Add a line about how long something took, in seconds."""
        wanted = "not judged" if self.untimed else f"within {limit:g} s"
        self.rows.append((what, wanted, f"{took:.1f} s", self.untimed or took < limit))

    def get(self, family: int, client: int = 0, timeout: float = _TIMEOUT) -> str:
        """Make an HTTP request; return ``ok`` for the whole page, ``no answer`` if there is none."""
        source, host = (CLIENTS4[client], SERVER4) if family == 4 else (CLIENTS6[client], SERVER6)
        connection = http.client.HTTPConnection(host, 80, timeout=timeout, source_address=(source, 0))
        try:
            with entered(self.lab.outside):
                connection.connect()
            connection.request("GET", "/")
            return "ok" if connection.getresponse().read() == _PAGE else "wrong page"
        except OSError:
            return "no answer"
        finally:
            connection.close()

    def send(self, *arguments: str) -> int:
        """Send packets with flood.py; return how many arrived."""
        done = json.loads(subprocess.check_output(self.flood_line(*arguments), text=True, timeout=60))
        return int(done["packets"] - done["lost"])

    def flood_line(self, *arguments: str) -> list[str]:
        """Return the command line of flood.py."""
        return [sys.executable, str(_HERE / "flood.py"), *arguments, "--netns", self.lab.outside, "--json"]

    def guard(self, *arguments: str) -> str:
        """Run an xdpguard command; a failure ends the demo."""
        done = subprocess.run(
            [*_COMMAND, *arguments],
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=600,  # an emulated machine compiles for minutes
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"demo: xdpguard {' '.join(arguments)} failed: {done.stderr.strip()}")
        return done.stdout

    def environment(self) -> dict[str, str]:
        """Return the environment of every command: the demo's own instance and state directory."""
        return os.environ | {"XDPGUARD_STATE_DIR": str(self.state), "XDPGUARD_INSTANCE": "demo"}

    def json(self, *arguments: str) -> Any:
        """Return the JSON output of a command."""
        return json.loads(self.guard(*arguments, "--json"))

    def stats(self) -> Any:
        """Return the interface's counters."""
        (found,) = self.json("stats")["interfaces"].values()
        return found

    def syns(self) -> Any:
        """Return all tuples."""
        return self.json("syns", "--top", "0")

    def rule(self, target: str) -> Any:
        """Return the rule of a target."""
        return next(rule for rule in self.json("rules") if rule["target"] == target)


def _text(value: object) -> str:
    if isinstance(value, dict):
        return f"{len(value)} reasons"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _show(rows: list[tuple[str, str, str, bool]], seconds: float) -> None:
    table = Table(box=box.SIMPLE_HEAD, title="xdpguard on real traffic", title_justify="left", pad_edge=False)
    for name in ("step", "expected", "found", ""):
        table.add_column(name, justify="right" if name in ("expected", "found") else "left")
    for what, wanted, found, right in rows:
        table.add_row(what, wanted, found, "ok" if right else "WRONG")
    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    console.print(table)
    wrong = sum(1 for *_, right in rows if not right)
    console.print(f"{len(rows) - wrong} passed, {wrong} failed ({seconds:.0f} s)", highlight=False)


def main() -> int:
    """Create a lab, run the demo, remove the lab."""
    parser = argparse.ArgumentParser(prog="demo", description="Show the main job on real traffic.")
    parser.add_argument("--untimed", action="store_true", help="do not judge times: where everything is emulated")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    begin = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="xdpguard-demo-") as folder,
        Lab("xgdemo", owner=os.getpid()) as lab,
        Lab("xgdemo-ordinary", owner=os.getpid(), ordinary=True) as ordinary,
    ):
        demo = Demo(lab, ordinary, Path(folder), arguments.untimed)
        try:
            right = demo.run()
        finally:
            demo.guard("detach", "--all")
            _show(demo.rows, time.monotonic() - begin)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
