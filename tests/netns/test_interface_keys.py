# SPDX-License-Identifier: GPL-2.0
"""What an interface is called in JSON does not depend on what else is attached; two of one name are both there."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.command import Command

IFACE = "low0"


@contextmanager
def namespace(name: str) -> Iterator[str]:
    """A namespace with a pair of interfaces of its own."""
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        link = ["link", "add", IFACE, "type", "veth", "peer", "name", "far0"]
        subprocess.run(["ip", "-n", name, *link], check=True)
        for it in (IFACE, "far0"):
            subprocess.run(["ip", "-n", name, "link", "set", it, "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


class Inside:
    """Runs commands within a namespace: interfaces without --netns are that one's."""

    def __init__(self, command: Command, netns: str) -> None:
        self._command, self._netns = command, netns

    def __call__(self, *arguments: str) -> str:
        line = ["nsenter", f"--net=/run/netns/{self._netns}", *self._command.line(*arguments)]
        done = subprocess.run(line, env=self._command.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done
        return done.stdout

    def keys(self, *arguments: str) -> dict[str, Any]:
        """What a command answers of each interface."""
        found: dict[str, Any] = json.loads(self(*arguments, "--json"))["interfaces"]
        return found


@pytest.fixture
def inside(command: Command) -> Iterator[tuple[Inside, str]]:
    """Commands within one namespace, and the name of another one."""
    with namespace(f"xgown{os.getpid()}") as own, namespace(f"xgother{os.getpid()}") as other:
        run = Inside(command, own)
        run("guard", "set", "mode=off")
        try:
            yield run, other
        finally:
            run("detach", "--all")


@pytest.mark.parametrize("own_first", [True, False], ids=["own first", "other first"])
def test_two_interfaces_of_one_name(inside: tuple[Inside, str], own_first: bool) -> None:
    run, other = inside
    places = {IFACE: [IFACE], f"{IFACE}@{other}": [IFACE, "--netns", other]}
    order = list(places) if own_first else list(reversed(places))
    for number, key in enumerate(order, start=1):
        run("attach", *places[key])
        there = set(order[:number])
        assert set(run.keys("stats")) == there
        shown = run.keys("guard", "show")
        assert {it: its["netns"] for it, its in shown.items()} == {it: it.partition("@")[2] for it in there}
    for key in places:
        assert f"{key}: " in run("stats")
        assert f"{key}: the guard is off" in run("guard", "show")
    run("detach", *places[order[0]])
    assert set(run.keys("stats")) == set(run.keys("guard", "show")) == {order[1]}
