# SPDX-License-Identifier: GPL-2.0
"""A host of a fleet: a data plane in a lab's namespace, joined, followed by the service."""

from __future__ import annotations

from pathlib import Path

from topology import INTERFACE, Lab

from support.command import Command
from support.nats import Nats
from support.service import Run, Service
from support.traffic import works


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
