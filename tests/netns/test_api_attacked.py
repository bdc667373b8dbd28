# SPDX-License-Identifier: GPL-2.0
"""The API against clients who want it to fail: others are served, what it holds stays bounded, `run` goes on."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from support.api import TOKEN, Served, served
from support.command import Command
from support.patience import patient

pytestmark = pytest.mark.timeout(300)
ATTACKER = ("127.0.0.2", 0)
HEAD = f"GET /v1/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n".encode()


@pytest.fixture
def api(attached: Command, tmp_path: Path) -> Iterator[Served]:
    with served(attached, tmp_path) as its:
        yield its


def process(api: Served) -> int:
    """The process that serves."""
    pid = api.service.pid
    (child,) = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return child


def memory(pid: int) -> int:
    """Resident, in kB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(it.split()[1]) for it in lines if it.startswith("VmRSS:"))


def test_many_that_never_finish_tls(api: Served) -> None:
    pid = process(api)
    before = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    with ExitStack() as stack:
        honest = stack.enter_context(closing(socket.create_connection(("127.0.0.1", api.port), patient(30))))
        for _ in range(300):
            link = socket.create_connection(("127.0.0.1", api.port), patient(30), ATTACKER)
            stack.enter_context(closing(link))
        assert api.ask_tcp("GET", "/v1/status").status == 200
        assert len(list(Path(f"/proc/{pid}/fd").iterdir())) - before < 100
        with api.tls().wrap_socket(honest) as link:  # was the oldest, but not of the peer with most
            link.sendall(HEAD + b"Connection: close\r\n\r\n")
            assert link.recv(100).startswith(b"HTTP/1.1 200 ")
    assert api.ask("GET", "/v1/status").status == 200


def secure(api: Served, source: tuple[str, int] | None = None) -> ssl.SSLSocket:
    return api.tls().wrap_socket(socket.create_connection(("127.0.0.1", api.port), patient(30), source))


def answers(link: socket.socket, *parts: bytes) -> bytes:
    """What is answered to these bytes, until the connection is closed."""
    with contextlib.suppress(OSError):
        for part in parts:
            link.sendall(part)
    found = b""
    with contextlib.suppress(OSError):
        while data := link.recv(65536):
            found += data
    return found


def test_large_and_many_requests_in_one(api: Served) -> None:
    pid = process(api)
    before = memory(pid)
    with secure(api) as link:
        assert answers(link, (HEAD + b"\r\n") * 50).count(b"HTTP/1.1 ") == 1
    chunk = b"10000\r\n" + b"a" * 65536 + b"\r\n"
    post = HEAD.replace(b"GET /v1/status", b"POST /v1/lists/x") + b"Transfer-Encoding: chunked\r\n\r\n"
    for first, part, says in (
        (HEAD + b"X: ", b"a" * 65536, b"HTTP/1.1 400 "),
        (b"GET /", b"a" * 65536, b"HTTP/1.1 400 "),
        (post, chunk, b"HTTP/1.1 413 "),
    ):
        with secure(api) as link:
            found = answers(link, first, *[part] * 500)
            assert found[:13] in (says, b""), "where it is closed before all is sent, the answer may be lost"
        assert api.ask_tcp("GET", "/v1/status").status == 200
    assert memory(pid) - before < 30_000


def test_the_many_of_one_make_room_for_others(api: Served) -> None:
    with ExitStack() as stack:
        honest = stack.enter_context(secure(api))
        honest.sendall(HEAD)
        for _ in range(66):
            with contextlib.suppress(OSError):
                stack.enter_context(secure(api, ATTACKER)).sendall(HEAD)
        honest.sendall(b"\r\n")
        assert honest.recv(100).startswith(b"HTTP/1.1 200 ")
        assert api.ask_tcp("GET", "/v1/status").status == 200
