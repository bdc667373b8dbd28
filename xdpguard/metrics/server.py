# SPDX-License-Identifier: GPL-2.0
"""The HTTP server for the metrics: a thread of its own, and one per connection.

No client can tie it up: each connection has a time limit and a largest request, and when there are many, the oldest
of the peer with most makes room for a new one. New ones are paced, lest they take the processor from the service.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import re
import socket
import threading
import time
from collections.abc import Callable, Collection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO

from xdpguard.net import crowding
from xdpguard.policy.metrics import Address

_PATIENCE = 10.0  # seconds a connection may take; the same as Prometheus' own timeout
_MOST = 16  # connections at once
_ENDING = 48  # and those that were ended, whose answers were being made
_LARGEST = 16_384  # bytes of a request's line and headers
_PACE, _BURST = 1 / 500, 50  # seconds between two connections, after so many at once
_LOOK = 0.5  # seconds between two checks of their age

_PLAIN = {"Content-Type": "text/plain; charset=utf-8"}

Answer = tuple[int, dict[str, str], bytes]
Ask = Callable[[str, str, str], Answer]


class Server(ThreadingHTTPServer):
    """Listens from the start; ``start`` makes it answer. Raises OSError if the address is unavailable."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(self, address: Address, ask: Ask, hosts: Collection[str] = ()) -> None:
        """``ask`` answers a path, given the Accept and Accept-Encoding headers. ``hosts``: more names of this host."""
        self.hosts = frozenset(name.lower() for name in hosts)
        self.address_family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        self.ask = ask
        self._open: dict[Any, tuple[str, float]] = {}  # of each connection its peer, and when it began
        self._ended: set[Any] = set()  # those of them that are being ended
        self._paced = 0.0  # when the next connection is due, monotonic
        self._guard = threading.Lock()
        super().__init__((address.host, address.port), _Handler)
        self.address = Address(address.host, self.server_address[1])
        self._thread = threading.Thread(target=self.serve_forever, args=(_LOOK,), name="metrics", daemon=True)

    def server_bind(self) -> None:
        """Bind without the base class's name server lookup."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def start(self) -> None:
        """Start answering."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening, and cut off requests in progress."""
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.server_close()
        self._cut(float("inf"))

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Return whether there is room: another connection is ended for it; refuse only if that takes too long."""
        with self._guard:
            if len(self._open) >= _ENDING + _MOST:
                return False
            live = {it: its for it, its in self._open.items() if it not in self._ended}
            if len(live) >= _MOST:
                first = crowding.surplus(live)
                _end(first)
                self._ended.add(first)
            self._open[request] = (crowding.peer(str(client_address[0])), time.monotonic())
            return True

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection when it is due."""
        now = time.monotonic()
        self._paced = max(self._paced, now - _BURST * _PACE) + _PACE
        if self._paced > now:
            time.sleep(self._paced - now)
        return super().get_request()

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, whatever its outcome."""
        with self._guard:
            self._open.pop(request, None)
            self._ended.discard(request)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """End connections that exceeded their time."""
        self._cut(time.monotonic() - _PATIENCE)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnected before they had their answer."""

    def _cut(self, before: float) -> None:
        """Shut down connections older than that: a thread blocked in a read or write wakes up and closes its own."""
        with self._guard:
            for request, (_, begun) in self._open.items():
                if begun < before:
                    _end(request)


def is_known(host: str, names: Collection[str]) -> bool:
    """Return whether a Host header names this host: localhost, its name, an address, or one of ``names``.

    A browser that was led here by another site's name (DNS rebinding) sends that name; nobody else's name is an
    address.
    """
    name = re.sub(r":[0-9]*$", "", host.strip().lower()).strip("[]").rstrip(".")
    own = socket.gethostname().lower()
    if name in ("", "localhost", own, own.partition(".")[0]) or name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _end(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class _Head:
    """What reads a request's line and headers, and no more than is allowed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = _LARGEST

    def readline(self, most: int) -> bytes:
        """Read a line as a file does. HTTPException when too much has come, which is answered with 431."""
        if not self._left:
            raise http.client.HTTPException("the headers are too large")
        line = self._file.readline(min(most, self._left))
        self._left -= len(line)
        return line

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version = "xdpguard"
    sys_version = ""

    def setup(self) -> None:
        """Begin a connection."""
        super().setup()
        self.rfile = _Head(self.rfile)  # type: ignore[assignment,arg-type]

    def do_GET(self) -> None:
        self._answer(True)

    def do_HEAD(self) -> None:
        self._answer(False)

    def _answer(self, whole: bool) -> None:
        if not is_known(self.headers.get("Host", ""), self.server.hosts):
            self._send(421, _PLAIN, b"not a name of this host; add it to [metrics] hosts\n", whole)
            return
        accept, encodings = self.headers.get("Accept", ""), self.headers.get("Accept-Encoding", "")
        code, headers, body = self.server.ask(self.path.partition("?")[0], accept, encodings)
        self._send(code, headers, body, whole)

    def _send(self, code: int, headers: dict[str, str], body: bytes, whole: bool) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if whole:
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing: the service's log is not an access log."""
