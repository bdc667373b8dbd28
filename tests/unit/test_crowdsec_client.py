# SPDX-License-Identifier: GPL-2.0
"""The client of CrowdSec's local API against servers that misbehave; limits and metrics of bridges."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from xdpguard.bridges.crowdsec import client
from xdpguard.bridges.crowdsec.client import Client, Refusal, parse_server
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.metrics.bridged import put_bridges
from xdpguard.metrics.samples import Gathering
from xdpguard.policy.load import load
from xdpguard.store.bridges import Bridge, put_bridge
from xdpguard.store.database import Store

HEADERS = {"X-Api-Key": "key"}


class Answering(ThreadingHTTPServer):
    """Answers every request with the same bytes, or with nothing."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        del request, client_address

    answer: bytes | None = b""
    asked: list[tuple[str, str]]


class _Handler(BaseHTTPRequestHandler):
    server: Answering

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["X-Api-Key"]))
        if self.server.answer is None:
            threading.Event().wait(2)
        else:
            self.wfile.write(self.server.answer)

    def log_message(self, format: str, *arguments: object) -> None:
        del format, arguments


@contextmanager
def answering(answer: bytes | None, certificate: Path | None = None) -> Iterator[Answering]:
    with Answering(("127.0.0.1", 0), _Handler) as server:
        server.answer, server.asked = answer, []
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            # In the handler, whose connection is closed when the client refuses the certificate.
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def asked(server: Answering, secure: bool = False, ca: Path | None = None) -> bytes:
    its = parse_server(f"http{'s' if secure else ''}://127.0.0.1:{server.server_address[1]}/crowdsec/")
    return Client(its, ca).get("/v1/decisions/stream?startup=true", HEADERS)


def test_an_answer() -> None:
    with answering(b'HTTP/1.0 200 OK\r\n\r\n{"new": null}') as server:
        assert asked(server) == b'{"new": null}'
        assert server.asked == [("/crowdsec/v1/decisions/stream?startup=true", "key")]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.0 500 Internal Server Error\r\n\r\n", "it answers 500 Internal Server Error"),
        (b'HTTP/1.0 403 Forbidden\r\n\r\n{"message": "access \\u001b[1m forbidden"}', r"(access \x1b[1m forbidden)"),
        (b"HTTP/1.0 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "it answers 302 Found"),
        (b"SSH-2.0-OpenSSH\r\n", "it does not speak HTTP as expected"),
        (b"", "Remote end closed connection without response"),
    ],
)
def test_what_is_no_answer(answer: bytes, says: str) -> None:
    with answering(answer) as server:
        with pytest.raises(XdpguardError) as caught:
            asked(server)
        assert says in str(caught.value)
        assert len(server.asked) == 1, "no redirect is followed, and nothing is asked twice"
        assert isinstance(caught.value, Refusal) == says.startswith(("it answers", "(access"))


def test_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_TIMEOUT", 0.2)
    with answering(None) as server, pytest.raises(XdpguardError, match="no answer within 0 s"):
        asked(server)


def test_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_LONGEST", 1 << 20)
    with answering(b"HTTP/1.0 200 OK\r\n\r\n" + bytes(1 << 20)) as server:
        assert len(asked(server)) == 1 << 20
    found = pytest.raises(XdpguardError, match="more than 1 MiB")
    with answering(b"HTTP/1.0 200 OK\r\n\r\n" + bytes((1 << 20) + 1)) as server, found:
        asked(server)


def test_a_certificate_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "both.pem"
    line = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=lapi"]
    line += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(file), "-out", str(tmp_path / "ca.pem")]
    subprocess.run(line, check=True, capture_output=True)
    file.write_text(file.read_text() + (tmp_path / "ca.pem").read_text())
    with answering(b"HTTP/1.0 200 OK\r\n\r\n{}", file) as server:
        with pytest.raises(XdpguardError, match="certificate verify failed"):
            asked(server, secure=True)
        assert server.asked == [], "the key is not sent"
        assert asked(server, secure=True, ca=tmp_path / "ca.pem") == b"{}"
    with pytest.raises(UsageError, match="cannot use the certificates"):
        Client(parse_server("https://127.0.0.1"), tmp_path / "none.pem")


def test_limits_in_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "guard.toml"
    file.write_text('[bridges.crowdsec]\nmode = "shadow"\nshortest4 = 24\n')
    its = load(file).bridges["crowdsec"]
    assert (its.mode, its.shortest4, its.shortest6) == ("shadow", 24, 32)
    for text, line in (
        ('[guard]\n\n[bridges.crowdsec]\nclock_skew = "5"\n', 4),
        ("[bridges.cli]\n", 1),
        ("[bridges.crowdsec]\nshortest4 = 40\n", 2),
        ("[bridges.crowdsec]\nshortest5 = 4\n", 2),
    ):
        file.write_text(text)
        with pytest.raises(UsageError, match=rf"guard\.toml:{line}: "):
            load(file)


def test_the_metrics_are_what_the_bridge_has_written(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Store(path) as store:
        put_bridge(store, Bridge(name="bgp", peer="a", running=False, connected=False))
        put_bridge(store, Bridge(name="crowdsec", peer="a", connected=True, at=4e9, heard=7.0, entries=5, refused=2))
    out = Gathering()
    put_bridges(path, out)
    found = {(it.name.removeprefix("xdpguard_bridge_"), *it.labels): it.value for it in out}
    assert found["running", "bgp"] == found["connected", "bgp"] == 0
    assert found["running", "crowdsec"] == found["connected", "crowdsec"] == 1
    assert found["heard_timestamp_seconds", "crowdsec"] == 7
    assert (found["entries", "crowdsec", "rules"], found["refused", "crowdsec"]) == (5, 2)
    with Store(path) as store:
        put_bridge(store, Bridge(name="crowdsec", peer="a", connected=True, at=1.0))
    out.clear()
    put_bridges(path, out)
    assert [it.value for it in out if it.name == "xdpguard_bridge_connected"] == [0, 0], "it was killed"
