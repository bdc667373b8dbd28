# SPDX-License-Identifier: GPL-2.0
"""What others have written reaches no terminal as commands, and another site's name no metrics; the unit's text."""

from __future__ import annotations

import errno
import logging

import pytest

from xdpguard.cli import kinds, render, unit
from xdpguard.errors import XdpguardError
from xdpguard.metrics.server import is_known
from xdpguard.service.log import _Prioritized, _Visible

EVIL = "a\x1b]0;title\x07\x9b31m\u202eb"


def test_escapes_in_errors_and_log_lines(capsys: pytest.CaptureFixture[str]) -> None:
    render.failure(XdpguardError(f"no list {EVIL}", f"see {EVIL}", f"line\n{EVIL}"), verbose=True)
    render.note(EVIL)
    err = capsys.readouterr().err
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(err)
    assert "a\\x1b]0;title\\x07\\x9b31m\\u202eb" in err
    assert len(err.splitlines()) == 4
    record = logging.LogRecord("x", logging.INFO, "", 0, EVIL + " é", (), None)
    for formatter in (_Visible("%(message)s"), _Prioritized()):
        text = formatter.format(record)
        assert "\x1b" not in text
        assert text.endswith(" é")


@pytest.mark.parametrize("host", ["", "localhost", "LOCALHOST:9782", "127.0.0.1:9782", "[::1]:9782", "mon.example"])
def test_names_of_this_host(host: str) -> None:
    assert is_known(host, {"mon.example"})


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9782", "127.0.0.1.evil.example", "localhost.evil.example"]
)
def test_names_of_others(host: str) -> None:
    assert not is_known(host, {"mon.example"})


def test_kinds_of_errors() -> None:
    full = kinds.explained(OSError(errno.ENOSPC, "No space left on device", "/x"))
    assert (str(full), full.exit_code) == ("/x: no space is left", 3)
    assert kinds.explained(MemoryError()).exit_code == 3
    assert "Traceback" in kinds.explained(_raised()).details


def _raised() -> Exception:
    try:
        raise ValueError("x")
    except ValueError as error:
        return error


def test_the_unit_keeps_the_folders_and_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDPGUARD_STATE_DIR", "/srv/a b/100%")
    text = unit.text("web", None, ["eth0", "eth1@x"], "lab")
    assert 'Environment="XDPGUARD_STATE_DIR=/srv/a b/100%%"\n' in text
    assert "ReadWritePaths=-/srv/a" in text
    assert " --instance web run --attach eth0 --attach eth1@x --netns lab\n" in text
    monkeypatch.delenv("XDPGUARD_STATE_DIR")
    plain = unit.text("web", None, [], "")
    assert "Environment=" not in plain
    for line in ("UMask=0077", "CacheDirectory=xdpguard", "Before=network-pre.target shutdown.target"):
        assert f"{line}\n" in plain
    assert "SystemCallFilter=@system-service bpf perf_event_open\n" in plain
