# SPDX-License-Identifier: GPL-2.0
"""A real Prometheus on the metrics of a flood: they agree with `stats`; dashboard and alerts work."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from scenarios.scraper import Server, end, wait_for
from tied import tied
from topology import CLIENTS4, INTERFACE, Lab

from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.metrics import dashboard
from xdpguard.net import sysctl
from xdpguard.net.netns import entered

_FLOOD = 55  # seconds, at most
_PORT = 8000
_INSTANCE = "prometheus"
_FLOODS = (
    ("syn", "--port", str(_PORT), "--rate", "30000"),
    ("syn", "--port", "9", "--rate", "3000", "--source", CLIENTS4[4]),
    ("udp", "--rate", "500", "--source", CLIENTS4[5]),
    ("udp", "--rate", "500", "--source", CLIENTS4[6]),
    ("udp", "--rate", "500", "--source", CLIENTS4[7]),
    ("malformed", "--rate", "500"),
)
# Alerts that would need a broken service, or an hour. All others are triggered.
_ABSENT = re.compile(r"xdpguard_(fleet|bridge)_")  # this host has joined no fleet, and runs no bridge
_TRIES = 20
_QUIET = {"XdpguardNoAudit", "XdpguardUnreadable", "XdpguardStuck", "XdpguardDropsRising", "XdpguardBridgeDown"}


class Checks:
    """Findings, printed as they come."""

    def __init__(self) -> None:
        self.failed = 0

    def __call__(self, good: bool, what: str, found: object = "") -> None:
        """Record one finding."""
        self.failed += not good
        text = str(found)
        print(f"{'ok  ' if good else 'FAIL'}  {what}{f': {text}' if text else ''}", flush=True)


class Guard:
    """xdpguard with an instance of its own."""

    def __init__(self, state: Path) -> None:
        self.log = state / "log"
        self.config = state / "guard.toml"
        self._environment = {key: value for key, value in os.environ.items() if not key.startswith("XDPGUARD_")} | {
            "XDPGUARD_STATE_DIR": str(state),
            "XDPGUARD_CONFIG_DIR": str(state / "etc"),
            "XDPGUARD_INSTANCE": _INSTANCE,
        }

    def __call__(self, *arguments: str) -> str:
        """Run a command; its failure ends the scenario."""
        done = subprocess.run(
            self._line(*arguments), env=self._environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"prometheus: xdpguard {' '.join(arguments)} failed: {done.stderr.strip()}")
        return done.stdout

    def stats(self) -> dict[str, Any]:
        """Return what `stats --json` reports for the interface."""
        found: dict[str, Any]
        (found,) = json.loads(self("stats", "--json"))["interfaces"].values()
        return found

    @contextmanager
    def service(self) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
        """Start ``xdpguard run``; yield the process and the address it serves at."""
        with self.log.open("wb") as log:
            line = self._line("run", "--config", str(self.config))
            process = subprocess.Popen(
                tied(line), env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            found = wait_for(lambda: re.search(r"metrics: http://(\S+)/metrics", self.log.read_text()), "the service")
            yield process, found[1]
        finally:
            end(process)

    def _line(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "xdpguard.cli", *arguments]


def promtool(checks: Checks, page: bytes, folder: Path) -> None:
    """Check the metrics and the rules with promtool."""
    done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False)
    checks(done.returncode == 0, "promtool check metrics", (done.stdout + done.stderr).decode().strip() or "no fault")
    done = subprocess.run(["promtool", "check", "rules", str(folder / "alerts.yml")], capture_output=True, check=False)
    checks(done.returncode == 0, "promtool check rules", (done.stdout + done.stderr).decode().split("\n")[1].strip())
    hours = shutil.copy(Path(__file__).with_name("alerts-test.yml"), folder)
    done = subprocess.run(["promtool", "test", "rules", hours], capture_output=True, check=False)
    checks(done.returncode == 0, "promtool test rules", (done.stdout + done.stderr).decode().split("\n", 1)[1].strip())


def values(checks: Checks, guard: Guard, server: Server) -> None:
    """Check that each counter Prometheus stored is between the readings of `stats` before and after."""
    before, begun = guard.stats(), time.time()
    sample = 'timestamp(xdpguard_packets_total{reason="pass"})'
    wait_for(lambda: any(float(it["value"][1]) > begun for it in server.query(sample)), "another scrape")
    stored = {
        (what, label): {it["metric"][label]: float(it["value"][1]) for it in server.query(query)}
        for what, label, query in (
            ("packets", "reason", "xdpguard_packets_total"),
            ("bytes", "reason", "xdpguard_bytes_total"),
            ("flags", "flag", "xdpguard_tcp_flags_total"),
            ("protocols", "protocol", "xdpguard_protocol_packets_total"),
        )
    }
    after = guard.stats()
    for (what, label), found in stored.items():

        def of(stats: dict[str, Any], name: str, what: str = what) -> float:
            return float(stats[what][name] if what in ("flags", "protocols") else stats["reasons"][name][what])

        within = [name for name, value in found.items() if of(before, name) <= value <= of(after, name)]
        exact = sum(of(before, name) == found[name] for name in found)
        text = f"{len(within)} of {len(found)}, {exact} exact; sum {sum(found.values()):,.0f}"
        checks(len(found) > 4 and len(within) == len(found), f"{what} by {label} agree with stats", text)


def panels(checks: Checks, server: Server) -> None:
    """Check that every query of the dashboard returns data, and that every variable has values."""
    made = json.loads(dashboard.dashboard())
    for variable in made["templating"]["list"][1:]:
        selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"]).groups()  # type: ignore[union-attr]
        found = server.ask(f"label/{label}/values", **{"match[]": _filled(selector)})
        checks(bool(found), f"variable {variable['name']}", ", ".join(found))
    floods = made["annotations"]["list"][0]
    found = _answer(server, floods["expr"])
    checks(bool(found), f"annotation {floods['name']}", ", ".join(_titled(floods["titleFormat"], it) for it in found))
    total = full = 0
    for panel in made["panels"]:
        for target in panel.get("targets", []):
            if _ABSENT.search(target["expr"]):
                continue
            found = _answer(server, target["expr"])
            total += 1
            full += bool(found)
            if not found:
                checks(False, f"panel {panel['title']}", target["expr"])
    checks(full == total, "queries of the dashboard that return data", f"{full} of {total}")


def _answer(server: Server, query: str) -> list[dict[str, Any]]:
    """Return what a query of the dashboard yields. A scrape that came late leaves no value for a moment: ask again."""
    for _ in range(_TRIES):
        found = server.query(_filled(query))
        if found:
            return found
        wait_for(lambda: server.query("up == 1"), "another scrape")
    return []


def _titled(title: str, series: dict[str, Any]) -> str:
    """Return a title as Grafana shows it."""
    return re.sub(r"{{(\w+)}}", lambda it: str(series["metric"].get(it[1], "")), title)


def _filled(query: str) -> str:
    """Return a query as Grafana sends it, with everything selected."""
    return re.sub(r"\$(job|instance|netns|interface)\b", ".*", query.replace("$__rate_interval", "10s"))


def main() -> int:
    """Run the scenario; return 1 if something was wrong."""
    argparse.ArgumentParser(prog="prometheus", description=__doc__).parse_args()
    checks = Checks()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="xdpguard-prometheus-")))
        lab = stack.enter_context(Lab("xgprom", owner=os.getpid()))
        guard = Guard(folder)
        stack.callback(guard, "detach", "--all")
        _play(checks, folder, lab, guard)
    print(f"{checks.failed} findings were not as they should be" if checks.failed else "all as it should be")
    return 1 if checks.failed else 0


def _play(checks: Checks, folder: Path, lab: Lab, guard: Guard) -> None:
    guard.config.write_text('[metrics]\nlisten = "127.0.0.1:0"\ntcp.rtt = true\n')
    (folder / "bad.txt").write_text(f"{CLIENTS4[6]}\n")
    guard("attach", INTERFACE, "--netns", lab.server)
    guard("block", CLIENTS4[5], "203.0.113.1")
    guard("lists", "load", "bad", str(folder / "bad.txt"))
    guard("filter", "add", "pings", "icmp type echo-request", "--limit", "10/s")
    guard("filter", "add", "datagrams", f"ip saddr {CLIENTS4[7]} ip protocol udp", "--limit", "10/s")
    _take_out("203.0.113.1")
    alerts = dict(
        re.findall(r"- alert: (\w+)\n +expr: (?:>-\n)?(.*?)\n +(?:for|labels):", dashboard.alerts(), re.DOTALL)
    )
    seen: set[str] = set()

    def bring(name: str) -> None:
        wait_for(lambda: server.query(alerts[name]), name)
        seen.add(name)

    with ExitStack() as stack:
        process, target = stack.enter_context(guard.service())
        server = stack.enter_context(Server(folder, target))
        with urllib.request.urlopen(f"http://{target}/metrics", timeout=30) as got:
            promtool(checks, got.read(), folder)
        bring("XdpguardNotEnforced")
        with _flooded(lab):
            bring("XdpguardSynBacklog")  # before cookies let it drain
            bring("XdpguardAcceptQueue")
            bring("XdpguardFilterLimit")
            wait_for(lambda: "XdpguardFlood" in server.firing(), "the alert of a flood")
            seen.add("XdpguardFlood")
            values(checks, guard, server)
            panels(checks, server)
        values(checks, guard, server)
        guard.config.write_text('[metrics]\nlisten = "?"\n')
        process.send_signal(signal.SIGHUP)
        bring("XdpguardReloadFailed")
        wait_for(lambda: "restored: net.ipv4.tcp_syncookies" in guard.log.read_text(), "the end of the flood")
        subprocess.run(["ip", "-n", lab.outside, "link", "set", INTERFACE, "xdpdrv", "off"], check=True)
        bring("XdpguardGuardMuted")
        sysctl.write("net.ipv4.tcp_syncookies", "0", lab.server)
        bring("XdpguardNoCookies")
        # A program that is only taken off is attached again at once.
        subprocess.run(["ip", "-n", lab.server, "link", "del", INTERFACE], check=True)
        wait_for(lambda: "XdpguardDetached" in server.firing(), "the alert of an interface that is not protected")
        seen.add("XdpguardDetached")
        quiet = {name for name in _QUIET if not server.query(alerts[name])}
        end(process)
        bring("XdpguardScrapeMissing")
    checks(seen | quiet == set(alerts), "alerts brought about", ", ".join(sorted(seen)))
    checks(quiet == _QUIET, "alerts that were to stay quiet", ", ".join(sorted(quiet)))


def _take_out(address: str) -> None:
    """Remove a block from the kernel behind everybody's back."""
    descriptor = Pins(Path("/sys/fs/bpf"), _INSTANCE).open("deny4", abi.ADDRESS4.size, abi.RULE.size)
    kernel.delete(descriptor, abi.ADDRESS4.pack(socket.inet_aton(address)))
    os.close(descriptor)


@contextmanager
def _flooded(lab: Lab) -> Iterator[None]:
    """Create a listener whose queue is full at once, and floods of all kinds."""
    with ExitStack() as stack:
        with entered(lab.server):
            stack.enter_context(socket.create_server(("", _PORT), backlog=8))
            stack.enter_context(socket.create_server(("", _PORT + 1), backlog=8))
            for _ in range(9):  # never accepted
                stack.enter_context(socket.create_connection(("127.0.0.1", _PORT + 1), timeout=30))
        flood = Path(__file__).parents[1] / "flood.py"
        for arguments in _FLOODS:
            line = [sys.executable, str(flood), *arguments, "--netns", lab.outside, "--seconds", str(_FLOOD)]
            stack.callback(end, subprocess.Popen(tied(line), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        yield


if __name__ == "__main__":
    sys.exit(main())
