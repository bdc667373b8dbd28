# SPDX-License-Identifier: GPL-2.0
"""The metrics server against clients who want it to fail: others are served, and what it holds stays bounded."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import pytest
from support.patience import patient

from xdpguard.metrics import prometheus, server
from xdpguard.metrics.collector import Collector
from xdpguard.metrics.prometheus import Exposition
from xdpguard.metrics.samples import Sample
from xdpguard.metrics.server import Answer, Server
from xdpguard.net import crowding
from xdpguard.policy.metrics import Address

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
ATTACKER = ("127.0.0.2", 0)


@contextmanager
def serving() -> Iterator[Server]:
    made = Server(Address("127.0.0.1", 0), answer)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def answer(path: str, accept: str, encodings: str) -> Answer:
    del accept, encodings
    return (200, {}, b"hello\n") if path == "/" else (404, {}, b"no\n")


def said(its: Server, *parts: bytes, source: tuple[str, int] | None = None) -> bytes:
    """What is answered to these bytes, until the connection is closed."""
    with closing(socket.create_connection(its.address, patient(30), source)) as link:
        with contextlib.suppress(OSError):
            for part in parts:
                link.sendall(part)
        found = b""
        with contextlib.suppress(ConnectionError):
            while data := link.recv(65536):
                found += data
        return found


def test_large_requests_are_cut_short() -> None:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with serving() as its:
        assert said(its, REQUEST).startswith(b"HTTP/1.0 200 ")
        header = b"X: " + b"a" * 4000 + b"\r\n"
        assert said(its, REQUEST[:-2], header * 3, b"\r\n").startswith(b"HTTP/1.0 200 "), "the control"
        for parts in (
            [REQUEST[:-2], *[header] * 10_000],
            [REQUEST[:-2], b"X: ", *[b"a" * 65536] * 1000],
            [b"GET /", *[b"a" * 65536] * 1000],
            [b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", *[b"a" * 65536] * 1000],
        ):
            assert not said(its, *parts).startswith(b"HTTP/1.0 200 ")
            assert said(its, REQUEST).endswith(b"hello\n")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most < 20_000, "kB"


def test_large_heads_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_LARGEST", 100)
    with serving() as its:
        assert said(its, REQUEST).startswith(b"HTTP/1.0 200 ")
        assert said(its, REQUEST[:-2] + b"X: " + b"a" * 200 + b"\r\n\r\n").startswith(b"HTTP/1.0 431 ")


def test_one_connection_one_answer() -> None:
    with serving() as its:
        assert said(its, REQUEST * 20).count(b"HTTP/1.0 ") == 1


def test_the_many_of_one_make_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_PATIENCE", patient(60))
    with serving() as its, ExitStack() as stack:
        honest = stack.enter_context(closing(socket.create_connection(its.address, patient(30))))
        honest.sendall(REQUEST[:10])
        for _ in range(100):
            link = stack.enter_context(closing(socket.create_connection(its.address, patient(30), ATTACKER)))
            with contextlib.suppress(OSError):
                link.sendall(REQUEST[:10])
        assert said(its, REQUEST, source=("127.0.0.3", 0)).endswith(b"hello\n")
        assert len(its._open) <= server._ENDING + server._MOST
        honest.sendall(REQUEST[10:])
        assert honest.recv(100).startswith(b"HTTP/1.0 200 "), "it was the oldest, but not of the peer with most"


def test_who_is_one_peer() -> None:
    assert crowding.peer("192.0.2.1") != crowding.peer("192.0.2.2")
    assert crowding.peer("2001:db8::1") == crowding.peer("2001:db8::ffff:0:0:2") != crowding.peer("2001:db8:0:1::1")
    assert crowding.peer("fe80::1%eth0") == crowding.peer("fe80::2%eth1")
    assert crowding.surplus({1: ("a", 1.0), 2: ("b", 3.0), 3: ("b", 2.0)}) == 3
    assert crowding.surplus({1: ("a", 2.0), 2: ("b", 1.0)}) == 2


def test_connections_are_paced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_PACE", 0.02)
    monkeypatch.setattr(server, "_BURST", 5)
    with serving() as its:
        begun = time.monotonic()
        for _ in range(30):
            assert said(its, REQUEST).endswith(b"hello\n")
        assert time.monotonic() - begun > 0.4, "25 of them waited for their turn"


class Counting(Collector):
    """Takes its time of the processor, and counts how often."""

    TAKES = 0.02  # seconds

    def __init__(self) -> None:
        self.gathered = 0

    def gather(self) -> list[Sample]:
        self.gathered += 1
        end = time.thread_time() + self.TAKES
        while time.thread_time() < end:
            pass
        return []


def test_asking_often_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Counting()
    its = Exposition(slow)
    its.page("", "")
    its.page("", "")
    assert slow.gathered == 2, "who asks seldom gets what is so now"
    begun, slow.gathered = time.monotonic(), 0
    pages = {its.page("", "").body for _ in range(1000)}
    assert len(pages) == 1
    often = prometheus._AHEAD / Counting.TAKES + (time.monotonic() - begun) * prometheus._SHARE / Counting.TAKES
    assert slow.gathered <= 2 + often * 1.5
    monkeypatch.setattr(prometheus, "_AHEAD", 1000.0)
    slow.gathered = 0
    for _ in range(30):
        its.page("", "")
    assert slow.gathered == 30, "the control"
