# SPDX-License-Identifier: GPL-2.0
"""A real fail2ban that bans through xdpguard's action file, on real traffic."""

from __future__ import annotations

import time
from pathlib import Path
from signal import SIGKILL

import pytest
from support.command import Command
from support.fail2ban import BACK, FRONT, Fail2ban
from support.patience import patient
from support.traffic import Family, client_address, eventually, works
from topology import CLIENTS4, CLIENTS6, Lab

FAMILIES: list[Family] = [4, 6]

pytestmark = pytest.mark.usefixtures("echo")


def parts(command: Command, target: str) -> dict[str, float | None]:
    """Who blocks a source until when."""
    return {
        part["source"]: part["expires"]
        for rule in command.json("rules")
        if rule["target"] == target
        for part in rule["origins"]
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_ban_and_unban(lab: Lab, attached: Command, tmp_path: Path, family: Family) -> None:
    address = client_address(family)
    with Fail2ban(tmp_path / "f2b", attached) as its:
        its.fails(address, times=2)
        assert works(lab, family, "tcp"), "twice is no ban"
        its.fails(address, times=1)
        assert eventually(lambda: not works(lab, family, "tcp")), its.log
        assert works(lab, family, "tcp", client=1), "another client must not notice"
        end = parts(attached, address)["fail2ban-front-door"]
        assert end is not None and abs(end - time.time() - 600) < patient(30)
        (rule,) = attached.json("rules")
        assert rule["reason"] == f"fail2ban: jail {FRONT}, 3 failures"
        assert its.client("set", FRONT, "unbanip", address).returncode == 0
        assert eventually(lambda: works(lab, family, "tcp")), its.log
        assert its.errors() == []


def test_restored_bans_keep_their_end(lab: Lab, attached: Command, tmp_path: Path) -> None:
    with Fail2ban(tmp_path / "f2b", attached) as its:
        its.fails(CLIENTS4[0])
        its.fails(CLIENTS6[0], BACK)
        assert eventually(lambda: not works(lab, 4, "tcp") and not works(lab, 6, "tcp")), its.log
        end = parts(attached, CLIENTS4[0])["fail2ban-front-door"]
        assert eventually(lambda: its.kept() == {CLIENTS4[0], CLIENTS6[0]}), its.log
        its.end(SIGKILL)
        assert not works(lab, 4, "tcp"), "a ban outlasts fail2ban"
        its.forget_attempts()
        its.start()
        assert eventually(lambda: "Restore Ban" in its.log), its.log
        assert eventually(lambda: not works(lab, 4, "tcp") and not works(lab, 6, "tcp")), its.log
        again = parts(attached, CLIENTS4[0])["fail2ban-front-door"]
        assert end is not None and again is not None and abs(end - again) < patient(2), "not begun anew"
        its.end()
        assert works(lab, 4, "tcp") and works(lab, 6, "tcp"), "fail2ban unbans when it is stopped"
        its.start()
        assert eventually(lambda: not works(lab, 4, "tcp") and not works(lab, 6, "tcp")), its.log
        assert its.errors() == []


def test_a_short_ban_and_one_without_end(lab: Lab, attached: Command, tmp_path: Path) -> None:
    with Fail2ban(tmp_path / "short", attached, bantime=4) as its:
        its.fails(CLIENTS4[0])
        assert eventually(lambda: not works(lab, 4, "tcp")), its.log
        assert eventually(lambda: works(lab, 4, "tcp"), 15), its.log
        assert eventually(lambda: "Unban" in its.log)
        assert its.errors() == []
    with Fail2ban(tmp_path / "long", attached, bantime=-1) as its:
        its.fails(CLIENTS4[0])
        assert eventually(lambda: not works(lab, 4, "tcp")), its.log
        assert parts(attached, CLIENTS4[0]) == {"fail2ban-front-door": None}


def test_what_one_jail_unbans_stays_banned_by_the_other(lab: Lab, attached: Command, tmp_path: Path) -> None:
    with Fail2ban(tmp_path / "f2b", attached) as its:
        its.fails(CLIENTS4[0])
        its.fails(CLIENTS4[0], BACK)
        both = {"fail2ban-front-door", "fail2ban-back-door"}
        assert eventually(lambda: parts(attached, CLIENTS4[0]).keys() == both), its.log
        its.client("stop", FRONT)
        assert eventually(lambda: parts(attached, CLIENTS4[0]).keys() == {"fail2ban-back-door"}), its.log
        assert not works(lab, 4, "tcp")
        its.client("set", BACK, "unbanip", CLIENTS4[0])
        assert eventually(lambda: works(lab, 4, "tcp")), its.log


def test_what_is_allowed_here_is_not_banned(lab: Lab, attached: Command, tmp_path: Path) -> None:
    attached.ok("allow", CLIENTS4[0])
    with Fail2ban(tmp_path / "f2b", attached) as its:
        its.fails(CLIENTS4[0])
        its.fails(CLIENTS4[1])
        assert eventually(lambda: not works(lab, 4, "tcp", client=1)), its.log
        assert eventually(lambda: f"may not block {CLIENTS4[0]}: it is allowed here" in its.log), its.log
        assert works(lab, 4, "tcp")


def test_all_of_an_origin(command: Command) -> None:
    command.ok("block", "198.51.100.1", "198.51.100.2", "--origin", "fail2ban-a")
    command.ok("block", "198.51.100.3", "--origin", "fail2ban-b")
    command.ok("block", "198.51.100.4", "--origin", "fail2ban-a", "--shadow")
    assert command.ok("unblock", "--origin", "fail2ban-a", "--all") == (
        "fail2ban-a blocks nothing any more; it had 3 rules\n"
    )
    assert [rule["target"] for rule in command.json("rules")] == ["198.51.100.3"]
    assert command.ok("unblock", "--origin", "fail2ban-a", "--all").endswith("it had 0 rules\n")
    command.refused(2, "unblock", "--all")
    command.refused(2, "unblock", "198.51.100.3", "--origin", "fail2ban-b", "--all")
