# SPDX-License-Identifier: GPL-2.0
"""The fleet on a real nats-server: hosts with a data plane each, real packets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command import Command
from support.nats import Nats
from support.service import Run, Service
from support.traffic import Echo, client_address, eventually, works
from topology import INTERFACE, Lab

SOURCE = client_address(4, 3)


@pytest.fixture(scope="module")
def labs() -> Iterator[list[Lab]]:
    mine = os.getpid()
    with Lab(f"xgfa{mine}", owner=mine) as one, Lab(f"xgfb{mine}", owner=mine) as other, Echo(one), Echo(other):
        yield [one, other]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Nats]:
    with Nats(tmp_path) as made:
        yield made


class Host:
    """A host of the fleet."""

    def __init__(self, lab: Lab, state: Path, name: str, engine: Nats) -> None:
        self.lab = lab
        self.command = Command(state)
        self.command.ok("attach", INTERFACE, "--netns", lab.server)
        self.command.ok("fleet", "join", engine.url, "--name", name)
        self.run = self.start()

    def start(self) -> Run:
        self.run = Service(self.command)
        assert self.run.says("fleet: connected"), self.run.lines
        return self.run

    def drops(self) -> bool:
        return not works(self.lab, 4, "tcp", 3)

    def rules(self) -> dict[str, str]:
        return {it["target"]: it["source"] for it in self.command.json("rules")}


@pytest.fixture
def hosts(labs: list[Lab], engine: Nats, tmp_path: Path) -> Iterator[list[Host]]:
    made = []
    try:
        for lab, name in zip(labs, ("web1", "web2"), strict=True):
            made.append(Host(lab, tmp_path / name, name, engine))
        yield made
    finally:
        for host in made:
            host.run.end()
            host.command.clean()


def test_one_block_is_in_force_everywhere(hosts: list[Host]) -> None:
    one, other = hosts
    assert not one.drops()
    assert not other.drops()
    said = one.command.ok("block", "--fleet", SOURCE, "--for", "10m", "--reason", "attack")
    assert "on all hosts of the fleet" in said
    assert one.drops()
    assert eventually(other.drops), other.run.lines
    assert other.rules() == {SOURCE: "fleet"}
    assert not works(other.lab, 4, "tcp", 3)
    assert works(other.lab, 4, "tcp", 4), "another source passes"
    one.command.ok("unblock", "--fleet", SOURCE)
    assert eventually(lambda: not other.drops()), other.run.lines
    assert not one.drops()
    assert one.rules() == other.rules() == {}
