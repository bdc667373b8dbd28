# SPDX-License-Identifier: GPL-2.0
"""``bridge crowdsec`` against a real CrowdSec, on real traffic; its restarts, its refusals, and 50,000 decisions."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
from support.command import Command
from support.crowdsec import CrowdSec
from support.patience import patient
from support.service import Run
from support.traffic import Family, client_address, eventually, works
from topology import CLIENTS4, CLIENTS6, SERVER4, Lab

from xdpguard.store.database import Store

FAMILIES: list[Family] = [4, 6]

pytestmark = pytest.mark.usefixtures("echo")


@pytest.fixture
def crowdsec(tmp_path: Path) -> Iterator[CrowdSec]:
    with CrowdSec(tmp_path / "crowdsec") as made:
        yield made


def exactly(command: Command) -> dict[str, float]:
    """The ends, not rounded."""
    with contextlib.closing(sqlite3.connect(command.store)) as store:
        return dict(store.execute("SELECT target, expires FROM rules"))


def bridge(command: Command, its: CrowdSec, *more: str) -> Run:
    """The bridge in the background, which asks each second."""
    options = ("--url", its.url, "--key-file", str(its.key), "--every", "1s", *more)
    return Run(command, *options, words=("bridge", "crowdsec"))


def state(command: Command) -> dict[str, Any]:
    """What it says of itself."""
    (found,) = command.json("bridge", "show")
    return dict(found)


def blocked(command: Command) -> dict[str, float]:
    """What CrowdSec blocks, and the ends."""
    return {
        rule["target"]: part["expires"]
        for rule in command.json("rules")
        for part in rule["origins"]
        if part["source"] == "crowdsec"
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_a_ban_and_its_deletion(lab: Lab, attached: Command, crowdsec: CrowdSec, family: Family) -> None:
    address = client_address(family)
    assert works(lab, family, "tcp")
    with bridge(attached, crowdsec) as run:
        assert run.says("all decisions read: 0 taken, 0 refused")
        crowdsec.ban(address, "--duration", "10m", "--reason", "a test")
        assert eventually(lambda: not works(lab, family, "tcp"))
        assert works(lab, family, "udp", client=1), "another client must not notice"
        end = blocked(attached)[address]
        assert end is not None and abs(end - time.time() - 600) < patient(15)
        (rule,) = attached.json("rules")
        assert rule["reason"] == "a test (cscli)"
        crowdsec.cscli("decisions", "delete", "--ip", address)
        assert eventually(lambda: works(lab, family, "tcp"))
        assert run.end() == 0, run.lines
    assert "stopped" in run.lines[-1]


def test_scopes_types_and_short_bans(lab: Lab, attached: Command, crowdsec: CrowdSec) -> None:
    crowdsec.ban("198.18.0.10/31", "--duration", "8760h")
    crowdsec.ban(CLIENTS4[3], "--type", "captcha")
    crowdsec.ban("0.0.0.0/0")
    crowdsec.ban(f"{CLIENTS6[2]}/127", "--duration", "1h")
    with bridge(attached, crowdsec) as run:
        assert run.says("all decisions read: 2 taken, 1 refused"), run.lines
        assert run.says("refused 0.0.0.0/0: its prefix is shorter than /16")
        assert [works(lab, 4, "tcp", client=it) for it in range(4)] == [False, False, True, True]
        assert [works(lab, 6, "tcp", client=it) for it in range(4)] == [True, True, False, False]
        crowdsec.ban(CLIENTS4[2], "--duration", "3s")
        assert eventually(lambda: not works(lab, 4, "tcp", client=2))
        assert eventually(lambda: works(lab, 4, "tcp", client=2)), "it ends by itself"
        assert eventually(lambda: state(attached)["left_alone"] == {"captcha": 1})
        assert eventually(lambda: state(attached)["entries"] == 2)
        its = state(attached)
        assert (its["refused"], its["connected"], its["fault"]) == (1, True, "")
        assert its["refusals"] == ["0.0.0.0/0: its prefix is shorter than /16"]
        assert attached.json("status")["bridges"][0]["name"] == "crowdsec"
        assert f"crowdsec: connected to {crowdsec.url}; 2 entries" in attached.ok("status")


def test_what_is_allowed_here_is_not_blocked(lab: Lab, attached: Command, crowdsec: CrowdSec) -> None:
    attached.ok("allow", CLIENTS4[0])
    crowdsec.ban(CLIENTS4[0])
    crowdsec.ban(CLIENTS4[1])
    with bridge(attached, crowdsec) as run:
        assert run.says(f"refused {CLIENTS4[0]}: it is allowed here")
        assert works(lab, 4, "tcp")
        assert not works(lab, 4, "tcp", client=1), "the other is"


def test_shadow_only_counts(lab: Lab, attached: Command, crowdsec: CrowdSec) -> None:
    crowdsec.ban(CLIENTS4[0])
    with bridge(attached, crowdsec, "--mode", "shadow") as run:
        assert run.says("all decisions read: 1 taken, only counting, 0 refused")
        assert works(lab, 4, "tcp")
        (rule,) = attached.json("rules")
        assert (rule["kind"], rule["packets"] > 0) == ("shadow", True)
        assert run.end() == 0
    attached.refused(2, "bridge", "forget", "bgp")
    with bridge(attached, crowdsec) as run:
        assert run.says("all decisions read: 1 taken, 0 refused")
        assert not works(lab, 4, "tcp"), "the mode of the last start counts"
        assert "already is the bridge crowdsec" in attached.refused(1, "bridge", "forget", "crowdsec")
        assert run.end() == 0
    assert not works(lab, 4, "tcp"), "a bridge that is stopped lets nothing through"
    attached.ok("bridge", "forget", "crowdsec")
    assert works(lab, 4, "tcp")
    assert attached.json("bridge", "show") == []


def test_restarts_of_either_side(lab: Lab, attached: Command, crowdsec: CrowdSec) -> None:
    crowdsec.ban(CLIENTS4[0])
    crowdsec.ban(CLIENTS4[1])
    with bridge(attached, crowdsec) as run:
        assert run.says("all decisions read: 2 taken")
        ends = exactly(attached)
        run.end(SIGKILL)
    # What it misses meanwhile.
    crowdsec.cscli("decisions", "delete", "--ip", CLIENTS4[0])
    crowdsec.ban(CLIENTS4[2])
    assert [works(lab, 4, "tcp", client=it) for it in range(3)] == [False, False, True]
    with bridge(attached, crowdsec) as run:
        assert run.says("all decisions read: 2 taken")
        assert [works(lab, 4, "tcp", client=it) for it in range(3)] == [True, False, False]
        assert exactly(attached)[CLIENTS4[1]] == ends[CLIENTS4[1]], "an end does not move by being read again"
        crowdsec.kill()
        assert run.says("trying again")
        assert eventually(lambda: not state(attached)["connected"])
        assert attached("status").code == 1
        assert f"not connected to {crowdsec.url}: Connection refused" in " ".join(attached.json("status")["degraded"])
        assert [works(lab, 4, "tcp", client=it) for it in range(3)] == [True, False, False], "bans outlast the server"
        crowdsec.start()
        crowdsec.cscli("decisions", "delete", "--ip", CLIENTS4[1])
        assert run.says("all decisions read: 1 taken")
        assert sum(line.endswith("Connection refused; trying again") for line in run.lines) == 1, "said once"
        assert [works(lab, 4, "tcp", client=it) for it in range(3)] == [True, True, False]


def test_a_wrong_key_is_said_once_and_read_again(attached: Command, crowdsec: CrowdSec) -> None:
    key = crowdsec.key.read_text(encoding="ascii")
    crowdsec.key.write_text("wrong\n", encoding="ascii")
    crowdsec.ban(CLIENTS4[0])
    with bridge(attached, crowdsec) as run:
        assert run.says("it answers 403 Forbidden (access forbidden); check the key in")
        assert eventually(lambda: state(attached)["failures"] > 1)
        assert run.count("check the key") == 1
        crowdsec.key.write_text(key, encoding="ascii")
        assert run.says("all decisions read: 1 taken")
        assert run.says("more time"), "how often is said at the end"


def test_deleting_the_longer_of_two_bans_leaves_the_shorter(lab: Lab, attached: Command, crowdsec: CrowdSec) -> None:
    crowdsec.ban(CLIENTS4[0], "--duration", "1h", "--reason", "shorter")
    with bridge(attached, crowdsec) as run:
        assert run.says("all decisions read: 1 taken")
        crowdsec.ban(CLIENTS4[0], "--duration", "5h", "--reason", "longer")
        assert eventually(lambda: blocked(attached)[CLIENTS4[0]] - time.time() > 4 * 3600)
        (longer,) = [it["id"] for it in crowdsec.decisions() if it["scenario"] == "longer"]
        crowdsec.cscli("decisions", "delete", "--id", str(longer))
        run.signal(1)  # SIGHUP reads all: the stream says nothing of it
        assert eventually(lambda: 0 < blocked(attached).get(CLIENTS4[0], 0.0) - time.time() < 3600)
        assert not works(lab, 4, "tcp")


def test_the_guards_bans_are_sent(attached: Command, crowdsec: CrowdSec) -> None:
    attached.ok("block", "203.0.113.9", "--for", "1h", "--reason", "port scan")
    attached.ok("block", "2001:db8:7::/64", "--for", "1h")
    attached.ok("block", "203.0.113.10", "--for", "1h")
    with Store(attached.store) as store:
        store.execute("UPDATE rules SET source = 'guard' WHERE target <> '203.0.113.10'")
    with bridge(attached, crowdsec, "--push", str(crowdsec.credentials)) as run:
        assert run.says("sent 2 of the guard's bans")
        found = {it["value"]: it for it in crowdsec.decisions()}
        assert set(found) == {"203.0.113.9", "2001:db8:7::/64"}
        assert all(it["scenario"].startswith("xdpguard/guard/") for it in found.values())
        assert eventually(lambda: state(attached)["left_alone"] == {"sent by this host": 2}), "not taken for another's"
        assert blocked(attached) == {}
        assert run.end() == 0
    with bridge(attached, crowdsec, "--push", str(crowdsec.credentials)) as run:
        assert run.says("all decisions read: 0 taken")
        assert eventually(lambda: state(attached)["updates"] >= 1)
        assert run.end() == 0
    assert run.count("sent") == 0, "each once"
    assert state(attached)["sent_until"] > 0


@pytest.mark.timeout(300)
def test_50000_decisions(lab: Lab, attached: Command, crowdsec: CrowdSec, tmp_path: Path) -> None:
    file = tmp_path / "many.csv"
    addresses = [f"10.{it >> 16}.{it >> 8 & 255}.{it & 255}" for it in range(49_999)] + [CLIENTS4[0]]
    file.write_text("duration,scope,value\n" + "".join(f"24h,ip,{it}\n" for it in addresses), encoding="ascii")
    crowdsec.cscli("decisions", "import", "-i", str(file))
    with bridge(attached, crowdsec) as run:
        assert run.says("all decisions read: 50,000 taken, 0 refused")
        assert not works(lab, 4, "tcp")
        assert works(lab, 4, "tcp", client=1)
        audit = attached.json("status")["audit"]
        assert (audit["ratio"], audit["rules"]) == (1, {"stored": 50_000, "held": 50_000})
        crowdsec.cscli("decisions", "delete", "--ip", CLIENTS4[0])
        assert eventually(lambda: works(lab, 4, "tcp"))
        assert run.end() == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--url", "ftp://localhost"), "not the URL of a local API"),
        (("--url", "http://user:secret@127.0.0.1"), "not the URL of a local API"),
        (("--every", "100ms"), "--every is too short or too long"),
        (("--mode", "none"), "no such mode: 'none'"),
        (("--ca", "/dev/null"), "--ca is for https"),
    ],
)
def test_wrong_usage(command: Command, options: tuple[str, ...], says: str) -> None:
    assert says in command.refused(2, "bridge", "crowdsec", *options)


def test_a_key_is_needed(command: Command, tmp_path: Path) -> None:
    missing = tmp_path / "key"
    line = command.refused(3, "bridge", "crowdsec", "--key-file", str(missing))
    assert "cscli bouncers add" in line
    missing.touch(0o600)
    assert "has no key in it" in command.refused(3, "bridge", "crowdsec", "--key-file", str(missing))


def test_the_unit_names_what_was_given(command: Command, tmp_path: Path) -> None:
    unit = command.ok("bridge", "crowdsec", "--print-unit", "--url", f"http://{SERVER4}:80", "--push", str(tmp_path))
    (line,) = [it for it in unit.splitlines() if it.startswith("ExecStart=")]
    assert f" bridge crowdsec --url http://{SERVER4}:80 --every 10s --key-file /etc/xdpguard/crowdsec.key" in line
    assert line.endswith(f" --push {tmp_path}")
    assert "Type=notify" in unit
