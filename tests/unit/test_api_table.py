# SPDX-License-Identifier: GPL-2.0
"""The HTTP API without a service: its configuration, which commands requests become, what its document says."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema_rs import validator_for
from typer.main import get_command

from xdpguard.api import bodies, runner
from xdpguard.api.door import Listener, read_token
from xdpguard.api.endpoints import ENDPOINTS, Endpoint
from xdpguard.api.openapi import document
from xdpguard.api.server import bound
from xdpguard.cli import app
from xdpguard.cli.root import app as commands
from xdpguard.errors import MissingError, UsageError, XdpguardError
from xdpguard.policy.api import Api
from xdpguard.policy.load import load
from xdpguard.service.api import Api as Service

_TLS = 'cert = "/c.pem"\nkey = "/k.pem"\n'


@pytest.mark.parametrize(
    "lines",
    [
        "",
        'socket = "/run/xdpguard/api.sock"\n',
        'listen = "off"\n',
        'listen = "127.0.0.1:9109"\ntoken_file = "/t"\n',
        'listen = "[::1]:9109"\ntoken_file = "/t"\n',
        'listen = "0.0.0.0:9109"\ntoken_file = "/t"\n' + _TLS,
    ],
)
def test_configurations_that_are_safe(tmp_path: Path, lines: str) -> None:
    (tmp_path / "x.toml").write_text(f"[api]\n{lines}")
    load(tmp_path / "x.toml")


@pytest.mark.parametrize(
    ("lines", "key", "words"),
    [
        ('listen = "127.0.0.1:9109"\n', "listen", "without token_file"),
        ('listen = "192.0.2.1:9109"\ntoken_file = "/t"\n', "listen", "not a loopback address"),
        ('listen = "[::]:9109"\ntoken_file = "/t"\n', "listen", "not a loopback address"),
        ('listen = "0.0.0.0:9109"\ntoken_file = "/t"\ncert = "/c"\n', "cert", "without key"),
        ('listen = "9109"\n', "listen", "not an address and port"),
        ('token_file = "/t"\n', "token_file", "without listen"),
        (_TLS, "cert", "without listen"),
        ('socket = "api.sock"\n', "socket", "not an absolute path"),
        (f'socket = "/{"x" * 107}"\n', "socket", "too long"),
        ("port = 1\n", "port", "unknown key"),
    ],
)
def test_configurations_that_are_refused(tmp_path: Path, lines: str, key: str, words: str) -> None:
    (tmp_path / "x.toml").write_text(f"[api]\n{lines}")
    with pytest.raises(UsageError, match=rf"x\.toml:\d+: api\.{key}: .*{words}") as caught:
        load(tmp_path / "x.toml")
    assert caught.value.remedy


PLURAL = ("ports", "lists", "filters")  # fields of which each word is an option


def fields(its: Any) -> set[str]:
    return {it.encode_name for it in msgspec.structs.fields(its)}


def command_of(its: Endpoint) -> Any:
    """Typer's command of an endpoint."""
    found: Any = get_command(commands)
    for word in its.command.split():
        if not word.startswith("-"):
            found = found.load(word) if hasattr(found, "load") else found.commands[word]
    return found


@pytest.mark.parametrize("its", ENDPOINTS, ids=lambda it: f"{it.method} {it.path}")
def test_every_field_is_an_option_or_an_argument_of_its_command(its: Endpoint) -> None:
    known = {option for it in command_of(its).params for option in (*it.opts, *it.secondary_opts)}
    made = {word for word in its.command.split() if word.startswith("-")} | ({"--json"} if not its.said else set())
    for struct in filter(None, (its.query, its.body)):
        for name in fields(struct) - set(its.arguments):
            made.add(f"--{name.replace('_', '-').removesuffix('s') if name in PLURAL else name.replace('_', '-')}")
    assert made <= known


def test_what_requests_become() -> None:
    found = {(it.method, it.path): it for it in ENDPOINTS}
    block = bodies.Block(targets=["192.0.2.1", "--force"], life="10m", reason="--force", shadow=True)
    assert found["POST", "/v1/blocks"].line({}, bodies.Nothing(), block) == [
        "block", "--for=10m", "--reason=--force", "--shadow", "--", "192.0.2.1", "--force",
    ]  # fmt: skip
    close = bodies.Close(ports=["80/tcp", "53/udp"])
    assert found["POST", "/v1/ports"].line({}, bodies.Nothing(), close) == ["block", "--port=80/tcp", "--port=53/udp"]
    load_it = found["POST", "/v1/lists/{name}"].line({"name": "a"}, bodies.Load(strict=True), None)
    assert load_it == ["lists", "load", "--strict", "--json", "--", "a", "-"]
    drop = found["POST", "/v1/default/drop"]
    assert drop.line({}, bodies.Nothing(), bodies.DefaultDrop(enforce=False, strict_udp=False)) == [
        "default", "drop", "--shadow", "--no-strict-udp",
    ]  # fmt: skip
    assert drop.line({}, bodies.Nothing(), bodies.DefaultDrop(enforce=True)) == ["default", "drop", "--enforce"]
    values = bodies.GuardValues(values={"mode": "auto", "syn_rate": "10"})
    assert found["POST", "/v1/guard"].line({}, bodies.Nothing(), values) == [
        "guard", "set", "--", "mode=auto", "syn_rate=10",
    ]  # fmt: skip


def test_every_answer_has_a_schema_of_its_keys() -> None:
    made = document()
    for path, operations in made["paths"].items():
        for method, its in operations.items():
            schema = its["responses"]["200"]["content"]["application/json"]["schema"]
            schema = schema.get("items", schema)
            for one in schema.get("anyOf", [schema]):
                component = made["components"]["schemas"][one["$ref"].rpartition("/")[2]]
                assert component["properties"], (method, path)


ABOUT = """
{"address": "192.0.2.1", "outcome": "deny", "decided_by": {"entry": "rule", "slot": 7}, "allow": [], "block": [],
 "lists": [], "ended": [], "shadow": [], "bans": [], "traffic": null, "attached": true, "needed": [],
 "interfaces": [{"interface": "eth0", "netns": null, "observe": false}], "left_out_of": [], "allows_everybody": []}
"""


def test_the_schema_of_explain_takes_what_it_says_and_nothing_else() -> None:
    made = document()
    schema = {"$ref": "#/components/schemas/ExplainedAddress", "components": made["components"]}
    check = validator_for(schema)
    given = msgspec.json.decode(ABOUT)
    assert check.is_valid(given)
    for wrong in ({"entry": "rule"}, {"entry": "port", "slot": 7}, 7):
        assert not check.is_valid(given | {"decided_by": wrong})
    assert not check.is_valid({key: value for key, value in given.items() if key != "block"})


def test_the_document_has_every_endpoint_and_no_loose_end() -> None:
    made = document()
    assert sum(len(its) for its in made["paths"].values()) == len(ENDPOINTS)
    text = msgspec.json.encode(made).decode()
    named = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert named <= made["components"]["schemas"].keys()


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """What the runner forks, by process id."""
    fork, found = os.fork, list[int]()

    def forked() -> int:
        pid = fork()
        found.append(pid)
        return pid

    monkeypatch.setattr(os, "fork", forked)
    yield found
    gc.unfreeze()


def test_a_command_that_hangs_is_stopped(monkeypatch: pytest.MonkeyPatch, children: list[int]) -> None:
    monkeypatch.setattr(runner, "PATIENCE", 0.5)
    monkeypatch.setattr(app, "run", lambda arguments, tell: signal.pause())
    with pytest.raises(TimeoutError):
        asyncio.run(runner.Runner().run(["status"]))
    (child,) = children
    assert not Path(f"/proc/{child}").exists()


@pytest.mark.usefixtures("children")
def test_what_a_command_reads_prints_and_fails_with(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(arguments: list[str], tell: Callable[[XdpguardError, bool], None]) -> int:
        os.write(1, f"{arguments} ".encode() + os.read(0, 100))
        os.write(2, b"xdpguard: note: one\nxdpguard: waiting for another xdpguard command (process 7)\n")
        tell(UsageError("wrong \x1b[31m", "right"), False)
        return 2

    monkeypatch.setattr(app, "run", run)
    done = asyncio.run(runner.Runner().run(["status"], b"given"))
    assert done == (2, b"['status'] given", ["one"], runner.Failure("wrong \\x1b[31m", "right"))
    monkeypatch.setattr(app, "run", lambda arguments, tell: os.abort())
    assert asyncio.run(runner.Runner().run(["status"])) == (-signal.SIGABRT, b"", [], None)


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        ("0123456789abcde", 0o600, "does not hold a token of 16 characters"),
        ("", 0o600, "does not hold a token"),
        ("two words of a token", 0o600, "does not hold a token"),
        ("0123456789abcdef", 0o604, "can be read by other users"),
        ("0123456789abcdef", 0o660, "can be read by other users"),
        ("x" * 5000, 0o600, "larger than"),
    ],
)
def test_tokens_that_are_refused(tmp_path: Path, content: str, mode: int, words: str) -> None:
    (tmp_path / "token").write_text(content)
    (tmp_path / "token").chmod(mode)
    with pytest.raises(MissingError, match=words):
        read_token(str(tmp_path / "token"))


def test_a_token_behind_a_link_is_refused_and_one_in_its_file_is_taken(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0123456789abcdef\n")
    (tmp_path / "token").chmod(0o600)
    (tmp_path / "link").symlink_to("token")
    assert read_token(str(tmp_path / "token")) == b"0123456789abcdef"
    with pytest.raises(MissingError, match="is a link"):
        read_token(str(tmp_path / "link"))


def test_the_socket_is_closed_to_others_and_never_taken_from_somebody(tmp_path: Path) -> None:
    wanted = Api(socket=str(tmp_path / "run" / "api.sock"))
    path = Path(wanted.socket)
    with bound(wanted) as places:
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert list(places) == [wanted.socket]
        with pytest.raises(XdpguardError, match="another process listens"), bound(wanted):
            pass
        assert path.exists()
    assert not path.exists()
    path.write_text("precious")
    with pytest.raises(XdpguardError, match="is not a socket"), bound(wanted):
        pass
    assert path.read_text() == "precious"
    path.parent.chmod(0o777)
    with pytest.raises(MissingError, match="can be written by other users"), bound(wanted):
        pass


def test_whoever_sees_the_socket_can_connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the place of one that a killed process left, and under the longest name there may be."""
    folder = tmp_path / ("x" * (107 - len(str(tmp_path)) - len("//s")))
    path = folder / "s"
    assert len(str(path)) == 107
    listen, seen = Listener.listen, []

    def listening(its: Listener, *backlog: int) -> None:
        seen.append(path.exists())
        listen(its, *backlog)

    monkeypatch.setattr(Listener, "listen", listening)
    for _ in range(2):
        with bound(Api(socket=str(path))), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        assert list(folder.iterdir()) == []
        with socket.socket(socket.AF_UNIX) as left, socket.socket(socket.AF_UNIX) as new:
            left.bind(str(path))
            new.bind(str(folder / "t"))
            (folder / "t").rename(folder / ".s.new")
    assert seen == [False, True], "one that nobody listens at stays until it is replaced"


def test_nothing_is_started_that_is_not_asked_for(monkeypatch: pytest.MonkeyPatch, log: list[str]) -> None:
    service = Service("default")
    service.apply(Api())
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("started"))
    service.apply(Api(listen=""))
    service.close()
    assert log == []


def test_what_keeps_dying_is_started_again_and_not_at_once(
    monkeypatch: pytest.MonkeyPatch, log: list[str], tmp_path: Path
) -> None:
    import sys

    (tmp_path / "python").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "python").chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    now = time.monotonic()
    service, wanted = Service("default"), Api(socket="/run/never.sock")
    service.apply(wanted)
    assert service._process is not None
    service._process.wait()
    service.apply(wanted)
    assert log == ["the API's process ended with 9; it is started again in 10 s"]
    service.apply(wanted)
    assert service._process is None
    monkeypatch.setattr(time, "monotonic", lambda: now + 60)
    service.apply(wanted)
    assert service._process is not None
    service.close()
    assert os.path.exists("/run/never.sock") is False  # noqa: PTH110
