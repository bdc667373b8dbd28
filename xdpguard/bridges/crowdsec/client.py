# SPDX-License-Identifier: GPL-2.0
"""Talk to CrowdSec's local API over HTTP. Follows no redirect and uses no proxy: the key is for that host alone."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from xdpguard import __version__
from xdpguard.errors import MissingError, UsageError, XdpguardError
from xdpguard.owned import read_secret
from xdpguard.units import visible

_TIMEOUT = 30.0  # seconds in which something must come
_LONGEST = 256 << 20  # bytes of an answer: 1.8 million decisions
_LARGEST_KEY = 4096  # bytes
_SAID = 200  # characters of an error that are shown


class Refusal(XdpguardError):
    """The server answered with a status other than 2xx."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class Server(NamedTuple):
    """Where the local API is. ``path``: what precedes /v1, without a slash at its end."""

    secure: bool
    host: str
    port: int
    path: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}{self.path}"


def parse_server(text: str) -> Server:
    """Parse a URL. Raise UsageError if it is not one of a local API."""
    remedy = "write it as http://127.0.0.1:8080 or https://HOST:PORT"
    try:
        its = urlsplit(text)
        port = its.port
    except ValueError as error:
        raise UsageError(f"not the URL of a local API: {text!r}", remedy) from error
    plain = not (its.username or its.password or its.query or its.fragment) and text.isprintable() and " " not in text
    if its.scheme not in ("http", "https") or not its.hostname or port == 0 or not plain:
        raise UsageError(f"not the URL of a local API: {text!r}", remedy)
    secure = its.scheme == "https"
    return Server(secure, its.hostname, port or (443 if secure else 8080), its.path.rstrip("/"))


def read_key(path: Path) -> str:
    """Read the key of a bouncer from a file. Raise MissingError if there is none in it, or others can read it."""
    key = read_secret(path, _LARGEST_KEY, _make_key(path)).decode("utf-8", "replace").strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise MissingError(f"the key file {path} has no key in it", _make_key(path))
    return key


def _make_key(path: Path) -> str:
    return f"make one: (umask 077; cscli bouncers add xdpguard -o raw > {path})"


class Client:
    """Asks with a connection each: what is lost with one that broke is never asked for twice unknowingly.

    Every failure is an XdpguardError that says why.
    """

    def __init__(self, server: Server, ca: Path | None = None) -> None:
        """``ca``: a file of the certificate authorities to trust instead of the system's."""
        self.server = server
        self.ca = ca
        self._context: ssl.SSLContext | None = None
        if server.secure:
            try:
                self._context = ssl.create_default_context(cafile=str(ca) if ca else None)
            except OSError as error:
                raise UsageError(f"cannot use the certificates in {ca}: {error}", "give a PEM file") from error

    def get(self, path: str, headers: Mapping[str, str]) -> bytes:
        """Return the body of an answer."""
        return self._ask("GET", path, None, headers)

    def post(self, path: str, value: object, headers: Mapping[str, str]) -> bytes:
        """Send a JSON document; return the body of the answer."""
        return self._ask("POST", path, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
        agent = {"User-Agent": f"xdpguard/v{__version__}", "Accept": "application/json", "Connection": "close"}
        try:
            with contextlib.closing(self._connection()) as link:
                link.request(method, self.server.path + path, body, {**agent, **headers})
                with link.getresponse() as answer:
                    found = answer.read(_LONGEST)
                    if answer.read(1):
                        raise XdpguardError(f"its answer has more than {_LONGEST >> 20} MiB")
        except TimeoutError as error:
            raise XdpguardError(f"no answer within {_TIMEOUT:.0f} s") from error
        except OSError as error:
            raise XdpguardError(error.strerror or str(error)) from error
        except http.client.HTTPException as error:
            raise XdpguardError(f"it does not speak HTTP as expected: {type(error).__name__}") from error
        if not 200 <= answer.status < 300:
            raise Refusal(answer.status, f"it answers {answer.status} {answer.reason}{refusal_message(found)}")
        return found

    def _connection(self) -> http.client.HTTPConnection:
        its = self.server
        if self._context:
            return http.client.HTTPSConnection(its.host, its.port, timeout=_TIMEOUT, context=self._context)
        return http.client.HTTPConnection(its.host, its.port, timeout=_TIMEOUT)


def refusal_message(body: bytes) -> str:
    """Return what a server says of its refusal."""
    try:
        said = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return f" ({visible(str(said))[:_SAID]})"
