# SPDX-License-Identifier: GPL-2.0
"""The bridge to BGP on real traffic: two GoBGP daemons, one on this host, and their session through the program."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bgp import Bridge, GoBGP
from support.command import Command
from support.traffic import PORT, Family, client_address, eventually, server_address, works
from topology import CLIENTS4, OUTSIDE4, SERVER4, SERVER6, Lab

HOLD = "10s"

pytestmark = pytest.mark.usefixtures("echo")


@pytest.fixture(scope="module")
def speakers(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Speakers]:
    with Speakers(lab, tmp_path_factory.mktemp("bgp")) as made:
        yield made


class Speakers:
    """GoBGP on this host, and the neighbor that announces."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab = lab
        self._folder = folder
        self.mine = GoBGP(lab.server, folder / "mine", SERVER4, OUTSIDE4, ours=True)
        try:
            self.start_peer()
        except BaseException:
            self.mine.end()
            raise

    def __enter__(self) -> Speakers:
        return self

    def __exit__(self, *_: object) -> None:
        self.peer.end()
        self.mine.end()

    def start_peer(self) -> None:
        """Starts the neighbor, anew; waits for the session."""
        self.peer = GoBGP(self._lab.outside, self._folder / "peer", OUTSIDE4, SERVER4, ours=False, passive=False)
        assert eventually(lambda: self.mine.established, 40), self.mine.log.read_text()

    def fresh(self) -> None:
        """Starts the neighbor anew, without routes."""
        self.peer.end()
        self.start_peer()
        assert eventually(lambda: not self.mine.flows())


@pytest.fixture
def bgp(speakers: Speakers) -> Speakers:
    if speakers.peer.process.poll() is not None or speakers.peer.flows() or speakers.peer.flows(6):
        speakers.fresh()
    return speakers


def filters(command: Command) -> list[Any]:
    found: list[Any] = command.json("filter", "list")
    return found


def shown(command: Command) -> Any:
    """The state of the bridge."""
    (its,) = command.json("bridge", "show")
    return its


def dropped(lab: Lab, family: Family = 4, client: int = 0) -> bool:
    """Whether this client's UDP is dropped while another's, and its own TCP, work."""
    assert works(lab, family, "tcp", client=client)
    return not works(lab, family, "udp", client=client)


RULE = f"match source {CLIENTS4[0]}/32 protocol udp destination-port =={PORT} then discard"


def test_a_rule_is_in_force_while_it_is_announced(lab: Lab, attached: Command, bgp: Speakers) -> None:
    with Bridge(attached, "--gobgp", bgp.mine.place, "--hold", HOLD):
        assert not dropped(lab)
        bgp.peer.flow(RULE)
        assert eventually(lambda: dropped(lab)), attached.json("bridge", "show")
        assert works(lab, 4, "udp", client=1)
        (its,) = filters(attached)
        assert (its["source"], its["action"], its["match"]) == (
            "bgp",
            "drop",
            f"ip saddr {CLIENTS4[0]} udp dport {PORT}",
        )
        six = f"match source {client_address(6)}/128 protocol udp then discard"
        bgp.peer.flow(six, version=6)
        assert eventually(lambda: dropped(lab, 6))
        bgp.peer.flow(six, "del", version=6)
        assert eventually(lambda: not dropped(lab, 6)), "at once: the neighbor has withdrawn it"
        assert dropped(lab)
        bgp.peer.flow(RULE, "del")
        assert eventually(lambda: not dropped(lab), 5)
        assert filters(attached) == []


def test_a_session_that_ends(lab: Lab, attached: Command, bgp: Speakers) -> None:
    with Bridge(attached, "--gobgp", bgp.mine.place, "--hold", HOLD) as bridge:
        bgp.peer.flow(RULE)
        assert eventually(lambda: dropped(lab))
        bgp.peer.end()
        assert eventually(lambda: not bgp.mine.established)
        assert bridge.says("a session has ended: 1 route is held for 10 s")
        assert dropped(lab), "it is held"
        assert eventually(lambda: shown(attached)["error"] == "no BGP session is established", 8)
        assert eventually(lambda: not dropped(lab), 20), "but not for longer than --hold"
        assert filters(attached) == []
        bgp.start_peer()
        bgp.peer.flow(RULE)
        assert eventually(lambda: dropped(lab)), "and it is there again"


def test_the_bridge_or_its_daemon_is_killed(lab: Lab, attached: Command, bgp: Speakers) -> None:
    words = ("--gobgp", bgp.mine.place, "--hold", HOLD)
    with Bridge(attached, *words) as bridge:
        bgp.peer.flow(RULE)
        assert eventually(lambda: dropped(lab))
        assert "already is the bridge bgp" in attached.refused(1, "bridge", "bgp", *words)
        bridge.end(signal.SIGKILL)
        assert dropped(lab)
    bgp.peer.flow(RULE, "del")
    other = f"match source {CLIENTS4[1]}/32 protocol udp then discard"
    bgp.peer.flow(other)
    with Bridge(attached, *words) as bridge:
        assert eventually(lambda: dropped(lab, client=1)), "what came meanwhile"
        assert eventually(lambda: not dropped(lab, client=0), 30), "what was withdrawn meanwhile"
        assert bridge.end() == 0
        assert bridge.says("stopped; what is in force stays until")
    assert dropped(lab, client=1)
    assert eventually(lambda: not dropped(lab, client=1), 30), "its end is in the kernel"


def test_order_and_blackholes(lab: Lab, attached: Command, bgp: Speakers) -> None:
    attached.ok("filter", "add", "mine", "udp dport 9", "--count")
    with Bridge(attached, "--gobgp", bgp.mine.place, "--hold", HOLD, "--rtbh-source"):
        wide = f"match destination {SERVER4}/24 protocol udp then discard"
        bgp.peer.flow(wide)
        assert eventually(lambda: dropped(lab))
        bgp.peer.flow(f"match destination {SERVER4}/32 source {CLIENTS4[1]}/32 protocol udp then accept")
        assert eventually(lambda: not dropped(lab, client=1)), "RFC 8955, 5.1: the longer prefix is asked first"
        assert dropped(lab)
        assert [it["action"] for it in filters(attached)] == ["count", "pass", "drop"]
        bgp.peer.flow(wide, "del")
        assert eventually(lambda: not dropped(lab))
        assert works(lab, 6, "tcp")
        bgp.peer.ok(f"global rib -a ipv6 add {SERVER6}/128 nexthop 2001:db8::1 community 65535:666")
        bgp.peer.ok(f"global rib -a ipv6 add 2001:db8::7/128 nexthop 2001:db8::1 community {65_001}:1")
        assert eventually(lambda: not works(lab, 6, "tcp"))
        assert works(lab, 4, "tcp")
        names = [it["name"] for it in filters(attached)]
        assert f"bgp.rtbh.{SERVER6.replace(':', '-')}" in names
        assert not any("db8" in it for it in names), "a route without the community is none"
        bgp.peer.ok(f"global rib -a ipv6 del {SERVER6}/128")
        assert eventually(lambda: works(lab, 6, "tcp"))
        bgp.peer.ok(f"global rib -a ipv4 add {CLIENTS4[2]}/32 community 65535:666")
        assert eventually(lambda: not works(lab, 4, "tcp", client=2)), "--rtbh-source"
        assert works(lab, 4, "tcp")
        assert [it["target"] for it in attached.json("rules")] == [CLIENTS4[2]]
        bgp.peer.ok(f"global rib -a ipv4 del {CLIENTS4[2]}/32")
        assert eventually(lambda: works(lab, 4, "tcp", client=2))


def test_what_is_refused_and_shadow(lab: Lab, attached: Command, bgp: Speakers) -> None:
    with Bridge(attached, "--gobgp", bgp.mine.place, "--hold", HOLD, "--mode", "shadow") as bridge:
        bgp.peer.flow(RULE)
        assert eventually(lambda: [it["mode"] for it in filters(attached)] == ["shadow"])
        assert not dropped(lab), "it only counts"
        bgp.peer.flow("match destination 198.0.0.0/8 then discard")
        bgp.peer.flow("match source 192.0.2.0/24 then redirect 65000:1")
        assert bridge.says("shorter than /16")
        assert bridge.says("has no meaning here")
        assert eventually(lambda: (shown(attached)["filters"], shown(attached)["refused"]) == (1, 2))
        assert shown(attached)["mode"] == "shadow"
    with Bridge(attached, "--gobgp", bgp.mine.place, "--hold", HOLD) as bridge:
        bgp.peer.flow(f"match source {OUTSIDE4}/32 then discard")
        assert bridge.says("a BGP neighbor of this host")
        assert eventually(lambda: dropped(lab)), "the same rule, enforced now"
        assert works(lab, 4, "tcp")


def test_filters_go_upstream_for_own_destinations_alone(lab: Lab, attached: Command, bgp: Speakers) -> None:
    del lab
    bgp.peer.ok("global rib -a ipv4 del all")
    attached.ok("block", "192.0.2.66", "--reason", "by hand")
    words = ("--announce", "filters", "--own", f"{SERVER4}/32", "--announce-least", "1s")
    for name, match in (
        ("web", "tcp dport 81"),
        ("who", "ip saddr 192.0.2.9 udp dport 53"),
        ("dns", "ip daddr 192.0.2.1 udp dport 53"),
    ):
        attached.ok("filter", "add", name, match, "--drop")
    with Bridge(attached, "--gobgp", bgp.mine.place, "--hold", HOLD, *words) as bridge:
        rule = f"[destination: {SERVER4}/32][protocol: ==tcp][destination-port: ==81]"
        assert eventually(lambda: bgp.peer.flows() == [rule]), bgp.peer.flows()
        assert len(filters(attached)) == 3, "what goes out does not come back in"
        bridge.end(signal.SIGKILL)
    attached.ok("filter", "remove", "web")
    assert bgp.peer.flows() == [rule], "nobody is there to withdraw it"
    with Bridge(attached, "--gobgp", bgp.mine.place, "--hold", HOLD, *words) as bridge:
        assert eventually(lambda: bgp.peer.flows() == [], 40), "what the killed one announced"
        attached.ok("filter", "add", "web", "tcp dport 82", "--drop")
        assert eventually(lambda: len(bgp.peer.flows()) == 1, 40)
        assert bridge.end() == 0
    assert eventually(lambda: bgp.peer.flows() == []), "without the bridge nobody would look after it"
    assert server_address(4) == SERVER4


def test_wrong_words_and_a_daemon_that_is_not_there(command: Command) -> None:
    for words, said in (
        (["--hold", "5s"], "too short"),
        (["--gobgp", "localhost"], "HOST:PORT"),
        (["--exabgp", "--print-unit"], "ExaBGP starts the bridge"),
        (["--mode", "loud"], "no such mode"),
        (["--announce", "bans"], "--announce without --own"),
        (["--announce", "all", "--own", "192.0.2.0/24"], "write bans or filters"),
        (["--own", "192.0.2.0/24"], "--own without --announce"),
    ):
        assert said in command.refused(2, "bridge", "bgp", *words)
    unit = command.ok("bridge", "bgp", "--hold", "1m", "--print-unit")
    assert f"--instance {command.instance} bridge bgp --hold 1m\n" in unit
    with Bridge(command, "--gobgp", "127.0.0.1:1") as bridge:
        assert bridge.says("GoBGP at 127.0.0.1:1")
        assert bridge.says("see that gobgpd runs")
        assert eventually(lambda: shown(command)["error"] != "")
        status = command.json("status")
        assert [it["name"] for it in status["bridges"]] == ["bgp"]
        assert any("the bridge bgp is not connected" in it for it in status["degraded"])
        assert bridge.end() == 0
        assert bridge.says("stopped; nothing of it is in force")
