# SPDX-License-Identifier: GPL-2.0
"""The HTTP server of the figures: a thread of its own, and one for each who asks.

Nobody keeps it busy: a connection has its time, whatever it does in it, and of many the first make room for the last.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from xdpguard.policy.metrics import Address

_PATIENCE = 10.0  # seconds a connection may take; Prometheus gives up after as many
_MOST = 16  # connections at once
_LOOK = 0.5  # seconds between two looks at how old they are

Answer = tuple[int, dict[str, str], bytes]
Ask = Callable[[str, str, str], Answer]


class Server(ThreadingHTTPServer):
    """Listens from the beginning; ``start`` lets it answer. OSError when the address cannot be had."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(self, address: Address, ask: Ask) -> None:
        """``ask`` answers a path, given the headers Accept and Accept-Encoding."""
        self.address_family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        self.ask = ask
        self._open: dict[Any, float] = {}
        self._guard = threading.Lock()
        super().__init__((address.host, address.port), _Handler)
        self.address = Address(address.host, self.server_address[1])
        self._thread = threading.Thread(target=self.serve_forever, args=(_LOOK,), name="metrics", daemon=True)

    def server_bind(self) -> None:
        """Binds, without asking a name server who this is, as the base class does."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def start(self) -> None:
        """Answers from here on."""
        self._thread.start()

    def stop(self) -> None:
        """Listens no more; who is being answered is cut off."""
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.server_close()
        self._cut(float("inf"))

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether there is room for one more: who came first makes it, and only if that takes long there is none."""
        del client_address
        with self._guard:
            if len(self._open) >= 2 * _MOST:
                return False
            if len(self._open) >= _MOST:
                first = min(self._open, key=lambda it: self._open[it])
                _end(first)
                self._open[first] = float("inf")  # as good as gone
            self._open[request] = time.monotonic()
            return True

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection, whatever became of it."""
        with self._guard:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Ends what has had its time."""
        self._cut(time.monotonic() - _PATIENCE)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Somebody went away before he had his answer; nobody is to be told."""

    def _cut(self, before: float) -> None:
        """Ends connections that began before then: whoever waits in a read or write wakes, and his thread closes it."""
        with self._guard:
            for request, begun in self._open.items():
                if begun < before:
                    _end(request)


def _end(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version = "xdpguard"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(True)

    def do_HEAD(self) -> None:
        self._answer(False)

    def _answer(self, whole: bool) -> None:
        accept, encodings = self.headers.get("Accept", ""), self.headers.get("Accept-Encoding", "")
        code, headers, body = self.server.ask(self.path.partition("?")[0], accept, encodings)
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if whole:
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """The log is for what matters."""
