# SPDX-License-Identifier: GPL-2.0
"""What another program decides (--origin) on real traffic, beside what the users of this host decide."""

from __future__ import annotations

import json
import time

import pytest
from support.command import Command
from support.traffic import Family, client_address, works
from topology import OUTSIDE4, Lab

FAMILIES: list[Family] = [4, 6]
ORIGIN = ("--origin", "fail2ban")

pytestmark = pytest.mark.usefixtures("echo")


def origins(command: Command, target: str) -> list[str]:
    return [it["source"] for rule in command.json("rules") if rule["target"] == target for it in rule["origins"]]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_ban_of_another_program(lab: Lab, attached: Command, family: Family) -> None:
    address = client_address(family)
    assert works(lab, family, "tcp")
    said = attached.ok("block", address, "--for", "600s", *ORIGIN, "--reason", "sshd")
    assert said.startswith(f"blocked {address} until ")
    assert said.endswith(" for fail2ban\n")
    assert not works(lab, family, "tcp")
    assert works(lab, family, "tcp", client=1), "another client must not notice"
    assert origins(attached, address) == ["fail2ban"]
    assert "fail2ban" in attached.ok("rules")
    attached.ok("block", address, "--for", "60s", *ORIGIN)
    (rule,) = attached.json("rules")
    assert rule["expires"] <= time.time() + 61, "as the program says now, also earlier"
    attached.ok("block", address, "--reason", "mine")
    assert origins(attached, address) == ["cli", "fail2ban"]
    done = attached("unblock", address, *ORIGIN)
    assert (done.code, done.out) == (0, f"fail2ban no longer blocks {address}\n")
    assert f"note: {address} is still dropped: it is blocked" in done.err
    assert not works(lab, family, "tcp"), "a user blocks it as well"
    assert attached.ok("unblock", address) == f"unblocked {address}\n"
    assert works(lab, family, "tcp")
    done = attached("unblock", address, *ORIGIN)
    assert (done.code, done.out, done.err) == (0, f"fail2ban blocks none of {address}\n", "")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_user_wins(lab: Lab, attached: Command, family: Family) -> None:
    address = client_address(family)
    attached.ok("block", address, *ORIGIN)
    assert not works(lab, family, "udp")
    done = attached("unblock", address)
    assert (done.code, done.out) == (0, f"unblocked {address}\n")
    assert done.err == (
        f"xdpguard: note: fail2ban may block {address} again; to let it through for good: xdpguard allow {address}\n"
    )
    assert works(lab, family, "udp")
    attached.ok("block", address, *ORIGIN)
    assert not works(lab, family, "udp"), "as was said"
    attached.ok("allow", address)
    assert works(lab, family, "udp")
    why = f"xdpguard: fail2ban may not block {address}: it is allowed here"
    line = attached.refused(1, "block", address, *ORIGIN)
    assert line == f"{why}; what fail2ban blocked of that so far was removed"
    assert attached.refused(1, "block", address, *ORIGIN) == f"{why}; nothing was changed"
    assert origins(attached, address) == ["cli"], "what is refused is not kept for later"
    assert attached("unblock", address).code == 1
    attached.ok("disallow", address)
    assert works(lab, family, "udp")


@pytest.mark.parametrize("family", FAMILIES)
def test_shadow_counts_and_drops_nothing(lab: Lab, attached: Command, family: Family) -> None:
    address = client_address(family)
    said = attached.ok("block", address, "--shadow", *ORIGIN)
    assert said == f"counting what a block would drop of {address} for fail2ban\n"
    assert works(lab, family, "tcp")
    (rule,) = attached.json("rules", "--kind", "shadow")
    assert rule["packets"] > 0
    assert rule["source"] == "fail2ban"
    attached.ok("block", address, *ORIGIN)
    assert attached.json("rules", "--kind", "shadow") == [], "it moves"
    assert not works(lab, family, "tcp")
    attached.ok("unblock", address, *ORIGIN)
    assert works(lab, family, "tcp")


def test_what_is_needed_or_too_wide_is_refused_and_the_rest_taken(lab: Lab, attached: Command) -> None:
    done = attached("block", "-", *ORIGIN, stdin=f"{OUTSIDE4}\n10.0.0.0/8\n{client_address(4)}\n")
    assert done.code == 0
    assert done.out == f"blocked {client_address(4)} for fail2ban\n"
    assert f"note: fail2ban may not block {OUTSIDE4}: it is this host's gateway" in done.err
    assert "note: fail2ban may not block 10.0.0.0/8: its prefix is shorter than /16" in done.err
    assert not works(lab, 4, "udp")
    assert works(lab, 4, "udp", client=1)
    line = attached.refused(1, "block", OUTSIDE4, "10.0.0.0/8", *ORIGIN)
    assert "(and 1 more); nothing was changed" in line


def test_undo_is_for_the_changes_of_users(lab: Lab, attached: Command) -> None:
    attached.ok("block", client_address(4, 1))
    attached.ok("block", client_address(4), *ORIGIN)
    attached.ok("undo")
    assert works(lab, 4, "udp", client=1)
    assert not works(lab, 4, "udp")


def test_what_does_not_go_with_an_origin(command: Command) -> None:
    for options in (["--port", "22"], ["--force"], ["--replace"], ["--confirm", "60s"]):
        assert f"--origin and {options[0]} cannot" in command.refused(2, "block", *options, "192.0.2.1", *ORIGIN)
    for name in ("cli", "config", "guard", "safety", "Fail2ban", "a b"):
        for verb in ("block", "unblock"):
            assert "not an origin" in command.refused(2, verb, "192.0.2.1", "--origin", name)
    done = command("block", "198.51.100.7", *ORIGIN)
    assert "nothing is attached" in done.err
    assert json.loads(command("rules", "--json").out)[0]["source"] == "fail2ban"


def test_a_filter_of_another_system_may_come_again(command: Command) -> None:
    text = '[[filters]]\nname = "x"\nmatch = "udp sport 19"\naction = "drop"\norigin = "bgp"\n'
    command.ok("import", "-", stdin=text)
    assert command.ok("filter", "remove", "x") == "removed the filter x\nbgp, which decides about x, may add it again\n"
