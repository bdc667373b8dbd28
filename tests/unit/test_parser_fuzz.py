# SPDX-License-Identifier: GPL-2.0
"""The fuzzer of parsers: a short run, that it sees what it is to see, and what it has found until now."""

from __future__ import annotations

import json
import os
import signal
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from support.parser_fuzz import MEMORY, Target, run, tried
from support.parsers import NEIGHBORS, Told, fed, targets

from xdpguard.bridges.bgp.routes import Routes
from xdpguard.bridges.crowdsec.client import refusal_message
from xdpguard.bridges.crowdsec.decisions import decoded
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.fleet import hosts, reading, snapshot
from xdpguard.fleet.credentials import login_options
from xdpguard.policy import exchange
from xdpguard.policy.flowspec import text as flowspec

SECONDS = 10.0
DEEP = 100_000


def test_the_samples_are_valid(tmp_path: Path) -> None:
    """Or mutations of them would only ever meet the first test of a parser."""
    for its in targets(tmp_path):
        found = [tried(its, sample) for sample in its.samples]
        if its.name.startswith("lists "):
            assert None in found, its.name
        else:
            assert not any(found), (its.name, found)


def test_no_parser_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    with capsys.disabled():
        print(f"\nparser_fuzz --seed {seed}")
    chosen = targets(tmp_path)
    result = run(chosen, SECONDS, seed)
    assert not result.findings, f"seed {seed}: {result.findings}"
    assert set(result.inputs) == {its.name for its in chosen}


def hangs(_: bytes) -> None:
    while True:
        pass


def eats(_: bytes) -> None:
    bytearray(MEMORY + (64 << 20))


def fails(_: bytes) -> None:
    raise KeyError("x")


def dies(_: bytes) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def ends(_: bytes) -> None:
    raise SystemExit(3)


def refuses(_: bytes) -> None:
    raise UsageError("no")


@pytest.mark.parametrize(
    ("read", "what"),
    [
        (hangs, "takes more than 1 s"),
        (eats, "MemoryError"),
        (fails, "KeyError"),
        (dies, "SIGKILL"),
        (ends, "SystemExit"),
    ],
)
def test_what_it_is_to_see_it_sees(read: Callable[[bytes], None], what: str) -> None:
    result = run([Target("it", read, [b"sample"], (UsageError,))], 0.0, 1, hang=1)
    assert [it.what for it in result.findings] == [what]


def test_a_refusal_is_no_finding() -> None:
    assert not run([Target("it", refuses, [b"sample"], (UsageError,))], 0.0, 1).findings


def test_a_snapshot_with_keys_that_are_no_text_is_refused() -> None:
    data = zlib.compress(msgspec.msgpack.encode([[1, "key", b"{}"]]).replace(b"key", b"k\xb4y"))
    with pytest.raises(snapshot.RefusedError, match="decode"):
        snapshot.unpacked(data)


def test_a_host_that_is_no_text_is_none() -> None:
    good = msgspec.json.encode(hosts.HostState(version="web"))
    assert hosts.decode(good, 0.0) is not None
    assert hosts.decode(good.replace(b"web", b"w\xb4b"), 0.0) is None


@pytest.mark.parametrize("text", [r"\ud800", r"x\udfff"])
def test_half_a_surrogate_pair_is_no_json_of_rules(text: str) -> None:
    for shown in ('{"exabgp": "4.0.1", "type": "%s"}', '{"a": "%s"}'):
        with pytest.raises(UsageError, match="not valid JSON"):
            flowspec.read(shown % text, "rules")


ROUTE = json.dumps(
    {
        "exabgp": "4.0.1",
        "type": "update",
        "neighbor": {
            "address": {"peer": "192.0.2.9"},
            "message": {"update": {"announce": {"ipv4 flow": {"no-nexthop": [{"string": "flow protocol =udp"}]}}}},
        },
    }
).encode()


@pytest.mark.parametrize(
    "broken",
    [
        b'{"a":' * DEEP + b"1" + b"}" * DEEP,
        b'{"exabgp": "4.0.1", "type": "\\ud800"}',
        ROUTE.replace(b"flow protocol", b"flow \\ud800"),
        ROUTE.replace(b"192.0.2.9", b"\xff"),
    ],
    ids=["deep", "surrogate", "surrogate in a rule", "bytes"],
)
def test_an_event_that_is_none_takes_no_other_with_it(broken: bytes) -> None:
    routes = fed(broken + b"\n" + ROUTE + b"\n")
    assert [it.fault for it in routes.wanted()] == [""]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"[" * DEEP + b"]" * DEEP, "answers '"),
        (b"[1]", "cannot read"),
        (b'{"a": "x"}', "cannot read"),
        (b'{"a": [{"neighbor-ip": "192.0.2.9", "attrs": 3}]}', "cannot read"),
        (b'{"a": [{"neighbor-ip": "\\ud800", "attrs": []}]}', "answers '"),
    ],
)
def test_an_answer_of_gobgp_that_is_none_is_an_error_with_a_remedy(said: bytes, words: str) -> None:
    routes = Routes(300.0)
    Told(b"{}", NEIGHBORS).look(routes)
    assert routes.up == 1, "positive control"
    with pytest.raises(XdpguardError, match=f"GoBGP at here .*{words}") as caught:
        Told(said, NEIGHBORS).look(routes)
    assert caught.value.remedy
    assert routes.up == 0


def test_answers_of_crowdsec_that_nest_deeply() -> None:
    with pytest.raises(XdpguardError, match="not a stream of decisions"):
        decoded(b'{"x":' + b"[" * DEEP + b"]" * DEEP + b"}")
    assert refusal_message(b"[" * DEEP) == ""
    assert refusal_message(b'{"message": "no"}') == " (no)"


@pytest.mark.parametrize("value", ["9" * 5000, "[" * DEEP])
def test_a_number_or_an_array_that_python_does_not_take_is_no_toml(value: str) -> None:
    with pytest.raises(UsageError, match="file: ") as caught:
        exchange.parse("file", f"created = {value}\n".encode(), 0.0)
    assert caught.value.remedy


def test_a_session_that_is_older_than_any_number_is_an_error() -> None:
    with pytest.raises(XdpguardError, match="cannot read"):
        Told(b"{}", NEIGHBORS.replace(b"1795000000", b"9" * 400)).look(Routes(300.0))


@pytest.mark.parametrize("number", ["", "²", "٣", "-1", "9" * 5000, "1_0"])
def test_a_change_without_a_number_is_none(number: str) -> None:
    def numbered(number: str) -> SimpleNamespace:
        return SimpleNamespace(headers={"Nats-Sequence": number}, subject="a", reply="", data=b"")

    assert reading.live(numbered("12")) is not None
    assert reading.live(numbered(number)) is None


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 50_000, "x"])
def test_credentials_that_python_does_not_take_are_none(value: str, tmp_path: Path) -> None:
    path = tmp_path / "web1.toml"
    path.write_text(f"user = {value}\n")
    path.chmod(0o600)
    with pytest.raises(UsageError, match="not a credentials file"):
        login_options(str(path))
