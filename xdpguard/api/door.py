# SPDX-License-Identifier: GPL-2.0
"""Who gets in: the token of TCP requests, and bounds on connections in number and time."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import socket
import struct
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import h11
import msgspec
from uvicorn.protocols.http.h11_impl import H11Protocol

from xdpguard import process
from xdpguard.api.application import refused, who
from xdpguard.api.runner import PATIENCE, Failure
from xdpguard.errors import MissingError, XdpguardError
from xdpguard.net import crowding
from xdpguard.owned import read_secret
from xdpguard.units import visible

_log = logging.getLogger(__name__)

LONGEST_HEAD = 16_384  # bytes of a request's line and headers
_MOST = 64  # connections at once
_ASKED = PATIENCE + 2  # seconds for a request; one whose head came in time is told before
_TAKEN = 3 * PATIENCE  # seconds for a request, its command, and the answer
_QUIET = 10.0  # seconds in which only one refused token is logged; the others are counted
_TOKEN = (16, 4096)  # bytes


def read_token(path: str) -> bytes:
    """Return the token of a file. Raise MissingError if it is too short, or not safe in that file."""
    token = read_secret(Path(path), _TOKEN[1]).strip()
    if len(token) < _TOKEN[0] or not token.isascii() or len(token.split()) != 1:
        raise MissingError(
            f"{path} does not hold a token of {_TOKEN[0]} characters or more, in one word",
            f"make one: (umask 077; openssl rand -hex 32 > {path})",
        )
    return token


class Door:
    """The application behind a token: what comes over TCP must carry it. The file is read for each request."""

    def __init__(self, app: Any, token_file: str) -> None:
        self._app = app
        self._token_file = token_file
        self._told = -_QUIET  # when a refused token was logged, monotonic
        self._more = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request (ASGI)."""
        local = scope["server"] is not None and scope["server"][1] is None
        response = None if local else self._refusal(scope)
        await (self._app if response is None else response)(scope, receive, send)

    def _refusal(self, scope: Any) -> Any:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        kind, _, word = given.partition(b" ")
        try:
            token = read_token(self._token_file)
        except XdpguardError as error:
            self._log(f"api: {who(scope)} was refused, because {error}; {error.remedy}")
            return refused(503, Failure("the token cannot be checked", "see the log of xdpguard run"))
        if hmac.compare_digest(word.strip(), token) and kind.lower() == b"bearer":
            return None
        self._log(f"api: {who(scope)} was refused: {'a wrong token' if given else 'no token'}")
        headers = {"WWW-Authenticate": "Bearer"}
        return refused(401, Failure("the token is missing or wrong", "send it: Authorization: Bearer TOKEN"), **headers)

    def _log(self, text: str) -> None:
        """Log a refusal, but not each of many."""
        if time.monotonic() - self._told < _QUIET:
            self._more += 1
            return
        more = f" ({self._more:,} more before)" if self._more else ""
        self._told, self._more = time.monotonic(), 0
        _log.warning(f"{text}{more}")


class Listener(socket.socket):
    """Accepts connections, and bounds those that have not finished TLS, as Protocol does those that have."""

    served: Collection[Any] = ()  # the protocols of those that have
    waiting: dict[socket.socket, tuple[str, float]]

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection."""
        made, address = super().accept()
        theirs = (it.transport.get_extra_info("socket") for it in self.served)
        begun = {it.fileno() for it in theirs if it is not None}  # a connection that is just ending has none
        held = getattr(self, "waiting", {}).items()
        self.waiting = {it: its for it, its in held if it.fileno() >= 0 and it.fileno() not in begun}
        if len(self.waiting) >= _MOST:
            first = crowding.surplus(self.waiting)
            del self.waiting[first]
            with contextlib.suppress(OSError):
                first.shutdown(socket.SHUT_RDWR)
        self.waiting[made] = (crowding.peer(address[0] if address else ""), time.monotonic())
        return made, address


class Protocol(H11Protocol):
    """A connection: one request, in bounded time. When there are many, the oldest without a request makes room, of the
    peer with most.
    """

    begun: float  # monotonic

    def connection_made(self, transport: Any) -> None:
        """Begin to count and to time it."""
        if len(self.connections) >= _MOST:
            live = [it for it in self.connections if isinstance(it, Protocol) and not it.asked()]
            idle = {it: (crowding.peer(it.client[0] if it.client else ""), it.begun) for it in live}
            if not idle:
                transport.abort()
                return
            crowding.surplus(idle).transport.abort()
        self.begun = time.monotonic()
        super().connection_made(transport)
        its = transport.get_extra_info("socket")
        if its is not None and its.family == socket.AF_UNIX:
            self.client = (_peer(its), 0)
        loop = asyncio.get_running_loop()
        self._timers = [
            loop.call_later(_ASKED, lambda: self.asked() or transport.abort()),
            loop.call_later(_TAKEN, transport.abort),
        ]

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        for timer in getattr(self, "_timers", ()):
            timer.cancel()
        if self.transport is not None:
            super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP request, or has too long a head, in the form of every other failure."""
        body = msgspec.json.encode(
            Failure(msg.rstrip(".").lower(), f"send HTTP/1.1, and at most {LONGEST_HEAD:,} bytes of headers")
        )
        head = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Connection", "close")]
        for event in (h11.Response(status_code=400, headers=head), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def asked(self) -> bool:
        """Return whether the whole request has come."""
        return self.cycle is not None and not self.cycle.more_body


def _peer(its: Any) -> str:
    """Return who is at the other end of a Unix socket."""
    pid, uid, _ = struct.unpack("3i", its.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return f"user {uid}, process {pid} ({visible(process.name_of(pid)) or 'gone'})"
