# SPDX-License-Identifier: GPL-2.0
"""VLAN tags that the driver takes off: where an answer would lack its tag none is sent, and nothing is dropped.

The VLAN is made by traffic control (support/tags.py), which not every kernel needs VLAN devices for; so the guard is
told here what it finds out from VLAN devices elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command import Command
from support.field import Field, reasons, served
from support.tags import INTERFACE, PLAIN4, VLANS4, Tagged

from xdpguard.control.sysctls import Offloads
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import guard
from xdpguard.net import offload
from xdpguard.net.devices import Device
from xdpguard.net.links import Links
from xdpguard.store.database import Store

PLAIN, VLAN = f"{PLAIN4}.1", f"{VLANS4}.1"


@pytest.fixture
def tagged() -> Iterator[Tagged]:
    with Tagged(f"xgvl{os.getpid()}") as made:
        yield made


def attach(tagged: Tagged, command: Command, mode: str) -> None:
    command.ok("attach", INTERFACE, "--netns", tagged.server, "--mode", mode)
    command.ok("guard", "set", "mode=always")


def tell(command: Command, tagged: Tagged, mute: bool) -> None:
    """Tells the guard what it would find out from a VLAN device."""
    link = Links().get(INTERFACE, tagged.server)
    pins = Pins(Path("/sys/fs/bpf"), command.instance)
    guard.settle(pins, INTERFACE, tagged.server, "always", guard.Surroundings(link.mac, mute=mute))


def works(tagged: Tagged) -> tuple[bool, bool]:
    """Whether clients get through without a tag, and on the VLAN."""
    return tagged.connects(PLAIN), tagged.connects(VLAN)


def test_what_a_program_sees_of_a_tag(tagged: Tagged, command: Command) -> None:
    """On a veth the sender decides: a tag beside the frame is lost in native mode, whatever is switched off here."""
    attach(tagged, command, "native")
    with served(tagged.server):
        for peer, own, expected in ((True, True, False), (True, False, False), (False, True, True)):
            tagged.offload(tagged.client, "txvlan", peer)
            tagged.offload(tagged.server, "rxvlan", own)
            assert works(tagged) == (True, expected), (peer, own)
        assert offload.untagged("native", [Device(1, INTERFACE, "veth", b"")], tagged.server) == [INTERFACE]


def test_generic_mode_keeps_the_tag(tagged: Tagged, command: Command) -> None:
    attach(tagged, command, "generic")
    with served(tagged.server):
        for peer in (True, False):
            tagged.offload(tagged.client, "txvlan", peer)
            before = reasons(command, INTERFACE)["cookie_sent"]
            assert works(tagged) == (True, True)
            assert reasons(command, INTERFACE)["cookie_sent"] >= before + 2
        counted = reasons(command, INTERFACE)
        assert counted["ack_unknown"] == counted["cookie_bad"] == 0


def test_where_tags_are_lost_the_kernel_answers(tagged: Tagged, command: Command) -> None:
    """Mute, both get through, and nothing of either is dropped."""
    attach(tagged, command, "native")
    with served(tagged.server):
        assert works(tagged) == (True, False), "positive control: an answer without its tag"
        before = reasons(command, INTERFACE)
        tell(command, tagged, mute=True)
        assert works(tagged) == (True, True)
        after = reasons(command, INTERFACE)
        for name in ("cookie_sent", "cookie_bad", "ack_unknown", "syn_rate"):
            assert after[name] == before[name], name


def test_the_offload_is_changed_temporarily(tagged: Tagged, command: Command) -> None:
    """Switched off while it is wanted, remembered before anything is changed, put back at detach."""
    attach(tagged, command, "native")
    assert offload.strips_tags(INTERFACE, tagged.server), "positive control"
    with Store(command.store) as store:
        offloads = Offloads(store)
        changed = offloads.settle(INTERFACE, tagged.server, [INTERFACE])
        assert [it.split(",")[0] for it in changed] == [f"rx-vlan-offload of {INTERFACE}: on -> off"]
        assert not offload.strips_tags(INTERFACE, tagged.server)
        assert offloads.settle(INTERFACE, tagged.server, [INTERFACE]) == []
        tagged.offload(tagged.server, "rxvlan", True)
        assert offloads.settle(INTERFACE, tagged.server, [INTERFACE]) == changed, "somebody has switched it on"
    # The process has ended; whoever comes next finds it.
    said = command.ok("detach", INTERFACE, "--netns", tagged.server)
    assert f"put back rx-vlan-offload of {INTERFACE}: off -> on" in said
    assert offload.strips_tags(INTERFACE, tagged.server)
    with Store(command.store) as store:
        assert Offloads(store).held() == {}


def test_the_offload_is_restored_with_its_reason(tagged: Tagged, command: Command) -> None:
    """Without VLAN devices, or with the guard off, the driver may do as it likes again."""
    attach(tagged, command, "native")
    with Store(command.store) as store:
        Offloads(store).settle(INTERFACE, tagged.server, [INTERFACE])
    assert not offload.strips_tags(INTERFACE, tagged.server), "positive control"
    said = command("guard", "set", "mode=auto").err
    assert f"rx-vlan-offload of {INTERFACE}: off -> on" in said
    assert offload.strips_tags(INTERFACE, tagged.server)


def test_a_driver_without_the_offload_is_left_alone(tmp_path: Path) -> None:
    with Field(f"xgvf{os.getpid()}") as field, Store(tmp_path / "store.db") as store:
        assert Offloads(store).settle("lo", field.host, ["lo"]) == []
        assert Offloads(store).held() == {}
