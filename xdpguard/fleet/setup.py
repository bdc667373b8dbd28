# SPDX-License-Identifier: GPL-2.0
"""Write what a fleet's servers and hosts need: configurations of nats-server, users with their permissions, passwords.

Each host may publish under its own name only, and read. All users stand inside accounts: where some do not, nats-server
before 2.9.23 lets anybody in (CVE-2023-47090).
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import secrets
import tomllib
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from xdpguard import files
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.fleet import certificates
from xdpguard.fleet.credentials import Login
from xdpguard.fleet.keys import BUCKET, HOSTS, LISTS, LIVE, OPERATOR, SNAPSHOT
from xdpguard.owned import check_own
from xdpguard.policy.fleet import check_name

USERS, CREDENTIALS = "users.conf", "hosts"
_ROUTES = 2000  # added to a server's port: where the others of its cluster connect
_SECRET = 24  # random bytes of a password
_MOST_BYTES = 1 << 30  # that the account may store


class Listen(NamedTuple):
    """Where a server listens."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    @property
    def anywhere(self) -> bool:
        """Whether these are all addresses of its machine."""
        return self.address in ("0.0.0.0", "::")

    @property
    def routes(self) -> Listen:
        """Where the other servers of its cluster connect."""
        return Listen(self.address, self.port + _ROUTES)


class Plan(NamedTuple):
    """What to set up. ``addresses``: by which hosts reach the servers; ``data``: where they store."""

    listen: Sequence[Listen]
    addresses: Sequence[str]
    tls: bool
    data: Path


def parse_listen(text: str) -> Listen:
    """Parse ADDR:PORT. Raise UsageError if it is not an address of a server."""
    remedy = "write an IP address and a port: 192.0.2.5:4222, [2001:db8::5]:4222, 0.0.0.0:4222"
    address, _, port = text.rpartition(":")
    with contextlib.suppress(ValueError):
        found = Listen(str(ipaddress.ip_address(address.removeprefix("[").removesuffix("]"))), int(port))
        if 0 < found.port <= 65_535 - _ROUTES:
            return found
        remedy = f"name a port from 1 to {65_535 - _ROUTES:,}"
    raise UsageError(f"not where a server can listen: {text!r}", remedy)


def exists(directory: Path) -> bool:
    """Whether a fleet was set up there."""
    return (directory / USERS).exists()


def configurations(directory: Path) -> list[Path]:
    """Return the servers' configurations there."""
    return sorted(directory.glob("nats-server*.conf"))


def begin(directory: Path, plan: Plan) -> None:
    """Write the servers' configurations. Raise XdpguardError if they cannot be written."""
    if len(plan.listen) > 1 and any(it.anywhere for it in plan.listen):
        raise UsageError("servers of a cluster need an address each", "give --listen the address of each server")
    with _written(directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_own(directory)
        if plan.tls:
            with _private():
                certificates.make(directory, [*(it.address for it in plan.listen if not it.anywhere), *plan.addresses])
        secret = secrets.token_urlsafe(_SECRET)
        for number, its in enumerate(plan.listen, 1):
            name = "nats-server.conf" if len(plan.listen) == 1 else f"nats-server-{number}.conf"
            _write(directory / name, _server(directory, plan, number, its, secret))


def add(directory: Path, hosts: Collection[str]) -> list[Path]:
    """Give each host, and the operator, a file of credentials if it has none; write the users of all. Return new ones.

    Whose file was removed is no user any longer.
    """
    for host in hosts:
        check_name(host)
        if host == OPERATOR:
            raise UsageError(f"no host can be called {OPERATOR}", "the operator always has a file of credentials")
    folder, made = directory / CREDENTIALS, []
    with _written(directory):
        folder.mkdir(mode=0o700, exist_ok=True)
        check_own(folder)
        for path in (directory / f"{OPERATOR}.toml", *(folder / f"{host}.toml" for host in dict.fromkeys(hosts))):
            if not path.exists():
                _write(path, f'user = "{path.stem}"\npassword = "{secrets.token_urlsafe(_SECRET)}"\n')
                made.append(path)
        users = [_login(it) for it in (directory / f"{OPERATOR}.toml", *sorted(folder.glob("*.toml")))]
        _write(directory / USERS, "\n".join(("users: [", *map(_user, users), "]", "")))
    return made


def _server(directory: Path, plan: Plan, number: int, its: Listen, secret: str) -> str:
    copies = min(3, len(plan.listen))  # each of them counts for the account
    data = plan.data if len(plan.listen) == 1 else plan.data / str(number)
    lines = [
        "# Written by xdpguard fleet setup. Users and their passwords are in the file included below.",
        f"server_name: {_text(f'xdpguard-{number}')}",
        f"listen: {_text(str(its))}",
        "max_payload: 1MB",
        "max_connections: 65536",
        f"jetstream {{ store_dir: {_text(str(data))}, max_memory_store: 256MB, max_file_store: {_MOST_BYTES} }}",
        "accounts {",
        "  XDPGUARD {",
        f"    jetstream {{ max_memory: 256MB, max_file: {_MOST_BYTES * copies}, max_streams: 8 }}",
        f"    include {_text(USERS)}",
        "  }",
        "  SYS { users: [] }",
        "}",
        "system_account: SYS",
    ]
    files_of = _tls(directory) if plan.tls else ""
    if files_of:
        lines.append(f"tls {{ {files_of}, timeout: 5 }}")
    if len(plan.listen) > 1:
        routes = ", ".join(_text(f"nats-route://route:{secret}@{it.routes}") for it in plan.listen if it is not its)
        lines += [
            "cluster {",
            "  name: xdpguard",
            f"  listen: {_text(str(its.routes))}",
            f"  authorization {{ user: route, password: {_text(secret)}, timeout: 5 }}",
            *([f"  tls {{ {files_of}, timeout: 5 }}"] if files_of else []),
            f"  routes: [{routes}]",
            "}",
        ]
    return "\n".join((*lines, ""))


def _tls(directory: Path) -> str:
    names = (
        ("cert_file", certificates.CERTIFICATE),
        ("key_file", certificates.KEY),
        ("ca_file", certificates.CA),
    )
    return ", ".join(f"{key}: {_text(str(directory / name))}" for key, name in names)


def _user(its: Login) -> str:
    line = f"user: {_text(its.user)}, password: {_text(its.password)}"
    if its.user == OPERATOR:
        return f"  {{ {line} }}"
    publish = ", ".join(map(_text, _may_publish(its.user)))
    listen = ", ".join(map(_text, (f"{LIVE}.>", f"_INBOX_{its.user}.>")))
    return f"  {{ {line}, permissions {{ publish: [{publish}], subscribe: [{listen}] }} }}"


def _may_publish(host: str) -> Iterator[str]:
    """Yield the subjects to which a host may publish: its own keys, and what reading takes.

    Of the snapshot only single values are read.
    """
    yield f"$KV.{BUCKET}.{host}.>"
    yield f"$KV.{HOSTS}.{host}"
    for stream in (f"KV_{BUCKET}", f"KV_{HOSTS}", f"OBJ_{LISTS}"):
        yield f"$JS.API.STREAM.INFO.{stream}"
        yield f"$JS.API.CONSUMER.CREATE.{stream}"
        for does in ("MSG.NEXT", "DELETE"):
            yield f"$JS.API.CONSUMER.{does}.{stream}.*"
    its = f"KV_{SNAPSHOT}"
    yield from (f"$JS.API.{it}" for it in (f"STREAM.INFO.{its}", f"STREAM.MSG.GET.{its}", f"DIRECT.GET.{its}.>"))


def _login(path: Path) -> Login:
    text = files.read_bounded(path, 64 << 10, "restore it, or remove it to make a new one").decode("utf-8", "replace")
    try:
        its = msgspec.convert(tomllib.loads(text), Login)
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise XdpguardError(f"{files.shown(path)}: not a credentials file", "remove it to make a new one") from error
    if its.user != path.stem:
        raise XdpguardError(f"{files.shown(path)}: is for another host", "name the file as its user")
    return its


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _write(path: Path, text: str) -> None:
    """Write a file that only its owner can read, all of it or nothing."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)


@contextlib.contextmanager
def _private() -> Iterator[None]:
    """Let programs that are started make files that only their owner can read."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def _written(directory: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeError) as error:
        raise XdpguardError(
            f"{files.shown(directory)}: cannot be written: {files.reason(directory, error)}", "name another directory"
        ) from error


def joins(servers: Iterable[str], host: str, credentials: Path, ca: Path | None) -> str:
    """Return the command by which a host joins."""
    words = ["xdpguard fleet join", *servers, "--name", host, "--credentials", str(credentials)]
    return " ".join([*words, *(["--ca", str(ca)] if ca else [])])
