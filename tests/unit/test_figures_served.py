# SPDX-License-Identifier: GPL-2.0
"""Serving and pushing: slow clients harm nobody, failures are one line, changes are picked up."""

from __future__ import annotations

import http.client
import math
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Queue

import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.sdk.resources import Resource
from support.traffic import eventually

from xdpguard.dataplane.sys.pins import Pins
from xdpguard.metrics import server
from xdpguard.metrics.catalogue import FAMILIES
from xdpguard.metrics.otlp import encoded
from xdpguard.metrics.samples import Sample
from xdpguard.metrics.server import Answer, Server
from xdpguard.metrics.service import Service
from xdpguard.policy.metrics import Address
from xdpguard.policy.model import Metrics, TcpMetrics
from xdpguard.store.database import Store

ANY = "127.0.0.1:0"
NO_TCP = TcpMetrics(False, False, False, False, False)  # which would be the whole machine's
BIG = 8_000_000  # bytes: more than the sockets' buffers take


def quiet(listen: str, otlp: str = "", otlp_interval: str = "15s", top: int = 10) -> Metrics:
    """``[metrics]`` without what TCP does."""
    return Metrics(listen, top, otlp, otlp_interval, NO_TCP)


@contextmanager
def serving(body: bytes = b"hello\n") -> Iterator[Server]:
    def ask(path: str, accept: str, encodings: str) -> Answer:
        del accept, encodings
        return (200, {"X": "y"}, body) if path == "/" else (404, {}, b"no\n")

    made = Server(Address("127.0.0.1", 0), ask)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def get(port: int, path: str = "/", method: str = "GET", host: str = "127.0.0.1") -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection(host, port, timeout=30)) as link:
        link.request(method, path)
        answer = link.getresponse()
        return answer.status, answer.read()


def test_answers() -> None:
    with serving() as its:
        port = its.address.port
        assert get(port) == (200, b"hello\n")
        assert get(port, "/?x=1") == (200, b"hello\n")
        assert get(port, method="HEAD") == (200, b"")
        assert get(port, "/other")[0] == 404
        assert get(port, method="DELETE")[0] == 501
    with pytest.raises(ConnectionError):
        get(port)


def test_one_who_never_reads_or_writes_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_PATIENCE", 60.0)
    with serving(bytes(BIG)) as its, ExitStack() as stack:
        for request in (b"", b"GET / HT", b"GET / HTTP/1.0\r\n\r\n") * 4:
            link = stack.enter_context(socket.create_connection(its.address))
            link.sendall(request)
        assert len(get(its.address.port)[1]) == BIG


def test_a_connection_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_PATIENCE", 0.2)
    before = threading.active_count()
    with serving(bytes(BIG)) as its, ExitStack() as stack:
        idle, slow = (stack.enter_context(socket.create_connection(its.address)) for _ in range(2))
        slow.sendall(b"GET / HTTP/1.0\r\n\r\n")
        idle.settimeout(30)
        assert idle.recv(1) == b"", "it was closed at the other end"
        assert eventually(lambda: threading.active_count() == before + 1, 30), "and nobody waits there"


def test_who_came_first_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_MOST", 3)
    monkeypatch.setattr(server, "_PATIENCE", 60.0)
    with serving() as its, ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(its.address)) for _ in range(5)]
        for link in idle:
            link.settimeout(30)
        assert get(its.address.port)[0] == 200
        assert [link.recv(1) for link in idle[:3]] == [b""] * 3
        assert eventually(lambda: len(its._open) == 2, 30)


class World:
    """The part of the service, with an empty store and nothing attached."""

    def __init__(self, folder: Path, log: list[str]) -> None:
        self.log = log
        self.its = Service(Pins(folder, "default"), folder / "default" / "store.db")

    @property
    def port(self) -> int:
        """Of the last server that was begun."""
        return int(next(line for line in reversed(self.log) if "http://" in line).split(":")[-1].split("/")[0])


@pytest.fixture
def world(tmp_path: Path, log: list[str]) -> Iterator[World]:
    with Store(tmp_path / "default" / "store.db"):
        made = World(tmp_path, log)
    try:
        yield made
    finally:
        made.its.close()


def test_what_is_served(world: World) -> None:
    world.its.apply(quiet(listen=ANY))
    code, body = get(world.port, "/metrics")
    assert code == 200
    assert b"xdpguard_build_info{" in body
    assert get(world.port, "/healthz") == (200, b"ok\n")
    code, body = get(world.port, "/readyz")
    assert (code, body.count(b"\n")) == (503, 1)
    assert b"nothing is attached" in body
    assert b"/healthz" in get(world.port, "/")[1]
    world.its.status.ticked -= 40
    code, body = get(world.port, "/healthz")
    assert code == 503
    assert body.startswith(b"the loop last ran 4")
    assert world.log == [f"metrics: http://127.0.0.1:{world.port}/metrics"]


def test_an_answer_that_fails_is_one_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.its.apply(quiet(listen=ANY))

    def broken() -> None:
        raise ValueError("broken")

    monkeypatch.setattr(world.its._collector, "gather", broken)
    assert get(world.port, "/metrics") == (500, b"broken\n")
    assert "/metrics could not be answered: broken" in world.log[-1]


def test_a_port_in_use_is_one_line_and_what_was_there_stays(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        world.its.apply(quiet(listen=f"127.0.0.1:{number}"))
        (line,) = world.log
        assert f"metrics are not served at 127.0.0.1:{number}: in use; set another" in line
        world.its.apply(quiet(listen=ANY))
        port = world.port
        world.its.apply(quiet(listen=f"127.0.0.1:{number}"))
        assert f"still at 127.0.0.1:{port}" in world.log[-1]
        assert get(port, "/healthz")[0] == 200
    world.its.apply(quiet(listen=f"127.0.0.1:{number}"))
    assert world.port == number, "it is tried again"


def test_what_cannot_be_had_yet_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that comes up after the service, or a port that another process leaves."""
    monkeypatch.setattr("xdpguard.metrics.service._AGAIN", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        world.its.apply(quiet(listen=f"127.0.0.1:{number}"))
        for _ in range(3):
            world.its.tick("auto", None, 0.0)
        (line,) = world.log
        assert line.endswith("; it is tried again until it works")
    world.its.tick("auto", None, 0.0)
    assert get(number, "/healthz")[0] == 200
    monkeypatch.setattr("xdpguard.metrics.service._AGAIN", 60.0)
    world.its.apply(quiet(listen=f"203.0.113.9:{number}"))
    world.its.tick("auto", None, 0.0)
    assert f"not an address of this host; still at 127.0.0.1:{number}" in world.log[-1]
    world.its.apply(quiet(listen=f"127.0.0.1:{number}"))
    count = len(world.log)
    monkeypatch.setattr(time, "monotonic", lambda: 1e9)
    world.its.tick("auto", None, 0.0)
    assert len(world.log) == count, "what is served is wanted again: there is nothing to try"
    monkeypatch.undo()


def test_our_own_ends_only_for_what_can_be_had_without_it(world: World) -> None:
    world.its.apply(quiet(listen=ANY))
    port = world.port
    world.its.apply(quiet(listen=f"203.0.113.9:{port}"))
    assert f"not an address of this host; still at 127.0.0.1:{port}" in world.log[-1]
    assert get(port, "/healthz")[0] == 200
    with socket.create_server(("127.0.0.2", port)):
        world.its.apply(quiet(listen=f"0.0.0.0:{port}"))
        assert f"in use; still at 127.0.0.1:{port}" in world.log[-1]
        assert get(port, "/healthz")[0] == 200
    world.its.apply(quiet(listen=f"0.0.0.0:{port}"))
    assert get(port, "/healthz", host="127.0.0.2")[0] == 200


def test_changes_are_taken_over(world: World) -> None:
    world.its.apply(quiet(listen=ANY, top=3))
    first = world.port
    world.its.apply(quiet(listen=ANY, top=5))
    assert (world.port, len(world.log)) == (first, 1), "nothing was to be changed there"
    assert world.its._collector.top == 5
    world.its.apply(quiet(listen=f"0.0.0.0:{first}"))
    assert world.log[-1] == f"metrics: http://0.0.0.0:{first}/metrics", "our own was in the way"
    world.its.apply(quiet(listen="[::1]:0"))
    assert get(world.port, "/healthz", host="::1")[0] == 200
    with pytest.raises(ConnectionError):
        get(first)
    world.its.apply(quiet(listen="off"))
    assert world.log[-1] == "metrics are no longer served"


class Receiver:
    """Takes what is pushed. ``code`` is what it answers."""

    def __init__(self) -> None:
        self.code = 200
        self.got: Queue[ExportMetricsServiceRequest] = Queue()
        this = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.headers["Content-Type"] == "application/x-protobuf"
                this.got.put(ExportMetricsServiceRequest.FromString(body))
                self.send_response(this.code)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:
                del format, arguments

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1/metrics"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def metrics(self) -> dict[str, Metric]:
        """The next push, by name."""
        (resource,) = self.got.get(timeout=30).resource_metrics
        named = {it.key: it.value.string_value for it in resource.resource.attributes}
        assert (named["service.name"], named["service.instance.id"]) == ("xdpguard", "default")
        (scope,) = resource.scope_metrics
        return {metric.name: metric for metric in scope.metrics}

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def test_pushed_is_what_is_served(world: World, receiver: Receiver) -> None:
    world.its.apply(quiet(listen="off", otlp=receiver.url, otlp_interval="1s"))
    found = receiver.metrics()
    served = {sample.name for sample in world.its._collector.gather()}
    assert set(found) == {name.removesuffix("_total") for name in served}
    rules = found["xdpguard_rule_hits"]
    assert (rules.sum.is_monotonic, rules.sum.aggregation_temporality) == (True, 2)
    assert {point.attributes[0].value.string_value for point in rules.sum.data_points} == {"allow", "block", "port"}
    assert rules.description == FAMILIES["xdpguard_rule_hits_total"].help
    assert found["xdpguard_loop_age_seconds"].unit == "s"
    assert found["xdpguard_guard_mode"].gauge.data_points[0].time_unix_nano > 0
    assert receiver.metrics(), "and again"
    world.its.apply(quiet(listen="off"))
    assert world.log == [f"metrics are pushed to {receiver.url} every 1s"]


def test_a_histogram_is_pushed() -> None:
    """Each bucket for itself, as OTLP has it."""
    buckets = ((0.5, 3), (1.0, 3), (math.inf, 10))
    sample = Sample("xdpguard_tcp_rtt_seconds", ("web",), 7.5, buckets)
    message = encode_metrics(encoded([sample], Resource.create({}), 5))
    (metric,) = message.resource_metrics[0].scope_metrics[0].metrics
    assert (metric.name, metric.unit) == ("xdpguard_tcp_rtt_seconds", "s")
    (point,) = metric.histogram.data_points
    assert (point.count, point.sum, list(point.bucket_counts)) == (10, 7.5, [3, 0, 7])
    assert list(point.explicit_bounds) == [0.5, 1.0]
    assert not point.HasField("min")
    assert not point.HasField("max")
    assert metric.histogram.aggregation_temporality == 2
    assert point.attributes[0].value.string_value == "web"


def test_a_receiver_that_fails_is_named_once(world: World, receiver: Receiver) -> None:
    receiver.code = 400
    world.its.apply(quiet(listen="off", otlp=receiver.url, otlp_interval="1s"))
    for _ in range(3):
        assert receiver.metrics()
    receiver.code = 200
    assert eventually(lambda: world.log[-1] == f"metrics are pushed to {receiver.url} again", 30)
    assert len(world.log) == 3
    assert f"could not be pushed to {receiver.url}" in world.log[1]


def test_a_password_stays_out_of_the_log(world: World, receiver: Receiver) -> None:
    receiver.code = 400
    url = receiver.url.replace("//", "//name:s3cret@") + "?token=t0ken"
    world.its.apply(quiet(listen="off", otlp=url, otlp_interval="1s"))
    assert receiver.metrics()
    assert eventually(lambda: len(world.log) == 2, 30)
    receiver.code = 200
    assert eventually(lambda: world.log[-1] == f"metrics are pushed to {receiver.url} again", 30)
    assert world.log[0] == f"metrics are pushed to {receiver.url} every 1s"
    assert f"could not be pushed to {receiver.url}:" in world.log[1]


def test_without_the_extra_one_line_names_it(world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "xdpguard.metrics.otlp", raising=False)
    for name in [name for name in sys.modules if name.startswith("opentelemetry.sdk")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.metric_exporter", None)
    world.its.apply(quiet(listen=ANY, otlp=receiver.url))
    assert get(world.port, "/healthz")[0] == 200
    assert "install xdpguard with the extra otlp" in world.log[-1]
    assert len(world.log) == 2
