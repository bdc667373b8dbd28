# SPDX-License-Identifier: GPL-2.0
"""The service's log: priorities for the journal, times elsewhere; and a tick that fails is told of, however often."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import cast

import pytest

from xdpguard.control.controller import Controller
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.errors import XdpguardError
from xdpguard.policy.model import Policy
from xdpguard.service.daemon import Daemon
from xdpguard.service.log import Failures

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "
CODE = """
import logging, sys
from xdpguard.service import log
log.begin("-v" in sys.argv)
its = logging.getLogger("xdpguard.service.daemon")
its.debug("why")
its.info("watching 100% of eth0")
its.warning("two\\nlines")
its.error("failed")
logging.getLogger("another").info("not ours")
"""


def written(*arguments: str, journal: Callable[[os.stat_result], str] = lambda found: "") -> list[str]:
    """What a process logs to a socket, as the journal's is; ``journal`` says what is in JOURNAL_STREAM."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": ":".join(sys.path)}
        environment["JOURNAL_STREAM"] = journal(os.fstat(theirs.fileno()))
        subprocess.run([sys.executable, "-c", CODE, *arguments], stderr=theirs.fileno(), env=environment, check=True)
        theirs.close()
        return ours.makefile().read().splitlines()


def test_the_journal_is_given_priorities_and_no_times() -> None:
    lines = written(journal=lambda found: f"{found.st_dev}:{found.st_ino}")
    assert lines == ["<6>watching 100% of eth0", "<4>two", "<4>lines", "<3>failed"]


def test_verbose_is_what_is_for_debugging_as_well() -> None:
    assert written("-v", journal=lambda found: f"{found.st_dev}:{found.st_ino}")[0] == "<7>why"
    assert re.fullmatch(TIME + "why", written("-v")[0])


@pytest.mark.parametrize(
    "journal", [lambda found: "", lambda found: f"{found.st_dev}:{found.st_ino + 1}"], ids=["none", "another stream"]
)
def test_elsewhere_each_line_has_its_time(journal: Callable[[os.stat_result], str]) -> None:
    """Also where the service's standard error was sent elsewhere than systemd has connected it to."""
    first, _, _, last = written(journal=journal)
    assert re.fullmatch(TIME + "watching 100% of eth0", first)
    assert re.fullmatch(TIME + "failed", last)


def test_a_reader_that_is_gone_is_no_reason_to_end() -> None:
    code = CODE.replace('its.debug("why")', "import os; os.read(0, 1)")
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stderr is not None
    process.stderr.close()
    process.communicate(b"x")
    assert process.returncode == 0


def test_the_same_error_is_counted(log: list[str]) -> None:
    failures = Failures()
    for _ in range(1001):
        failures.failed("no memory", OSError())
    assert log == ["no memory"]
    failures.failed("no room", OSError())
    failures.over()
    assert log[1:] == ["no memory: 1,000 more times", "no room"]
    failures.over()
    failures.failed("no room", OSError())
    assert log[3:] == ["no room"], "it was over"


class Ticking:
    """A service that looks at nothing; what its tick and its second look raise is the test's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.tick: Exception | None = None
        self.look: Exception | None = None
        self.daemon = Daemon(Pins(folder, "x"), self._session, lambda session: Policy(), folder / "x" / "store.db")
        monkeypatch.setattr(self.daemon, "_tick", lambda now: self._raise(self.tick))
        monkeypatch.setattr(self.daemon, "_chores", lambda session: self._raise(self.look))

    def _session(self) -> AbstractContextManager[Controller]:
        return nullcontext(cast(Controller, None))

    def _raise(self, error: Exception | None) -> None:
        if error:
            raise error

    def times(self, count: int) -> None:
        for _ in range(count):
            self.daemon._guarded_tick()


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Ticking]:
    made = Ticking(monkeypatch, tmp_path)
    yield made
    made.daemon._looks.close()


def test_a_failed_tick_is_told_of_although_the_second_look_succeeds(ticking: Ticking, log: list[str]) -> None:
    ticking.times(3)
    assert log == []
    ticking.tick = KeyError("eth0")
    ticking.times(1)
    assert log == ["a tick failed: KeyError: 'eth0'; checked everything again"]


def test_a_tick_that_fails_again_and_again_is_counted(ticking: Ticking, log: list[str]) -> None:
    ticking.tick = ticking.look = XdpguardError("no pinned map")
    ticking.times(5)
    again = "a tick failed: no pinned map; no pinned map; continuing"
    assert log == [again]
    ticking.look = None
    ticking.times(2)
    assert log[1:] == [f"{again}: 4 more times", "a tick failed: no pinned map; checked everything again"]
    ticking.tick = None
    ticking.times(2)
    assert log[3:] == ["a tick failed: no pinned map; checked everything again: 1 more time"]
