# SPDX-License-Identifier: GPL-2.0
"""Bans that go upstream: the guard bans on real traffic, and a real GoBGP neighbor hears of it."""

from __future__ import annotations

from pathlib import Path

from support.bgp import Bridge, GoBGP
from support.command import Command
from support.scans import spoof_scan, touch
from support.service import Service
from support.traffic import eventually
from topology import CLIENTS4, OUTSIDE4, SERVER4, Lab

PROVED, FORGED, OTHER = CLIENTS4[2], CLIENTS4[4], CLIENTS4[5]


def test_proved_sources_alone_are_announced_while_they_are_banned(lab: Lab, attached: Command, tmp_path: Path) -> None:
    words = ("--announce", "bans", "--own", f"{SERVER4}/32", "--announce-least", "1s")
    attached.ok("guard", "set", "bans=30s,10m,1h")
    attached.ok("block", OTHER, "--for", "10m")
    with (
        Service(attached) as run,
        GoBGP(lab.server, tmp_path / "mine", SERVER4, OUTSIDE4, ours=True) as mine,
        GoBGP(lab.outside, tmp_path / "peer", OUTSIDE4, SERVER4, ours=False, passive=False) as peer,
        Bridge(attached, "--gobgp", mine.place, *words) as bridge,
    ):

        def scans(source: str) -> None:
            for port in range(2000, 2040):
                touch(lab, SERVER4, port, source)

        assert run.says("watching eth0"), run.lines
        assert eventually(lambda: mine.established, 40), mine.log.read_text()
        spoof_scan(lab, FORGED)
        scans(PROVED)
        assert run.says(f"banned {PROVED} for 30s"), run.lines
        rule = f"[destination: {SERVER4}/32][source: {PROVED}/32]"
        assert eventually(lambda: peer.flows() == [rule]), (peer.flows(), bridge.log.read_text())
        assert not touch(lab, SERVER4, 2050, PROVED)
        assert {it["target"] for it in attached.json("rules")} == {PROVED, OTHER}, "the forged one is not banned"
        assert attached.json("filter", "list") == [], "what goes out does not come back in"
        assert eventually(lambda: peer.flows() == [], 60), "its ban has ended"
        scans(PROVED)
        assert run.says(f"banned {PROVED} for 10m"), run.lines
        assert eventually(lambda: peer.flows() == [rule]), (peer.flows(), bridge.log.read_text())
        attached.ok("unblock", PROVED)
        assert eventually(lambda: peer.flows() == [], 40), "it was taken back"
        assert peer.established, "all the time"
        assert bridge.log.read_text().count("announced: ") == 2
        assert not any(FORGED in line for line in run.lines)
