# SPDX-License-Identifier: GPL-2.0
"""The bridge to BGP as a process of ExaBGP, and routes from FRR."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support.bgp import ORIGIN_AS, ORIGIN_PORT, Bridge, ExaBGP, Frr, GoBGP
from support.command import Command
from support.traffic import PORT, eventually, works
from topology import CLIENTS4, CLIENTS6, OUTSIDE4, SERVER4, Lab

RULE = f"match source {CLIENTS4[0]}/32 protocol udp destination-port =={PORT} then discard"

pytestmark = pytest.mark.usefixtures("echo")


def dropped(lab: Lab, client: int = 0) -> bool:
    """Whether this client's UDP is dropped while its TCP works."""
    assert works(lab, 4, "tcp", client=client)
    return not works(lab, 4, "udp", client=client)


def test_as_a_process_of_exabgp(lab: Lab, attached: Command, tmp_path: Path) -> None:
    peer = GoBGP(lab.outside, tmp_path / "peer", OUTSIDE4, SERVER4, ours=False)
    with (
        peer,
        ExaBGP(lab.server, tmp_path / "exa", attached, SERVER4, OUTSIDE4, "--hold", "10s") as exabgp,
    ):
        assert eventually(lambda: peer.established, 40), exabgp.log.read_text()
        assert not dropped(lab)
        peer.flow(RULE)
        assert eventually(lambda: dropped(lab)), exabgp.log.read_text()
        assert works(lab, 4, "udp", client=1)
        peer.ok("global rib -a ipv4 add 192.0.2.9/32 community 65535:666")
        assert eventually(lambda: "bgp.rtbh.192.0.2.9" in [it["name"] for it in attached.json("filter", "list")])
        os.kill(int(exabgp.pid_file.read_text()), signal.SIGKILL)
        peer.flow(RULE, "del")
        assert exabgp.says("bridge to ExaBGP", times=2), "ExaBGP starts it again"
        assert eventually(lambda: not dropped(lab), 40), "what was withdrawn meanwhile"
        assert eventually(lambda: peer.established, 40)
        assert eventually(lambda: "bgp.rtbh.192.0.2.9" in [it["name"] for it in attached.json("filter", "list")])
        peer.flow(RULE)
        assert eventually(lambda: dropped(lab), 40), exabgp.log.read_text()
        peer.flow(RULE, "del")
        assert eventually(lambda: not dropped(lab), 5), "at once"
        peer.flow(RULE)
        assert eventually(lambda: dropped(lab))
        peer.end()
        assert exabgp.says("a session has ended")
        assert dropped(lab), "it is held"
        assert eventually(lambda: not dropped(lab), 20), "but not for longer than --hold"


def test_filters_go_out_by_exabgp(lab: Lab, attached: Command, tmp_path: Path) -> None:
    words = ("--announce", "filters", "--own", f"{SERVER4}/32", "--announce-least", "1s")
    peer = GoBGP(lab.outside, tmp_path / "peer", OUTSIDE4, SERVER4, ours=False)
    attached.ok("filter", "add", "web", "tcp dport 81", "--drop")
    with peer, ExaBGP(lab.server, tmp_path / "exa", attached, SERVER4, OUTSIDE4, *words) as exabgp:
        rule = f"[destination: {SERVER4}/32][protocol: ==tcp][destination-port: ==81]"
        assert eventually(lambda: peer.established, 40), exabgp.log.read_text()
        assert eventually(lambda: peer.flows() == [rule]), exabgp.log.read_text()
        attached.ok("filter", "remove", "web")
        assert eventually(lambda: peer.flows() == [], 40)


def test_a_blackhole_of_frr(lab: Lab, attached: Command, tmp_path: Path) -> None:
    with (
        GoBGP(lab.server, tmp_path / "mine", SERVER4, OUTSIDE4, ours=True) as mine,
        Frr(lab.outside, tmp_path / "frr", OUTSIDE4, SERVER4, f"{CLIENTS4[1]}/32") as frr,
        Bridge(attached, "--gobgp", mine.place, "--hold", "10s", "--rtbh-source"),
    ):
        assert works(lab, 4, "udp", client=1)
        assert eventually(lambda: mine.established, 40), frr.log.read_text()
        assert eventually(lambda: not works(lab, 4, "udp", client=1)), mine.ok("global rib -a ipv4")
        assert works(lab, 4, "udp")
        assert [it["name"] for it in attached.json("filter", "list")] == [f"bgp.rtbh.{CLIENTS4[1]}"]
        frr.end()
        assert eventually(lambda: works(lab, 4, "udp", client=1), 40)


def test_flowspec_that_frr_hands_on(lab: Lab, attached: Command, tmp_path: Path) -> None:
    """FRR makes no rules itself; a GoBGP behind it does."""
    behind = CLIENTS4[4]
    with (
        GoBGP(lab.server, tmp_path / "mine", SERVER4, OUTSIDE4, ours=True) as mine,
        GoBGP(
            lab.outside, tmp_path / "origin", behind, OUTSIDE4, ours=False, port=ORIGIN_PORT, number=ORIGIN_AS
        ) as origin,
        Frr(lab.outside, tmp_path / "frr", OUTSIDE4, SERVER4, f"{CLIENTS4[1]}/32", behind) as frr,
        Bridge(attached, "--gobgp", mine.place, "--hold", "10s", "--rtbh-source"),
    ):
        assert eventually(lambda: mine.established and origin.established, 40), frr.log.read_text()
        assert not dropped(lab)
        origin.flow(RULE)
        assert eventually(lambda: dropped(lab)), (mine.flows(), frr.log.read_text())
        assert eventually(lambda: not works(lab, 4, "udp", client=1)), "and the blackhole is FRR's own"
        assert works(lab, 4, "udp", client=2)
        six = f"match source {CLIENTS6[0]}/128 protocol udp then discard"
        origin.flow(six, version=6)
        assert eventually(lambda: not works(lab, 6, "udp")), mine.flows(6)
        origin.flow(six, "del", version=6)
        assert eventually(lambda: works(lab, 6, "udp"))
        origin.flow(RULE, "del")
        assert eventually(lambda: not dropped(lab)), mine.flows()
        origin.flow(RULE)
        assert eventually(lambda: dropped(lab))
        origin.end()
        assert eventually(lambda: not dropped(lab), 40), "FRR withdraws what the session had that ended"
        assert not works(lab, 4, "udp", client=1)
