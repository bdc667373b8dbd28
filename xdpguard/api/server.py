# SPDX-License-Identifier: GPL-2.0
"""Listen at the Unix socket and at the TCP address, and serve until standard input ends or SIGTERM comes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from uvicorn import Config
from uvicorn import Server as Uvicorn

from xdpguard.api.application import application
from xdpguard.api.door import LONGEST_HEAD, Door, Listener, Protocol, read_token
from xdpguard.api.runner import Runner
from xdpguard.errors import MissingError, XdpguardError
from xdpguard.owned import check_own, make, read_secret
from xdpguard.policy.api import Api
from xdpguard.policy.metrics import Address, parse_listen

_log = logging.getLogger(__name__)

_BACKLOG = 256  # beyond it, a client of the Unix socket with a time limit gets EAGAIN at once
_HANDSHAKE = 10.0  # seconds for TLS
_GRACE = 5  # seconds for requests in progress at the end
_LARGEST_KEY = 65_536
_FREEBIND = 15  # IP_FREEBIND of linux/in.h
_WHY = {
    errno.EADDRINUSE: ("in use", "set another address in [api] listen, or stop the process that uses it (ss -ltnp)"),
    errno.EACCES: ("not allowed", "set a port of 1024 or above in [api] listen"),
}

Place = tuple[Listener, ssl.SSLContext | None]


class Server(Uvicorn):
    """Serves one application at several places, with and without TLS."""

    def __init__(self, config: Config, places: dict[str, Place]) -> None:
        """``places``: by name, for the log."""
        super().__init__(config)
        self._places = places

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen at the places."""
        del sockets
        await self.lifespan.startup()
        loop = asyncio.get_running_loop()
        loop.add_reader(0, self._ended)

        def connection() -> asyncio.Protocol:
            return Protocol(config=self.config, server_state=self.server_state, app_state={})

        self.servers = []
        for its, tls in self._places.values():
            its.served = self.server_state.connections
            slow: dict[str, Any] = {"ssl": tls, "ssl_handshake_timeout": _HANDSHAKE} if tls else {}
            self.servers.append(await loop.create_server(connection, sock=its, backlog=_BACKLOG, **slow))
        self.started = True
        _log.info(f"api: {' and '.join(self._places)}")

    def _ended(self) -> None:
        """Stop when the service is gone, which holds the other end of standard input."""
        asyncio.get_running_loop().remove_reader(0)
        self.should_exit = True


@contextlib.contextmanager
def bound(api: Api) -> Iterator[dict[str, Place]]:
    """Bind to the places of a configuration; yield them by name. Raise XdpguardError if one is unavailable."""
    with contextlib.ExitStack() as stack:
        places: dict[str, Place] = {}
        if api.socket:
            places[api.socket] = (stack.enter_context(_unix(Path(api.socket))), None)
        address = parse_listen(api.listen)
        if address is not None:
            read_token(api.token_file)
            tls = _tls(api) if api.cert else None
            made = stack.enter_context(_tcp(address))
            name = f"http{'s' if tls else ''}://{Address(address.host, made.getsockname()[1])}/v1/"
            places[name] = (made, tls)
        yield places


def serve(places: dict[str, Place], token_file: str) -> None:
    """Serve until the end."""
    config = Config(
        Door(application(Runner()), token_file),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=LONGEST_HEAD,
        timeout_graceful_shutdown=_GRACE,
        headers=[("Connection", "close"), ("Cache-Control", "no-store")],
    )
    Server(config, places).run()


@contextlib.contextmanager
def _unix(path: Path) -> Iterator[Listener]:
    """Listen at a Unix socket that only this user can reach; replace what a killed process has left there.

    It has another name until it listens, so that whoever sees it can connect.
    """
    try:
        make(path.parent)
        check_own(path.parent, shared=True)
        _make_way(path)
        with Listener(socket.AF_UNIX, socket.SOCK_STREAM) as made:
            hidden = path.with_name(f".{path.name}.new")
            if hidden.is_socket():
                hidden.unlink()
            _bind(made, hidden)  # closed to others by the umask
            hidden.chmod(0o600)
            made.listen(_BACKLOG)
            hidden.rename(path)
            try:
                yield made
            finally:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise MissingError(f"{path}: {error.strerror}", "set another path in [api] socket") from error


def _bind(made: Listener, path: Path) -> None:
    """Bind to a path that may be longer than the address of a socket."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        made.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def _make_way(path: Path) -> None:
    """Raise XdpguardError if there is something else than a socket at which nobody listens."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise XdpguardError(f"{path} exists, and is not a socket", "remove it, or set another path in [api] socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
        asked.setblocking(False)
        if asked.connect_ex(os.fsencode(path)) != errno.ECONNREFUSED:
            raise XdpguardError(f"another process listens at {path}", "set another path in [api] socket")


@contextlib.contextmanager
def _tcp(address: Address) -> Iterator[Listener]:
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with Listener(family, socket.SOCK_STREAM) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_IP, _FREEBIND, 1)  # the address may come up later
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            made.bind((address.host, address.port))
        except OSError as error:
            why, remedy = _WHY.get(error.errno or 0, (error.strerror, "correct [api] listen"))
            raise XdpguardError(f"cannot listen at {address}: {why}", remedy) from error
        yield made


def _tls(api: Api) -> ssl.SSLContext:
    read_secret(Path(api.key), _LARGEST_KEY)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        made.load_cert_chain(api.cert, api.key, password=lambda: b"")
    except (OSError, ValueError) as error:  # SSLError is an OSError
        reason = getattr(error, "reason", "") or getattr(error, "strerror", "") or str(error)
        raise XdpguardError(
            f"TLS with {api.cert} and {api.key}: {reason}", "give a certificate and its unencrypted key, both PEM"
        ) from error
    return made
