# SPDX-License-Identifier: GPL-2.0
"""The metrics of ``xdpguard run`` on real traffic: they agree with the commands, and no client can harm it."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from support.command import Command, on
from support.foreign import put_foreign
from support.guard import listen, sysctls
from support.scrape import Scrape, Watched, watched
from support.service import Service
from support.traffic import Echo, client_address, eventually, start_flood, works
from topology import INTERFACE, Lab

from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.net import netns

pytestmark = pytest.mark.timeout(300)
PORT = 8000


@pytest.fixture
def attached(lab: Lab, attached: Command) -> Iterator[Command]:
    with sysctls(lab, tcp_syncookies=1, tcp_timestamps=1):
        yield attached


@pytest.fixture
def running(attached: Command, tmp_path: Path) -> Iterator[Watched]:
    with watched(attached, tmp_path) as its:
        yield its


def flood(lab: Lab, *arguments: str) -> int:
    """How many packets have arrived of a flood that has ended."""
    sent = start_flood(lab, *arguments)
    found = json.loads(sent.communicate(timeout=120)[0])
    assert sent.returncode == 0
    return int(found["packets"] - found["lost"])


def counted(stats: dict[str, Any]) -> dict[tuple[str, str], int]:
    """What `stats --json` says of an interface, by metric and label."""
    found = {}
    for reason, its in stats["reasons"].items():
        found["xdpguard_packets_total", reason] = its["packets"]
        found["xdpguard_bytes_total", reason] = its["bytes"]
        found["xdpguard_observed_packets_total", reason] = its["observed_packets"]
        found["xdpguard_observed_bytes_total", reason] = its["observed_bytes"]
    found |= {("xdpguard_tcp_flags_total", flag): number for flag, number in stats["flags"].items()}
    found |= {("xdpguard_protocol_packets_total", name): number for name, number in stats["protocols"].items()}
    for table in ("sources", "tuples"):
        found["xdpguard_tracking_skipped_total", table] = stats[f"{table}_skipped"]
    found["xdpguard_cookies_valid_total", ""] = stats["cookies_valid"]
    found["xdpguard_events_lost_total", ""] = stats["events_lost"]
    found["xdpguard_drop_samples_total", ""] = sum(stats["samples"].values())
    found["xdpguard_drop_samples_lost_total", ""] = stats["samples_lost"]
    return found


_LABEL = {"packets": "reason", "bytes": "reason", "observed": "reason", "tcp": "flag", "protocol": "protocol"}


def told(scrape: Scrape, name: str, value: str) -> float:
    label = _LABEL.get(name.split("_")[1], "table")
    return scrape(name, interface=INTERFACE, **({label: value} if value else {}))


def stats(command: Command) -> dict[tuple[str, str], int]:
    return counted(on(command.json("stats"), INTERFACE))


def test_figures_agree_with_the_commands_in_a_flood(lab: Lab, attached: Command, running: Watched) -> None:
    """While it lasts each figure lies between two readings of `stats`; of the rest, too, what is told is so."""
    with listen(lab, PORT):
        sent = start_flood(lab, "syn", "--port", str(PORT), "--rate", "50000", "--seconds", "40")
        try:
            assert running.service.says("a flood begins")
            assert eventually(lambda: running.scrape()("xdpguard_guard_active", interface=INTERFACE) == 1, 30)
            before = stats(attached)
            found = running.scrape()
            after = stats(attached)
            for (name, value), least in before.items():
                assert least <= told(found, name, value) <= after[name, value], (name, value)
            shown = on(attached.json("guard", "show"), INTERFACE)
        finally:
            sent.terminate()
            sent.communicate()
    assert found("xdpguard_packets_total", reason="cookie_sent", action="tx") > 0
    assert found("xdpguard_packets_total", reason="cookie_sent", action="drop") == -1
    assert found("xdpguard_cookies_sent_total") == found("xdpguard_packets_total", reason="cookie_sent")
    assert found("xdpguard_syns_total") >= found("xdpguard_cookies_sent_total")
    assert found("xdpguard_floods_total") == shown["floods"] == 1
    assert found.labels("xdpguard_guard_mode", "mode") == {"off": 0, "observe": 0, "auto": 1, "always": 0}
    causes = found.labels("xdpguard_guard_cause", "cause")
    assert sum(causes.values()) == 1
    assert causes[{"a listener's queue is full": "queue", "SYN rate": "syns"}[shown["cause"]]] == 1
    assert found("xdpguard_guard_tcp_syncookies", netns=lab.server) == 2
    assert found("xdpguard_interface_attached", interface=INTERFACE, netns=lab.server) == 1
    assert found("xdpguard_interface_info", mode="native", observe="no", state="attached") == 1
    assert found("xdpguard_top_port_syns", port=str(PORT)) > 0
    assert found.labels("xdpguard_top_source_syns", "source") == {}, "of spoofed sources none stands out"
    assert set(found.labels("xdpguard_scrape_collector_success", "collector").values()) == {1}
    assert 0 < found("xdpguard_scrape_duration_seconds") < 30


def test_who_stands_out(lab: Lab, attached: Command, tmp_path: Path) -> None:
    with watched(attached, tmp_path, 'listen = "127.0.0.1:0"\ntop = 2\n') as its:
        for number, count in enumerate((500, 900, 700)):
            flood(lab, "syn", "--source", client_address(4, number), "--port", str(100 + number), "--count", str(count))
        found = its.scrape()
        rows = {row["source"]: row["syns"] for row in attached.json("syns", "--by", "source", "--top", "2")}
        assert found.labels("xdpguard_top_source_syns", "source") == rows
        # Of what has arrived: a busy receiver loses some of a flood.
        ports = {
            str(row["destination_port"]): row["syns"] for row in attached.json("syns", "--by", "port", "--top", "2")
        }
        assert found.labels("xdpguard_top_port_syns", "port") == ports
        assert len(ports) == 2
        assert ports.keys() <= {"100", "101", "102"}
        assert found("xdpguard_tracked_syns") == sum(row["syns"] for row in attached.json("syns", "--top", "0"))
        its.file.write_text('[metrics]\nlisten = "127.0.0.1:0"\ntop = 0\n')
        its.service.signal(signal.SIGHUP)
        assert its.service.says("configuration reloaded")
        assert its.scrape()("xdpguard_top_source_syns") == -1


def test_rules_lists_and_their_hits(lab: Lab, attached: Command, running: Watched, tmp_path: Path) -> None:
    file = tmp_path / "bad.txt"
    file.write_text(f"{client_address(4, 1)}\n{client_address(4, 2)}\n")
    attached.ok("block", client_address(4, 0))
    attached.ok("block", "--port", "7000/udp")
    attached.ok("allow", client_address(4, 3))
    attached.ok("lists", "load", "bad", str(file))
    with Echo(lab):
        assert works(lab, 4, "tcp", 3)
        for number, protocol in ((0, "tcp"), (1, "tcp"), (4, "udp")):
            assert not works(lab, 4, protocol, number)  # type: ignore[arg-type]
        found = running.scrape()
        hits = {rule["kind"]: (rule["packets"], rule["bytes"]) for rule in attached.json("rules")}
        assert found.labels("xdpguard_rules", "kind") == {"allow": 1, "block": 1, "port": 1}
        for kind, (packets, size) in hits.items():
            assert found("xdpguard_rule_hits_total", kind=kind) == packets > 0
            assert found("xdpguard_rule_hit_bytes_total", kind=kind) == size
        assert found("xdpguard_list_entries", list="bad") == 2
        assert found("xdpguard_list_hits_total", list="bad") > 0
        assert found("xdpguard_bans") == 0
        attached.ok("guard", "set", "mode=observe")
        assert eventually(lambda: running.scrape()("xdpguard_guard_mode", mode="observe") == 1, 30), "the loop tells"
        attached.ok("unblock", client_address(4, 0))
        attached.ok("detach", "--all")
        attached.ok("attach", INTERFACE, "--netns", lab.server)
        attached.ok("block", client_address(4, 5))
        assert not works(lab, 4, "udp", 5)
        later = running.scrape()
        assert later.labels("xdpguard_rules", "kind") == {"allow": 1, "block": 1, "port": 1}
        assert later("xdpguard_rule_hits_total", kind="block") == hits["block"][0] + 1
        assert later("xdpguard_rule_hits_total", kind="port") == hits["port"][0]
        assert later("xdpguard_list_hits_total", list="bad") >= found("xdpguard_list_hits_total", list="bad")


def test_counters_go_on_when_it_is_attached_again(lab: Lab, attached: Command, running: Watched) -> None:
    arrived = flood(lab, "udp", "--count", "1000")
    first = running.scrape()
    assert first("xdpguard_protocol_packets_total", protocol="udp") == arrived > 0
    arrived += flood(lab, "udp", "--count", "500")
    before = stats(attached)
    attached.ok("detach", "--all")
    assert running.scrape()("xdpguard_packets_total") == -1
    attached.ok("attach", INTERFACE, "--netns", lab.server)
    arrived += flood(lab, "udp", "--count", "7")
    found = running.scrape()
    assert found("xdpguard_protocol_packets_total", protocol="udp") == arrived, "what nobody had asked for is in it"
    for (name, value), number in before.items():
        assert told(found, name, value) >= number, (name, value)


def test_health_and_readiness(lab: Lab, attached: Command, tmp_path: Path) -> None:
    """A rule that somebody took out of the kernel, and a program that somebody took off."""
    attached.ok("block", "203.0.113.1", "203.0.113.2")
    pins = Pins(Path("/sys/fs/bpf"), attached.instance)
    descriptor = pins.open("deny4", abi.ADDRESS4.size, abi.RULE.size)
    assert kernel.delete(descriptor, abi.ADDRESS4.pack(socket.inet_aton("203.0.113.1")))
    os.close(descriptor)
    with watched(attached, tmp_path) as its:
        assert its.get("/healthz") == (200, "ok\n")
        code, text = its.get("/readyz")
        assert (code, text.count("\n")) == (503, 1)
        assert "the kernel held 1 of 2 stored entries" in text
        found = its.scrape()
        assert found("xdpguard_enforcement_ratio") == 0.5
        assert found("xdpguard_enforcement_held", of="rules") == 1
    with watched(attached, tmp_path) as its:
        assert its.scrape()("xdpguard_enforcement_ratio") == 1, "it was put back"
        assert its.get("/readyz") == (200, "ok\n")
        off = ["ip", "-n", lab.server, "link", "set", INTERFACE, "xdpdrv", "off"]
        subprocess.run(off, check=True)
        put_foreign(lab, INTERFACE)  # or the service would attach ours again
        code, text = its.get("/readyz")
        assert code == 503
        assert f"{INTERFACE} (in {lab.server}) is replaced" in text
        assert its.scrape()("xdpguard_interface_attached", interface=INTERFACE) == 0
        assert its.get("/healthz")[0] == 200
        subprocess.run(off, check=True)
        attached.ok("attach", INTERFACE, "--netns", lab.server)
        assert its.get("/readyz") == (200, "ok\n")


def test_an_address_that_comes_up_after_the_service(lab: Lab, attached: Command, tmp_path: Path) -> None:
    """As at boot. It goes on without it, says so once, and listens once it is there."""
    address, file = "203.0.113.77", tmp_path / "metrics.toml"
    file.write_text(f'[metrics]\nlisten = "{address}:9782"\n')
    within = ("nsenter", f"--net=/run/netns/{lab.server}")
    change = ["ip", "-n", lab.server, "addr", "add", f"{address}/32", "dev", INTERFACE]
    with Service(attached, "--config", str(file), before=within) as run:
        assert run.says(f"metrics are not served at {address}:9782: not an address of this host; "), run.lines
        assert run.says("watching eth0"), run.lines
        subprocess.run(change, check=True)
        try:
            assert run.says(f"metrics: http://{address}:9782/metrics"), run.lines
            assert run.count("metrics are not served") == 1
            with netns.entered(lab.server), socket.create_connection((address, 9782), 30) as link:
                link.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
                assert link.recv(1000).startswith(b"HTTP/1.0 200")
        finally:
            change[4] = "del"
            subprocess.run(change, check=True)


def test_a_port_in_use_and_a_change_of_it(lab: Lab, attached: Command, tmp_path: Path) -> None:
    del lab
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket() as kept:
        # Bound and not listening: nobody else is given it, and the service may have it.
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        number, other = taken.getsockname()[1], kept.getsockname()[1]
        with watched(attached, tmp_path, f'listen = "127.0.0.1:{number}"\n') as its:
            (line,) = [line for line in its.service.lines if "metrics" in line]
            assert f"not served at 127.0.0.1:{number}: in use; set another address in [metrics] listen" in line
            its.file.write_text(f'[metrics]\nlisten = "127.0.0.1:{other}"\n')
            its.service.signal(signal.SIGHUP)
            assert its.service.says(f"metrics: http://127.0.0.1:{other}/metrics"), its.service.lines
            first = its.scrape()
            assert first("xdpguard_config_last_reload_successful") == 1
            its.file.write_text('[metrics]\nlisten = "maybe"\n')
            its.service.signal(signal.SIGHUP)
            assert its.service.says("metrics.toml:2: metrics.listen: not an address and port")
            assert eventually(lambda: its.scrape()("xdpguard_config_last_reload_successful") == 0)
            time = "xdpguard_config_last_reload_success_timestamp_seconds"
            assert its.scrape()(time) == first(time)
            its.file.write_text('[metrics]\nlisten = "[::1]:0"\n')
            its.service.signal(signal.SIGHUP)
            assert its.service.says("metrics: http://[::1]:")
            found = its.scrape()
            assert found("xdpguard_config_last_reload_successful") == 1
            assert found(time) > first(time)
            with pytest.raises(ConnectionError):
                socket.create_connection(("127.0.0.1", other)).close()
            its.file.write_text('[metrics]\nlisten = "off"\n')
            its.service.signal(signal.SIGHUP)
            assert its.service.says("metrics are no longer served")


def test_wrong_configuration_at_the_start(attached: Command, tmp_path: Path) -> None:
    file = tmp_path / "metrics.toml"
    file.write_text('[metrics]\nlisten = ":9782"\n')
    assert "metrics.toml:2: metrics.listen" in attached.refused(2, "run", "--config", str(file))


def test_who_is_slow_keeps_nobody_waiting(lab: Lab, attached: Command, running: Watched) -> None:
    """Forty who ask and do not read, or do not even ask: the loop goes round, and others are served."""
    with ExitStack() as stack:
        for number in range(40):
            link = stack.enter_context(socket.socket())
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            link.connect(running.address)
            if number % 2:
                link.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert running.scrape()("xdpguard_interface_attached") == 1
        sent = start_flood(lab, "syn", "--port", "9", "--rate", "50000", "--seconds", "40")
        try:
            assert running.service.says("a flood begins"), "the loop goes round"
        finally:
            sent.terminate()
            sent.communicate(timeout=60)
        assert running.get("/healthz") == (200, "ok\n")
        attached.ok("block", "203.0.113.1")
    assert running.scrape()("xdpguard_rules", kind="block") == 1


def test_it_is_pushed_as_well(attached: Command, tmp_path: Path) -> None:
    got: Queue[ExportMetricsServiceRequest] = Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.put(ExportMetricsServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            del format, arguments

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as receiver:
        thread = threading.Thread(target=receiver.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{receiver.server_address[1]}/v1/metrics"
        # Changes of state are told when there has been one.
        tcp = "tcp.transitions = false\n"
        table = f'listen = "127.0.0.1:0"\notlp = "{url}"\notlp_interval = "1s"\n{tcp}'
        try:
            with watched(attached, tmp_path, table) as its:
                assert its.service.says(f"pushed to {url} every 1s")
                (resource,) = got.get(timeout=60).resource_metrics
                names = {metric.name for metric in resource.scope_metrics[0].metrics}
                assert names == {name.removesuffix("_total") for name, _ in its.scrape().values}
        finally:
            receiver.shutdown()
            thread.join()


@pytest.fixture
def half_made(lab: Lab) -> Iterator[str]:
    """A namespace as `ip netns` leaves it between making its file and mounting it: nobody may open that."""
    file = netns.FOLDER / f"{lab.server}-half"
    file.touch(mode=0)
    yield file.name
    file.unlink()


def test_a_namespace_half_made_is_none(half_made: str, attached: Command) -> None:
    assert half_made not in netns.names()
    assert f"no network namespace '{half_made}'" in attached.refused(2, "tcp", "states", "--netns", half_made)


@pytest.mark.usefixtures("half_made")
def test_the_unit_allows_all_of_it(attached: Command, tmp_path: Path) -> None:
    """The capabilities and address families of the systemd unit are enough for each part of the figures."""
    unit = attached.ok("run", "--print-unit")
    line = next(line for line in unit.splitlines() if line.startswith("CapabilityBoundingSet="))
    kept = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in line.partition("=")[2].split())
    assert "AF_INET AF_INET6" in unit

    class Bounded(Command):
        def line(self, *arguments: str) -> list[str]:
            bounded = ["setpriv", f"--bounding-set=-all,{kept}", "--no-new-privs"]
            return [*bounded, sys.executable, "-m", "xdpguard.cli", *arguments]

    bounded = Bounded(attached.state, attached.instance)
    with watched(bounded, tmp_path, 'listen = "127.0.0.1:0"\ntcp.rtt = true\n') as its:
        found = its.scrape()
        parts = found.labels("xdpguard_scrape_collector_success", "collector")
        wanted = ("service", "interfaces", "rules", "lists", "shadow", "filters", "bridges", "tuples", "tcp")
        assert parts == dict.fromkeys(wanted, 1), its.service.lines
        assert found("xdpguard_packets_total") >= 0
        assert its.get("/readyz") == (200, "ok\n")
