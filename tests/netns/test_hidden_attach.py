# SPDX-License-Identifier: GPL-2.0
"""Attach says when a device above takes something off that hides the IP header.

The test kernel can make no such device, so that the list of links is given one more.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command import Command
from topology import INTERFACE, Lab

from xdpguard.control.controller import Controller
from xdpguard.control.planning import Request
from xdpguard.dataplane.build.program import KernelDataplane
from xdpguard.dataplane.sys.bpffs import ensure_bpffs
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.net.links import Link, Links
from xdpguard.policy.model import Policy
from xdpguard.store.database import Store


class Stacked(Links):
    """The links there are, and one above the lab's interface."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def all(self, namespace: str = "") -> list[Link]:
        found = super().all(namespace)
        return [
            *found,
            *(
                below._replace(name="up0", ifindex=9999, kind=self._kind, lower=below.ifindex, lower_nsid=None)
                for below in found
                if below.name == INTERFACE
            ),
        ]


@pytest.mark.parametrize(("kind", "told"), [("macsec", True), ("dsa", True), ("vlan", False)])
def test_attach_names_what_hides_frames(lab: Lab, command: Command, kind: str, told: bool) -> None:
    pins = Pins(ensure_bpffs_folder(), command.instance)
    command.store.parent.mkdir(parents=True, exist_ok=True)
    with Store(command.store) as store:
        dataplane = KernelDataplane(pins, Path(command.environment["XDPGUARD_CACHE_DIR"]))
        outcome = Controller(store, dataplane, Stacked(kind)).attach(Request(INTERFACE, lab.server), Policy())
    found = [note for note in outcome.notes if "non_ip" in note and "up0" in note]
    assert bool(found) == told, outcome.notes
    assert command.json("status")["interfaces"], "positive control: it is attached"


def ensure_bpffs_folder() -> Path:
    folder = Path("/sys/fs/bpf")
    ensure_bpffs(folder)
    return folder
