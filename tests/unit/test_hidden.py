# SPDX-License-Identifier: GPL-2.0
"""Devices whose frames cannot be read below them: found by how links are stacked, and reported at attach."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from xdpguard.net import hidden, hsr, links
from xdpguard.net.links import Link


def link(ifindex: int, name: str, kind: str = "", **more: Any) -> Link:
    return Link(name, more.pop("netns", ""), ifindex, 1500, False, True, kind, None, **more)


ETH0 = link(2, "eth0")
OTHERS = [link(1, "lo"), ETH0, link(3, "eth1"), link(9, "eth0.7", "vlan", lower=2), link(10, "mv0", "macvlan", lower=3)]


def told(*more: Link, about: Link = ETH0, nets: Path = Path("/nowhere")) -> list[str]:
    return hidden.notes(about, [*(it for it in OTHERS if it.ifindex != about.ifindex), about, *more], nets)


def test_ordinary_devices_are_ignored() -> None:
    assert told() == []
    assert told(link(20, "br0", "bridge"), about=link(2, "eth0", master=20)) == []


@pytest.mark.parametrize(
    ("kind", "relation", "about", "word"),
    [
        ("macsec", {"lower": 2}, ETH0, "MACsec"),
        ("hsr", {"members": (2, 3)}, ETH0, "HSR"),
        ("batadv", {}, link(2, "eth0", master=20), "batman-adv"),
    ],
)
def test_what_is_above(kind: str, relation: dict[str, Any], about: Link, word: str) -> None:
    upper = link(20, "up0", kind, **relation)
    (note,) = told(upper, about=about)
    assert word in note
    assert "non_ip" in note
    assert note.endswith("attach to up0 as well")
    assert told(upper, about=link(4, "eth2")) == [], "positive control: another interface"
    assert told(upper._replace(kind="dummy"), about=about) == []


def test_further_up() -> None:
    """MACsec on a VLAN of the interface, or on the bond that it is part of."""
    assert "macsec0" in told(link(20, "macsec0", "macsec", lower=9))[0]
    bond = [link(30, "bond0", "bond"), link(31, "macsec1", "macsec", lower=30)]
    assert "macsec1" in told(*bond, about=link(2, "eth0", master=30))[0]


def test_prp_hides_nothing_but_comes_twice() -> None:
    (note,) = told(link(20, "prp0", "prp", members=(3, 2)))
    assert "non_ip" not in note
    assert "a second link" in note
    assert "prp0" in note


def test_an_index_of_another_namespace_is_another_device() -> None:
    upper = link(20, "macsec0", "macsec", lower=2)
    assert told(upper)
    assert told(upper._replace(lower_nsid=0)) == []


def test_links_that_stand_on_each_other_end_nowhere() -> None:
    circle = [link(20, "a", "vlan", lower=21), link(21, "b", "vlan", lower=20, master=20)]
    assert told(*circle, about=link(2, "eth0", master=21)) == []


def test_a_conduit_by_its_ports_or_by_its_tag(tmp_path: Path) -> None:
    ports = [link(20, "lan1", "dsa", lower=2), link(21, "lan2", "dsa", lower=2)]
    (note,) = told(*ports)
    assert "DSA" in note
    assert note.endswith("ports as well: lan1, lan2")
    (tmp_path / "eth0" / "dsa").mkdir(parents=True)
    (tmp_path / "eth0" / "dsa" / "tagging").write_text("edsa\n")
    (note,) = told(nets=tmp_path)
    assert "tag edsa" in note
    assert "tag edsa" in told(*ports, nets=tmp_path)[0]
    away = link(2, "eth0", netns="web")
    assert told(about=away, nets=tmp_path) == [], "the folder shows another namespace's eth0"


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def told_by_the_kernel(kind: bytes, data: bytes, *more: bytes) -> Link:
    """A link from the message that rtnetlink would send."""
    info = attribute(18, attribute(1, kind + b"\0") + attribute(2, data))
    body = struct.pack("=BxHiII", 0, 1, 9, 0x1003, 0) + attribute(3, b"up0\0") + info + b"".join(more)
    return links.parse(body, "")


@pytest.mark.parametrize(("protocol", "kind"), [(b"", "hsr"), (b"\0", "hsr"), (b"\1", "prp")])
def test_an_hsr_device_names_its_links(protocol: bytes, kind: str) -> None:
    data = attribute(1, struct.pack("=I", 7)) + attribute(2, struct.pack("=I", 8))
    found = told_by_the_kernel(b"hsr", data + (attribute(7, protocol) if protocol else b""))
    assert (found.kind, found.members) == (kind, (7, 8))


def test_a_macsec_device_names_the_one_below() -> None:
    below = attribute(5, struct.pack("=I", 4))
    found = told_by_the_kernel(b"macsec", attribute(1, bytes(8)), below)
    assert (found.kind, found.lower, found.lower_nsid, found.members) == ("macsec", 4, None, ())
    assert told_by_the_kernel(b"veth", b"", below).lower == 0, "its other end"
    assert told_by_the_kernel(b"macsec", b"", below, attribute(37, struct.pack("=i", 3))).lower_nsid == 3


def test_data_that_are_something_else() -> None:
    assert hsr.members_of("hsr", b"") == ("hsr", ())
    assert hsr.members_of("hsr", b"\1\0") == ("hsr", ())
    assert hsr.members_of("hsr", b"\0\0\1\0") == ("hsr", ())
