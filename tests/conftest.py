# SPDX-License-Identifier: GPL-2.0
"""Fixtures: a bench for single packets, a lab for real traffic, the command line with an instance of its own."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from support.bench import Bench
from support.command import Command
from support.shared import Shared
from support.traffic import Echo
from topology import Lab

# A busy machine is no fault of what is tested.
settings.register_profile("xdpguard", deadline=None)
settings.load_profile("xdpguard")
logging.getLogger("scapy").setLevel(logging.ERROR)
# A shell's background job ignores the one, nohup the other; what a test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def _bench() -> Iterator[Bench]:
    bench = Bench("plain")
    yield bench
    bench.close()


@pytest.fixture
def bench(_bench: Bench) -> Bench:
    """The program, without rules and with counters at zero."""
    _bench.reset()
    return _bench


@pytest.fixture(scope="session")
def _observing() -> Iterator[Bench]:
    bench = Bench("observe", observe=True)
    yield bench
    bench.close()


@pytest.fixture
def observing(_observing: Bench) -> Bench:
    """The program built with --observe."""
    _observing.reset()
    return _observing


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The lab, removed at the end, or by the next run when this one is killed."""
    with Lab(f"xgtest{os.getpid()}", owner=os.getpid()) as made:
        yield made


@pytest.fixture(scope="module")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    made = Shared(tmp_path_factory.mktemp("shared"))
    yield made
    made.away()


@pytest.fixture(scope="module")
def echo(lab: Lab) -> Iterator[Echo]:
    """The server of the lab's traffic, one for all tests of a module."""
    with Echo(lab) as made:
        yield made


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder of root's that other users can enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory(prefix="xgtest", dir="/tmp") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
def attached(_shared: Shared, lab: Lab) -> Command:
    """An instance attached to the lab's interface, one for all tests of a module, as it was after attaching.

    For tests of what an attached instance does. Those of attaching, detaching and the store take `command`.
    """
    return _shared.attached(lab)


@pytest.fixture
def command(tmp_path: Path, _shared: Shared) -> Iterator[Command]:
    """The command line with its own instance and state directory; what it attached is detached at the end."""
    _shared.away()
    made = Command(tmp_path / "state")
    yield made
    made.clean()


@pytest.fixture
def log() -> Iterator[list[str]]:
    """What xdpguard's modules log, line by line, but for what is for debugging."""
    lines: list[str] = []
    logger, handler = logging.getLogger("xdpguard"), logging.Handler(logging.INFO)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield lines
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long_wait: waits for minutes, and costs no CPU meanwhile")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits for minutes begins first, beside the others."""
    items.sort(key=lambda item: item.get_closest_marker("long_wait") is None)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped test is a failed one."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
