# SPDX-License-Identifier: GPL-2.0
"""The HTTP API of ``xdpguard run``: it does and answers what the commands do, and nobody can misuse or block it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.api import TOKEN, Served, configured, secrets, served
from support.command import Command
from support.service import Run, Service
from support.traffic import Echo, client_address, eventually, works
from topology import Lab

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def api(attached: Command, tmp_path: Path) -> Iterator[Served]:
    with served(attached, tmp_path) as its:
        yield its


def test_a_block_and_its_end_on_real_traffic(lab: Lab, api: Served) -> None:
    source = client_address(4)
    with Echo(lab):
        assert works(lab, 4, "tcp")
        done = api.ask("POST", "/v1/blocks", {"targets": [source], "for": "10m", "reason": "test"})
        assert done.status == 200
        assert done.json["said"][0].startswith(f"blocked {source} for 10m, until ")
        assert not works(lab, 4, "tcp")
        (rule,) = api.ask("GET", "/v1/rules?kind=block").json
        assert (rule["target"], rule["reason"], rule["packets"] > 0) == (source, "test", True)
        assert api.ask("DELETE", f"/v1/blocks/{source}").json == {"said": [f"unblocked {source}"], "notes": []}
        assert works(lab, 4, "tcp")
    assert api.service.says(f"): block --for=10m --reason=test -- {source}: 200"), api.service.lines
    assert api.service.says(f"api: user {os.geteuid()}, process {os.getpid()} (")


def test_reading_answers_what_the_commands_answer(attached: Command, api: Served) -> None:
    api.ask("POST", "/v1/allows", {"targets": ["192.0.2.10", "2001:db8::/64"]})
    api.ask("POST", "/v1/blocks", {"targets": ["203.0.113.0/24"], "shadow": True})
    api.ask("POST", "/v1/ports", {"ports": ["8080/tcp", "53/udp"], "reason": "closed"})
    assert api.ask("POST", "/v1/lists/one?shadow=true", b"198.51.100.0/24\n").json["entries"] == 1
    added = {"name": "dns", "match": "udp sport 5353 meta length > 512", "limit": "100/s", "per": "source"}
    assert api.ask("POST", "/v1/filters", added).status == 200
    for path, words in {
        "rules": ["rules"],
        "rules?kind=shadow": ["rules", "--kind", "shadow"],
        "lists": ["lists", "show"],
        "lists/one": ["lists", "show", "one"],
        "filters": ["filter", "list"],
        "filters/dns": ["filter", "show", "dns"],
        "guard": ["guard", "show"],
        "default": ["default", "show"],
        "status": ["status"],
        "confirm": ["confirm", "--show"],
        "changes": ["undo", "--list"],
        "explain?what=192.0.2.10": ["explain", "192.0.2.10"],
        "explain?what=udp+192.0.2.1:53+%3E+198.51.100.1:400": ["explain", "udp 192.0.2.1:53 > 198.51.100.1:400"],
    }.items():
        found = api.ask("GET", f"/v1/{path}")
        assert found.status == 200, path
        # Ages go on.
        assert without_ages(found.json) == without_ages(attached.json(*words)), path
    assert api.ask("GET", "/v1/stats").json.keys() == attached.json("stats").keys()
    assert api.ask("GET", "/v1/events?count=1").json.keys() == attached.json("events").keys()
    assert api.ask("DELETE", "/v1/ports/8080/tcp").json["said"] == ["reopened 8080/tcp"]
    assert api.ask("DELETE", "/v1/allows/2001:db8::/64").json["said"] == ["no longer allowed: 2001:db8::/64"]
    assert api.ask("DELETE", "/v1/lists/one").json["said"] == ["removed the shadow list one: 1 entry"]
    assert api.ask("DELETE", "/v1/filters/dns").json["said"] == ["removed the filter dns"]
    assert api.ask("POST", "/v1/guard", {"values": {"mode": "observe"}}).json["said"] == ["mode = observe"]
    assert attached.json("guard", "show")["policy"]["mode"] == "observe"
    assert api.ask("POST", "/v1/undo").json["command"] == "guard set -- mode=observe"
    assert attached.json("guard", "show")["policy"]["mode"] == "auto"
    assert api.ask("POST", "/v1/default/drop", {"strict_udp": True}).status == 200
    assert attached.json("default", "show") | {"since": 0} == api.ask("GET", "/v1/default").json | {"since": 0}
    assert attached.json("default", "show")["strict_udp"] is True
    assert api.ask("POST", "/v1/default/pass").json["said"] == ["default: pass"]


def test_shadow_entries_are_promoted(attached: Command, api: Served) -> None:
    api.ask("POST", "/v1/blocks", {"targets": ["203.0.113.0/24", "198.51.100.0/24"], "shadow": True})
    api.ask("POST", "/v1/lists/one?shadow=true", b"192.0.2.64/26\n")
    wanted = {"targets": ["203.0.113.0/24"], "lists": ["one"]}
    assert api.ask("POST", "/v1/promote", wanted | {"dry_run": True}).json["promoted"] is False
    assert [it["kind"] for it in attached.json("rules")] == ["shadow", "shadow"]
    done = api.ask("POST", "/v1/promote", wanted)
    assert (done.status, done.json["promoted"], done.json["in_force"]) == (200, True, True)
    assert {it["target"]: it["kind"] for it in attached.json("rules")} == {
        "203.0.113.0/24": "block",
        "198.51.100.0/24": "shadow",
    }
    assert [it["name"] for it in attached.json("lists", "show") if not it.get("shadow")] == ["one"]


def without_ages(found: Any) -> Any:
    if isinstance(found, dict):
        return {key: without_ages(its) for key, its in found.items() if key not in ("age", "left", "seconds")}
    return [without_ages(its) for its in found] if isinstance(found, list) else found


@pytest.mark.parametrize(
    ("status", "code", "request_", "words"),
    [
        pytest.param(
            422, 2, ("POST", "/v1/blocks", {"targets": ["203.0.113.500"]}), ["block", "203.0.113.500"], id="no address"
        ),
        pytest.param(422, 2, ("GET", "/v1/explain?what=tcp+x"), ["explain", "tcp x"], id="no packet"),
        pytest.param(409, 1, ("DELETE", "/v1/blocks/203.0.113.9"), ["unblock", "203.0.113.9"], id="not blocked"),
        pytest.param(409, 1, ("DELETE", "/v1/lists/none"), ["lists", "remove", "none"], id="no such list"),
        pytest.param(409, 1, ("GET", "/v1/fleet"), ["fleet", "status"], id="no fleet"),
        pytest.param(
            409, 1, ("POST", "/v1/promote", {"targets": ["203.0.113.9"]}), ["promote", "203.0.113.9"], id="no rule"
        ),
        pytest.param(
            422, 2, ("POST", "/v1/promote", {"all": True, "lists": ["x"]}), ["promote", "--all", "--list=x"], id="all"
        ),
        pytest.param(409, 1, ("GET", "/v1/filters/none"), ["filter", "show", "none"], id="no such filter"),
        pytest.param(
            422, 2, ("POST", "/v1/guard", {"values": {"mode": "bold"}}), ["guard", "set", "mode=bold"], id="no mode"
        ),
        pytest.param(
            422, 2, ("POST", "/v1/filters", {"name": "f", "match": "tcp", "pass": True, "drop": True}),
            ["filter", "add", "f", "tcp", "--pass", "--drop"], id="two actions",
        ),
        pytest.param(
            422, 2, ("POST", "/v1/blocks", {"targets": ["203.0.113.9"], "for": "soon"}),
            ["block", "203.0.113.9", "--for", "soon"], id="no duration",
        ),
        pytest.param(
            422, 2, ("POST", "/v1/blocks", {"targets": ["--force"]}), ["block", "--", "--force"], id="no option",
        ),
    ],
)  # fmt: skip
def test_it_refuses_in_the_words_of_the_command_line(
    attached: Command, api: Served, status: int, code: int, request_: tuple[Any, ...], words: list[str]
) -> None:
    found = api.ask(*request_)
    if words[-1] == "--force":
        assert found.status == 400, "a target cannot become an option"
        return
    assert found.status == status, found
    assert found.words == attached.refused(code, *words)


def test_what_is_no_command(api: Served) -> None:
    requests: list[tuple[int, tuple[Any, ...], str]] = [
        (400, ("POST", "/v1/blocks", b"{"), "not what this request takes"),
        (400, ("POST", "/v1/blocks", {"targets": []}), "`$.targets`"),
        (400, ("POST", "/v1/blocks", {"targets": ["192.0.2.1"], "until": "10m"}), "unknown field `until`"),
        (400, ("GET", "/v1/rules?kind=none"), "`$.kind`"),
        (400, ("GET", "/v1/explain?what=-"), "`$.what`"),
        (400, ("POST", "/v1/blocks", {"targets": ["192.0.2.1"], "reason": "a\0b"}), "NUL"),
        (400, ("POST", "/v1/blocks", b"[" * 100_000), "not what this request takes"),
        (404, ("GET", "/v1/nowhere"), "not found"),
        (405, ("PUT", "/v1/blocks"), "method not allowed"),
    ]
    for status, request, words in requests:
        found = api.ask(*request)
        assert found.status == status, found
        assert words in found.json["error"]
        assert found.json["remedy"] == "see /v1/openapi.json" or words == "NUL"
    assert api.ask("GET", f"/v1/rules?kind={'x' * 20_000}").status == 400
    assert api.ask("GET", "/v1/rules").json == []
    assert "/v1/blocks" in api.ask("GET", "/v1/openapi.json").json["paths"]


def test_what_this_host_needs_stays_reachable(attached: Command, api: Served) -> None:
    """The same check as the command's, and it can be overridden the same way."""
    line = attached.refused(1, "block", "192.0.2.1")
    found = api.ask("POST", "/v1/blocks", {"targets": ["192.0.2.1"]})
    assert (found.status, found.words) == (409, line)
    assert attached.json("rules") == []
    assert api.ask("POST", "/v1/blocks", {"targets": ["192.0.2.1"], "force": True}).status == 200


def test_beside_the_command_line(attached: Command, api: Served) -> None:
    """All changes of both are made, one after the other."""

    def over_http(number: int) -> int:
        return api.ask("POST", "/v1/blocks", {"targets": [f"203.0.113.{number}"]}).status

    def typed(number: int) -> int:
        return 200 if attached("block", f"198.51.100.{number}").code == 0 else 0

    with ThreadPoolExecutor(6) as pool:
        done = [pool.submit(job, number) for number in range(1, 13) for job in (over_http, typed)]
        assert [it.result() for it in done] == [200] * 24
    targets = {it["target"] for it in attached.json("rules")}
    assert targets == {f"{net}.{number}" for net in ("203.0.113", "198.51.100") for number in range(1, 13)}


def test_tcp_needs_the_token_and_tls(api: Served) -> None:
    assert api.ask_tcp("GET", "/v1/status").status == 200
    for wrong in (None, "", "wrong", TOKEN[:-1], f"{TOKEN}0"):
        found = api.ask_tcp("GET", "/v1/status", wrong)
        assert (found.status, found.json["error"]) == (401, "the token is missing or wrong")
        assert found.headers["www-authenticate"] == "Bearer"
    assert api.service.says("api: 127.0.0.1:")
    assert api.service.says("was refused: no token"), api.service.lines
    with socket.create_connection(("127.0.0.1", api.port), timeout=20) as plain:
        plain.sendall(f"GET /v1/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
        assert b"HTTP" not in plain.recv(100)
    # Another token counts at once; one that others can read never does.
    api.token_file.write_text("another-token-of-some-length")
    assert api.ask_tcp("GET", "/v1/status").status == 401
    assert api.ask_tcp("GET", "/v1/status", "another-token-of-some-length").status == 200
    api.token_file.chmod(0o644)
    assert api.ask_tcp("GET", "/v1/status", "another-token-of-some-length").status == 503
    assert api.socket.stat().st_mode & 0o777 == 0o600
    assert api.ask("GET", "/v1/status").status == 200


def test_too_large_too_slow_too_many(lab: Lab, attached: Command, api: Served) -> None:
    large = b"#" * ((1 << 20) + 1)
    assert api.ask("POST", "/v1/lists/large", large).status == 413
    assert attached.json("lists", "show") == []
    assert api.ask("POST", "/v1/lists/large", b"203.0.113.1\n" + b"#" * 1_000_000).status == 200
    with ExitStack() as stack:
        waiting = []
        for _ in range(100):
            link = stack.enter_context(socket.socket(socket.AF_UNIX))
            link.connect(str(api.socket))
            link.sendall(b"POST /v1/blocks HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
            waiting.append(link)
        # The oldest made room; the guard, the loop of `run` and others' requests go on.
        assert api.ask("GET", "/v1/status").status == 200
        assert cut_off(waiting[0])
        with Echo(lab):
            assert works(lab, 4, "tcp")
        silent = stack.enter_context(socket.socket(socket.AF_UNIX))
        silent.connect(str(api.socket))
        for link, told in ((waiting[-1], b"HTTP/1.1 408 "), (silent, b"")):
            link.settimeout(60)
            assert link.recv(13) == told
        assert api.ask("GET", "/v1/status").status == 200


def cut_off(link: socket.socket) -> bool:
    """Return whether the other side has closed a connection; where it had not read everything, it is reset."""
    link.settimeout(60)
    try:
        return link.recv(1) == b""
    except ConnectionResetError:
        return True


def test_slow_tls(api: Served) -> None:
    """Who begins TLS and does not go on is no hindrance, and is cut off."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=60) as silent:
        assert api.ask_tcp("GET", "/v1/status").status == 200
        assert silent.recv(1) == b""


def test_a_token_that_others_can_read_and_the_same_after_a_reload(attached: Command, tmp_path: Path) -> None:
    secrets(tmp_path)
    (tmp_path / "token").chmod(0o640)
    (tmp_path / "api.toml").write_text(configured(tmp_path))
    with Service(attached, "--config", str(tmp_path / "api.toml")) as service:
        words = f"the API is not served: {tmp_path}/token can be read by other users; close it: chmod 600"
        assert service.says(words), service.lines
        assert not (tmp_path / "run" / "api.sock").exists()
        (tmp_path / "token").chmod(0o600)
        service.signal(signal.SIGHUP)
        assert service.says("api: "), service.lines
        its = Served(service, tmp_path)
        assert its.ask_tcp("GET", "/v1/status").status == 200
        (tmp_path / "api.toml").write_text('[metrics]\nlisten = "off"\n')
        service.signal(signal.SIGHUP)
        assert eventually(lambda: not its.socket.exists())
        assert attached.json("status")["degraded"] == []


def test_whoever_is_killed(attached: Command, tmp_path: Path) -> None:
    """The API goes with a service that is killed, comes back when it is killed itself, and takes its socket over."""
    secrets(tmp_path)
    (tmp_path / "api.toml").write_text(configured(tmp_path))
    with Run(attached, "--config", str(tmp_path / "api.toml")) as run:
        assert run.says("api: "), run.lines
        its = Served(run, tmp_path)  # type: ignore[arg-type]
        (child,) = children(run.pid)
        os.kill(child, signal.SIGKILL)
        assert run.says("the API's process ended with -9; it is started again in 10 s"), run.lines
        assert run.says("api: ", times=2), run.lines
        assert its.ask("GET", "/v1/status").status == 200
        (child,) = children(run.pid)
        run.end(signal.SIGKILL)
        assert eventually(lambda: not Path(f"/proc/{child}").exists())
    with served(attached, tmp_path) as again:
        assert again.ask("GET", "/v1/status").status == 200


def children(pid: int) -> list[int]:
    return [int(it) for it in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
