# SPDX-License-Identifier: GPL-2.0
"""Whether answers leave an interface: interpreting the kernel's data, the mode that attach chooses, the state."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from xdpguard.control import answering
from xdpguard.control.interfaces import Interface
from xdpguard.dataplane.tables import guard
from xdpguard.net import answers, netlink
from xdpguard.net.answers import Egress, egress
from xdpguard.net.links import Link, Mode, WantedMode, Xdp
from xdpguard.policy.model import Guard

IDLE = guard.State(*[0] * len(guard.State._fields))
BASIC, DISCARDED = 1, Egress(False, "its peer is bare", "use generic")


def link(kind: str = "", mode: Mode | None = "native") -> Link:
    return Link("eth0", "", 7, 1500, False, True, kind, Xdp(1, mode) if mode else None)


def message(ifindex: int, *attributes: tuple[int, bytes]) -> bytes:
    """An answer to RTM_GETLINK."""
    return struct.pack("=BBHiII", 0, 0, 1, ifindex, 0, 0) + b"".join(netlink.attribute(*it) for it in attributes)


def number(value: int) -> bytes:
    return struct.pack("=I", value)


class Kernel:
    """Answers netlink requests: links by number, and their XDP features; None: it knows no such family."""

    def __init__(
        self, links: Sequence[bytes] = (), features: int | None = None, driver: str = "", alone: bool = False
    ) -> None:
        """``alone``: nothing of another network namespace may be seen."""
        self._links = links
        self._alone = alone
        self._features = features
        self.driver = driver

    def ask(self, protocol: int, kind: int, body: bytes, dump: bool = False) -> list[bytes]:
        if protocol == netlink.ROUTE:
            if self._alone and len(body) > 16:  # with an id of a namespace
                raise PermissionError(13, "Permission denied")
            wanted = struct.unpack_from("=i", body, 4)[0]
            return [it for it in self._links if dump or struct.unpack_from("=i", it, 4)[0] == wanted]
        if self._features is None:
            raise FileNotFoundError
        if kind == 16:  # GENL_ID_CTRL
            return [bytes(4) + netlink.attribute(1, struct.pack("=H", 40))]
        return [bytes(4) + netlink.attribute(3, struct.pack("=Q", self._features))]


def put(monkeypatch: pytest.MonkeyPatch, kernel: Kernel, release: str = "6.12.1-amd64") -> None:
    monkeypatch.setattr("xdpguard.net.netlink.ask", kernel.ask)
    monkeypatch.setattr("xdpguard.net.answers._driver", lambda ifindex: kernel.driver)
    monkeypatch.setattr("platform.release", lambda: release)


@pytest.mark.parametrize(
    ("features", "driver", "release", "leaves"),
    [
        pytest.param(BASIC | 2, "virtio_net", "6.12.1", True, id="the kernel says that it can"),
        pytest.param(BASIC, "unheard_of", "6.3.0", True, id="of any driver"),
        pytest.param(0, "unheard_of", "6.12.1", None, id="the kernel says nothing of it"),
        pytest.param(None, "virtio_net", "6.1.0-44-amd64", True, id="an older kernel, a driver that is known"),
        pytest.param(None, "unheard_of", "5.15.0-1-generic", None, id="an older kernel, one that is not"),
        pytest.param(BASIC, "fec", "6.4.0", False, id="a driver that promises more than it does"),
        pytest.param(BASIC, "fec", "6.6.1", True, id="the same, later"),
    ],
)
def test_the_word_of_the_kernel_and_its_sources(
    monkeypatch: pytest.MonkeyPatch, features: int | None, driver: str, release: str, leaves: bool | None
) -> None:
    put(monkeypatch, Kernel(features=features, driver=driver), release)
    out = egress(link())
    assert out.leaves is leaves
    assert bool(out.why) == (leaves is not True)
    assert egress(link(mode="generic")).leaves is True
    assert egress(link(mode="generic"), "native").leaves is leaves


def test_a_bond_sends_through_all_its_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = (18, netlink.attribute(1, b"veth\0"))
    native = (43, netlink.attribute(5, number(3)))
    first = message(8, (3, b"port0\0"), (10, number(7)), (5, number(9)), kind)
    second = message(11, (3, b"port1\0"), (10, number(7)), (5, number(12)), kind)
    other = message(14, (3, b"other\0"), (10, number(6)), (5, number(9)), kind)
    put(monkeypatch, Kernel([first, second, other, message(9, native), message(12, native)]))
    assert egress(link("bond")).leaves is True
    put(monkeypatch, Kernel([first, second, other, message(9, native), message(12, (3, b"bare0\0"))]))
    out = egress(link("bond"))
    assert out.leaves is False
    assert out.why.startswith("its port port1: its veth peer bare0 carries no XDP program")


def test_a_peer_that_may_not_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """From inside a container with users of its own: answers would most likely be lost."""
    put(monkeypatch, Kernel([message(7, (5, number(9)), (37, number(0)))], alone=True))
    out = egress(link("veth"))
    assert out.leaves is False
    assert "cannot be determined from here (Permission denied)" in out.why


@pytest.mark.parametrize(
    ("mode", "wanted", "out", "policy", "chosen", "words"),
    [
        (None, "auto", Egress(True), "auto", "native", ""),
        (None, "auto", DISCARDED, "auto", "generic", "eth0 is attached in generic mode"),
        (None, "auto", DISCARDED, "observe", "generic", "eth0 is attached in generic mode"),
        (None, "auto", DISCARDED, "off", "native", "the SYN guard is off; on eth0 it could not answer either"),
        (None, "auto", Egress(None, "unknown"), "auto", "native", "eth0: unknown; under a flood the SYN guard answers"),
        (None, "auto", Egress(None, "unknown"), "off", "native", ""),
        (None, "native", DISCARDED, "always", "native", "the SYN guard on eth0 does not answer SYNs: its peer is bare"),
        (None, "native", DISCARDED, "observe", "native", "the SYN guard only observes"),
        (None, "generic", DISCARDED, "auto", "generic", ""),
        ("native", "auto", DISCARDED, "auto", "native", "the SYN guard on eth0 does not answer SYNs: its peer is bare"),
        ("generic", "auto", DISCARDED, "auto", "generic", ""),
    ],
)
def test_the_mode_that_attach_takes(
    monkeypatch: pytest.MonkeyPatch,
    mode: Mode | None,
    wanted: WantedMode,
    out: Egress,
    policy: str,
    chosen: str,
    words: str,
) -> None:
    def told(of: Link, in_mode: str = "") -> Egress:
        return Egress(True) if (in_mode or (of.xdp.mode if of.xdp else "native")) == "generic" else out

    monkeypatch.setattr(answering, "egress", told)
    monkeypatch.setattr("xdpguard.control.surroundings.egress", told)
    monkeypatch.setattr("xdpguard.control.surroundings.untagged", lambda of, seen: [])
    choice = answering.choose(link(mode=mode), wanted, Guard(mode=policy))  # type: ignore[arg-type]
    assert choice.mode == chosen
    notes = answering.notes(link(mode=choice.mode), Interface("eth0", "", choice.mode, False, 1, "attached"), choice)
    assert [words in note for note in notes] == [True] * bool(words)


@pytest.mark.parametrize(
    ("out", "mute", "muted", "why"),
    [
        (Egress(True), guard.MUTE_NOT, None, ""),
        (Egress(None, "unknown"), guard.MUTE_NOT, None, ""),
        (DISCARDED, guard.MUTE_TOLD, True, "its peer is bare"),
        (DISCARDED, guard.MUTE_FOUND, True, "its peer is bare"),
        (DISCARDED, guard.MUTE_NOT, False, "its peer is bare"),
        (Egress(True), guard.MUTE_FOUND, None, ""),
        (Egress(True), guard.MUTE_TOLD, True, "answers would arrive now"),
    ],
)
def test_what_is_reported_about_a_guard(out: Egress, mute: int, muted: bool | None, why: str) -> None:
    found = answering.silence(link(), IDLE._replace(mute=mute), out)
    assert (found.muted if found else None) is muted
    if found:
        assert found.by == {0: "", 1: "controller", 2: "data plane"}[mute]
        assert why in found.why
        assert found.remedy


@pytest.mark.parametrize(
    ("before", "told", "after"),
    [
        (guard.MUTE_NOT, False, guard.MUTE_NOT),
        (guard.MUTE_NOT, True, guard.MUTE_TOLD),
        (guard.MUTE_TOLD, False, guard.MUTE_NOT),
        (guard.MUTE_FOUND, False, guard.MUTE_NOT),
        (guard.MUTE_FOUND, True, guard.MUTE_FOUND),
    ],
)
def test_what_the_data_plane_has_found_stays_while_it_is_so(before: int, told: bool, after: int) -> None:
    around = guard.Surroundings(b"", mute=told)
    assert guard.settled(IDLE._replace(mute=before), "auto", around).mute == after


def test_a_driver_is_asked_for_its_name() -> None:
    """The real kernel: the loopback device has none."""
    assert answers._driver(1) == ""
