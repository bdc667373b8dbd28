# SPDX-License-Identifier: GPL-2.0
"""CrowdSec's stream, and when a bridge writes what it says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from xdpguard.bridges.crowdsec.alerts import Login, read_login
from xdpguard.bridges.crowdsec.client import Server, parse_server, read_key
from xdpguard.bridges.crowdsec.decisions import Decisions, decoded, seconds
from xdpguard.bridges.state import Account
from xdpguard.errors import MissingError, UsageError, XdpguardError
from xdpguard.store.bridges import Bridge, bridges, forget_bridge
from xdpguard.store.database import Store

NOW = 1_795_000_000.0


def decision(number: int, value: str, duration: str = "1h", **more: Any) -> dict[str, Any]:
    usual = {"origin": "CAPI", "scenario": "ssh-bf", "scope": "Ip", "type": "ban"}
    return usual | {"id": number, "value": value, "duration": duration} | more


def page(*new: dict[str, Any], deleted: tuple[dict[str, Any], ...] = ()) -> Any:
    # The server writes null where there is nothing.
    return decoded(json.dumps({"new": list(new) or None, "deleted": list(deleted) or None}).encode())


def ends(found: dict[Any, Any]) -> dict[str, float]:
    return {str(target): rule.expires - NOW for target, rule in found.items()}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1h59m59.061173151s", 7199.061173151),
        ("8759h59m58s", 31_535_998),
        ("-1m27.679867538s", -87.679867538),
        ("-10.487068ms", -0.010487068),
        ("250µs", 0.00025),
        ("0s", 0),
    ],
)
def test_durations(text: str, wanted: float) -> None:
    assert seconds(text) == pytest.approx(wanted)


@pytest.mark.parametrize("text", ["", "1", "s", "1h 2m", "1d", "--1s", "1h;", "∞"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(XdpguardError):
        seconds(text)


def test_what_is_blocked_and_what_is_left_alone() -> None:
    known = Decisions("mine")
    new, gone = known.take(
        page(
            decision(1, "198.51.100.7"),
            decision(2, "203.0.113.77/24", "2h", scope="Range"),
            decision(3, "2001:db8::1", type="captcha"),
            decision(4, "FR", scope="Country"),
            decision(5, "2001:db8::2", simulated=True),
            decision(6, "192.0.2.1", scenario="mine"),
            decision(7, "198.51.100.9", "-1s"),
            decision(8, "nonsense"),
            decision(9, "198.51.100.7", "30m"),
            decision(10, "::ffff:192.0.2.9"),
        ),
        NOW,
        whole=True,
    )
    assert ends(new) == {"198.51.100.7": 3600, "203.0.113.0/24": 7200, "192.0.2.9": 3600}
    assert {rule.reason for rule in new.values()} == {"ssh-bf (CAPI)"}
    assert not gone
    assert known.left_alone() == {"captcha": 1, "ban by country": 1, "simulated ban": 1, "sent by this host": 1}
    assert [str(it.target) for it in known.unread.values()] == ["nonsense"]
    known.take(page(deleted=(decision(3, "2001:db8::1", "-1s", type="captcha"),)), NOW, whole=False)
    assert "captcha" not in known.left_alone()


def test_deletions() -> None:
    known = Decisions()
    known.take(page(decision(1, "198.51.100.7"), decision(2, "198.51.100.8")), NOW, whole=True)
    new, gone = known.take(page(deleted=(decision(2, "198.51.100.8", "-1s"),)), NOW + 3600, whole=False)
    assert ([str(it) for it in gone], known.doubtful) == (["198.51.100.8"], False), "it has ended"
    again = known.take(page(deleted=(decision(2, "198.51.100.8", "-3s"),)), NOW, whole=False)
    assert again == ({}, []), "the server repeats deletions"
    new, gone = known.take(page(decision(3, "198.51.100.7", "4h")), NOW, whole=False)
    assert (ends(new), gone) == ({"198.51.100.7": 14_400}, [])
    assert known.take(page(deleted=(decision(1, "198.51.100.7", "-1s"),)), NOW, whole=False) == ({}, [])
    assert not known.doubtful, "an older decision, while a later one lasts"
    new, gone = known.take(
        page(decision(5, "198.51.100.7"), deleted=(decision(3, "198.51.100.7", "-1s"),)), NOW, whole=False
    )
    assert (ends(new), gone) == ({"198.51.100.7": 3600}, []), "deleted and decided anew"
    assert known.doubtful, "deleted before its end: another may remain"
    known.take(page(decision(5, "198.51.100.7")), NOW, whole=True)
    assert not known.doubtful


@pytest.mark.parametrize("body", [b"", b"[]", b'{"new": 1}', b'{"new": [{"id": "x"}]}', b"<html>", b"\xff"])
def test_what_is_no_stream(body: bytes) -> None:
    with pytest.raises(XdpguardError, match="not a stream of decisions"):
        decoded(body)


def test_servers() -> None:
    assert parse_server("http://127.0.0.1:8080/") == Server(False, "127.0.0.1", 8080, "")
    assert parse_server("https://lapi.example/crowdsec/") == Server(True, "lapi.example", 443, "/crowdsec")
    assert str(parse_server("http://[::1]")) == "http://[::1]:8080"
    for text in (
        "",
        "127.0.0.1:8080",
        "http://",
        "http://a:99999",
        "http://a?b",
        "http://a b",
        "http://u@a",
        "http://[",
    ):
        with pytest.raises(UsageError):
            parse_server(text)


def test_keys_and_credentials(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch(0o600)
    for text in ("", "\n", "two words"):
        file.write_text(text)
        with pytest.raises(MissingError, match="has no key in it"):
            read_key(file)
    file.write_text("0123abcd\n")
    assert read_key(file) == "0123abcd"
    with pytest.raises(MissingError, match="have no login and password"):
        read_login(file)
    file.write_text("url: http://127.0.0.1:8080\nlogin: tests\npassword: 'a: b'\n")
    assert read_login(file) == Login("tests", "a: b")


def test_when_the_state_is_written(tmp_path: Path) -> None:
    now = NOW
    with Store(tmp_path / "store.db") as store:
        its = Account(Bridge(name="crowdsec", peer="http://a"), lambda: now)
        assert its.due()
        its.write(store)
        assert not its.due()
        its.failed("Connection refused")
        assert not its.due(), "not at once"
        now += 6
        assert its.due()
        its.write(store)
        (found,) = bridges(store)
        assert "is not connected to http://a: Connection refused" in found.wrong(now)
        its.connected()
        now += 6
        assert its.due()
        its.write(store)
        now += 30
        its.connected()
        assert not its.due(), "that it answers again is no news"
        now += 31
        assert its.due(), "but that the bridge lives is, each minute"
        its.write(store)
        (found,) = bridges(store)
        assert found.wrong(now + 100) == ""
        assert "was killed or hangs" in found.wrong(now + 200)
        its.stopped(store)
        (found,) = bridges(store)
        assert found.wrong(now + 200) == ""
        assert forget_bridge(store, "crowdsec")
        assert not forget_bridge(store, "crowdsec")
