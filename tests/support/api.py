# SPDX-License-Identifier: GPL-2.0
"""The HTTP API of a running service: asked over its Unix socket, and over TCP with a token and TLS."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from support.command import Command
from support.patience import patient
from support.service import Service

_WAIT = patient(60.0)  # seconds for an answer
TOKEN = "0123456789abcdef0123456789abcdef"


class Answer(NamedTuple):
    """A response: its status, its JSON, its headers, with names in lower case."""

    status: int
    json: Any
    headers: dict[str, str]

    @property
    def words(self) -> str:
        """The failure as the command line prints it."""
        return f"xdpguard: {self.json['error']}; {self.json['remedy']}"


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_WAIT)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_WAIT)
        self.sock.connect(self._path)


class Served:
    """A service and its API; ``file``: its configuration."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.service = service
        self.socket = folder / "run" / "api.sock"
        self.token_file = folder / "token"
        self.file = folder / "api.toml"
        self.trusted = folder / "cert.pem"

    @property
    def port(self) -> int:
        """The TCP port, of any number, that it said it listens at."""
        line = next(line for line in reversed(self.service.lines) if "https://" in line)
        found = re.search(r"https://127\.0\.0\.1:(\d+)/v1/", line)
        assert found, line
        return int(found[1])

    def ask(self, method: str, path: str, body: object = None) -> Answer:
        """Ask over the Unix socket. ``body``: JSON, or bytes as they are."""
        with closing(_Unix(self.socket)) as link:
            return _asked(link, method, path, body, {})

    def tls(self) -> ssl.SSLContext:
        """What trusts the service's certificate."""
        made = ssl.create_default_context(cafile=str(self.trusted))
        made.check_hostname = False
        return made

    def ask_tcp(self, method: str, path: str, token: str | None = TOKEN) -> Answer:
        """Ask over TCP and TLS, with a token or without."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        with closing(http.client.HTTPSConnection("127.0.0.1", self.port, timeout=_WAIT, context=self.tls())) as link:
            return _asked(link, method, path, None, headers)


def _asked(link: http.client.HTTPConnection, method: str, path: str, body: object, headers: dict[str, str]) -> Answer:
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    link.request(method, path, data, headers)
    response = link.getresponse()
    return Answer(
        response.status, json.loads(response.read()), {name.lower(): value for name, value in response.headers.items()}
    )


def secrets(folder: Path) -> None:
    """Put a token, a certificate and its key into a folder."""
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"), "-days", "1"]
    made += ["-subj", "/CN=xdpguard", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(made, check=True, capture_output=True)
    (folder / "key.pem").chmod(0o600)
    (folder / "token").write_text(f"{TOKEN}\n")
    (folder / "token").chmod(0o600)


def configured(folder: Path) -> str:
    """A configuration with all there is."""
    return (
        f'[metrics]\nlisten = "off"\n[api]\nsocket = "{folder}/run/api.sock"\nlisten = "127.0.0.1:0"\n'
        f'token_file = "{folder}/token"\ncert = "{folder}/cert.pem"\nkey = "{folder}/key.pem"\n'
    )


@contextmanager
def served(command: Command, folder: Path) -> Iterator[Served]:
    """``xdpguard run`` on what is attached, with its API at a Unix socket and at TCP."""
    secrets(folder)
    (folder / "api.toml").write_text(configured(folder))
    with Service(command, "--config", str(folder / "api.toml")) as service:
        assert service.says("api: "), service.lines
        yield Served(service, folder)
