# SPDX-License-Identifier: GPL-2.0
"""Whatever makes the program look is overwritten: the audit sees it, and the service and an attach repair it."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator

import pytest
from support.command import Command
from support.service import Service
from topology import INTERFACE, Lab

from xdpguard.dataplane.sys import abi, indexes, kernel
from xdpguard.dataplane.tables import settings

RULE4, NET4, RULE6, NET6, LISTED4, LISTED6 = (
    "198.51.100.7", "203.0.113.0/24", "2001:db8:7::7", "2001:db8:8::/48", "192.0.2.77", "2001:db8:9::9"
)  # fmt: skip
PACKETS = {
    "rule4": f"udp {RULE4}:9 > 198.18.0.1:9",
    "net4": "udp 203.0.113.9:9 > 198.18.0.1:9",
    "rule6": f"udp [{RULE6}]:9 > [2001:db8:1::1]:9",
    "net6": "udp [2001:db8:8::9]:9 > [2001:db8:1::1]:9",
    "list4": f"udp {LISTED4}:9 > 198.18.0.1:9",
    "list6": f"udp [{LISTED6}]:9 > [2001:db8:1::1]:9",
    "port": "udp 198.18.0.99:9 > 198.18.0.1:99",
}
EVERYTHING = set(PACKETS)


@pytest.fixture(scope="module")
def attached(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """An instance with entries of each kind, the same for all tests."""
    made = Command(tmp_path_factory.mktemp("audit") / "state")
    made.ok("attach", INTERFACE, "--netns", lab.server)
    fill(made)
    yield made
    made.clean()


def fill(command: Command) -> None:
    command.ok("block", RULE4, NET4, RULE6, NET6)
    command.ok("block", "--port", "99/udp")
    command.ok("lists", "load", "held", "-", stdin=f"{LISTED4}\n{LISTED6}\n10.0.0.0/24\n2001:db8:a::/48\n")


def dropped(command: Command) -> set[str]:
    """Which of the packets are dropped."""
    return {name for name, line in PACKETS.items() if command.json("explain", line)["verdict"] == "DROP"}


def opened(command: Command, name: str) -> int:
    return kernel.open_pin(str(next(command.pins.glob(f"v*/{name}"))))


def overwritten(name: str, change: Callable[[bytes], bytes]) -> Callable[[Command], None]:
    """What overwrites a pre-filter."""

    def overwrite(command: Command) -> None:
        descriptor = opened(command, name)
        info = kernel.map_info(descriptor)
        with mmap.mmap(descriptor, info.max_entries * info.value_size) as words:
            words[:] = change(words[:])
        os.close(descriptor)

    return overwrite


def set_to(*fields: int) -> Callable[[Command], None]:
    """What clears fields of the settings; without any named, all of them."""

    def overwrite(command: Command) -> None:
        descriptor = opened(command, "settings")
        held = list(abi.SETTINGS.unpack(kernel.lookup(descriptor, bytes(4), abi.SETTINGS.size) or b""))
        held = [0 if not fields or place in fields else value for place, value in enumerate(held)]
        kernel.update(descriptor, bytes(4), abi.SETTINGS.pack(*held))
        os.close(descriptor)

    return overwrite


def zeroed(data: bytes) -> bytes:
    return bytes(len(data))


def moved(data: bytes) -> bytes:
    """The same words in other places."""
    return data[8:] + data[:8]


def filters_overwritten(command: Command) -> None:
    """What no generation tells: the tables of the set in force, without its head."""
    holder = opened(command, "filter_set")
    descriptor = indexes.in_force(holder)
    assert descriptor is not None
    with mmap.mmap(descriptor, abi.FILTER_SET_SIZE) as words:
        words[abi.FILTER_HEAD.size :] = bytes(abi.FILTER_SET_SIZE - abi.FILTER_HEAD.size)
    os.close(descriptor)
    os.close(holder)


# What is done, and what passes then.
DAMAGE: dict[str, tuple[Callable[[Command], None], set[str]]] = {
    "deny4_nets": (overwritten("deny4_nets", zeroed), {"rule4", "net4"}),
    "deny6_nets": (overwritten("deny6_nets", zeroed), {"rule6", "net6"}),
    "list_nets4": (overwritten("list_nets4", zeroed), {"list4"}),
    "list_nets4, moved": (overwritten("list_nets4", moved), {"list4"}),
    "list_nets6": (overwritten("list_nets6", zeroed), {"list6"}),
    "settings": (set_to(), EVERYTHING),
    "the gate of all": (set_to(settings.DENY), EVERYTHING - {"port"}),
    "the gate of IPv4 rules": (set_to(settings.DENY4), {"rule4", "net4"}),
    "the gate of IPv6 prefixes": (set_to(settings.DENY6_PREFIX), {"net6"}),
    "ports": (set_to(*range(abi.SETTINGS_PORTS, abi.SETTINGS_PORTS + 2 * abi.PORT_WORDS)), {"port"}),
}
RULES, LISTS = {"rule4", "net4", "rule6", "net6", "port"}, {"list4", "list6"}


@pytest.mark.parametrize(("damage", "passes"), DAMAGE.values(), ids=DAMAGE)
def test_what_was_overwritten_is_seen_and_an_attach_repairs_it(
    attached: Command, lab: Lab, damage: Callable[[Command], None], passes: set[str]
) -> None:
    assert dropped(attached) == EVERYTHING, "positive control"
    damage(attached)
    assert dropped(attached) == EVERYTHING - passes
    status = attached.json("status")
    assert status["audit"]["rules"] == {"stored": 5, "held": 5 - len(passes & RULES)}
    lost = 2 * len(passes & LISTS)
    assert status["audit"]["lists"]["held"] == {"stored": 4, "held": 4 - lost}
    assert status["audit"]["ratio"] < 1
    assert status["degraded"] == ["the kernel lacks some of the stored entries"]
    if passes == EVERYTHING:
        doctor = attached("doctor")
        assert doctor.code == 1
        assert "FAIL  entries: the kernel holds only 0 of 5 rules, 0 of 4 entries of list held" in doctor.out
    attached.ok("attach", INTERFACE, "--netns", lab.server)
    assert dropped(attached) == EVERYTHING
    assert attached.json("status")["audit"]["ratio"] == 1


def test_the_service_repairs_it(attached: Command) -> None:
    for name in ("deny4_nets", "deny6_nets", "list_nets4"):
        DAMAGE[name][0](attached)
    with Service(attached) as run:
        assert run.says("the kernel held 1 of 5 entries (rules): restored"), run.lines
        assert run.says("entries (list held): restored"), run.lines
    assert dropped(attached) == EVERYTHING
    assert attached.json("status")["audit"]["ratio"] == 1
    DAMAGE["settings"][0](attached)
    with Service(attached) as run:
        assert run.says("the kernel held 0 of 5 entries (rules): restored"), run.lines
    assert dropped(attached) == EVERYTHING


def test_filters_that_were_overwritten(attached: Command, lab: Lab) -> None:
    attached.ok("filter", "add", "some", "udp sport 54", "--drop")

    def drops() -> bool:
        return bool(attached.json("explain", "udp 198.18.0.99:54 > 198.18.0.1:9")["verdict"] == "DROP")

    try:
        assert drops(), "positive control"
        assert attached.json("status")["audit"]["ratio"] == 1
        filters_overwritten(attached)
        assert not drops()
        assert attached.json("status")["audit"]["ratio"] < 1
        with Service(attached) as run:
            assert run.says("the kernel held 0 of 1 entry (filters): restored"), run.lines
        assert drops()
        filters_overwritten(attached)
        attached.ok("attach", INTERFACE, "--netns", lab.server)
        assert drops()
        assert attached.json("status")["audit"]["ratio"] == 1
    finally:
        attached.ok("filter", "remove", "some")


def test_settings_that_were_overwritten_are_seen_without_any_entry(attached: Command, lab: Lab) -> None:
    attached.ok("unblock", RULE4, NET4, RULE6, NET6)
    attached.ok("unblock", "--port", "99/udp")
    attached.ok("lists", "remove", "held")
    assert attached.json("status")["audit"]["settings"] is True, "positive control"
    try:
        set_to()(attached)
        status = attached.json("status")
        assert (status["audit"]["settings"], status["audit"]["ratio"]) == (False, 1)
        assert status["degraded"] == ["the settings of the data plane were overwritten"]
        assert "the data plane's settings were overwritten" in attached("doctor").out
        with Service(attached) as run:
            assert run.says("the settings of the data plane were overwritten: restored"), run.lines
        assert attached.json("status")["degraded"] == []
        set_to()(attached)
        attached.ok("attach", INTERFACE, "--netns", lab.server)
        assert attached.json("status")["degraded"] == []
    finally:
        fill(attached)
