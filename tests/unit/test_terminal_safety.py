# SPDX-License-Identifier: GPL-2.0
"""What others have written reaches no terminal as commands, and another site's name no metrics; the unit's text."""

from __future__ import annotations

import errno
import logging
import re
from pathlib import Path

import pytest

import xdpguard
from xdpguard import units
from xdpguard.cli import kinds, render, unit
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.metrics.catalogue import FAMILIES
from xdpguard.metrics.samples import Gathering
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
    full = kinds.explained(OSError(errno.E2BIG, "Argument list too long"))
    assert (str(full), full.exit_code) == ("a map of the kernel has no room for more", 3)
    assert str(kinds.explained(OSError(errno.E2BIG, "Argument list too long", "ip"))) == "ip: Argument list too long"
    forbidden = kinds.explained(OSError(errno.EPERM, "Operation not permitted"))
    assert "not permitted" in str(forbidden) and "lockdown" in forbidden.remedy
    assert "chattr +i" in kinds.explained(OSError(errno.EPERM, "Operation not permitted", "/x")).remedy
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
    for word in ("x\nExecStartPre=/bin/evil", "x\x1b", "x\r", "x\u2028"):
        with pytest.raises(UsageError, match="cannot stand in a unit"):
            unit.text("web", None, [word], "")
    monkeypatch.setenv("XDPGUARD_STATE_DIR", "/srv/x\nUser=evil")
    with pytest.raises(UsageError, match="cannot stand in a unit"):
        unit.text("web", None, [], "")
    monkeypatch.delenv("XDPGUARD_STATE_DIR")
    plain = unit.text("web", None, [], "")
    assert "Environment=" not in plain
    for line in ("UMask=0077", "CacheDirectory=xdpguard", "Before=network-pre.target shutdown.target"):
        assert f"{line}\n" in plain
    assert "SystemCallFilter=@system-service bpf perf_event_open\n" in plain


def test_no_module_is_loaded_from_the_folder_one_happens_to_be_in() -> None:
    """A process that root starts with -m gets -P as well: else a folder xdpguard/ in /tmp would be loaded."""
    root = Path(xdpguard.__file__).parent
    started = re.compile(r'"-m", "xdpguard|executable\} -m|(?<!-P )-m xdpguard\.(?:cli|api)[^`]*$', re.MULTILINE)
    lines = [line for path in root.rglob("*.py") for line in path.read_text("utf-8").splitlines()]
    found = [line for line in lines if started.search(line) and "``python" not in line]
    assert len(found) >= 4
    assert [line for line in found if '"-P"' not in line and " -P " not in line] == []


def test_labels_of_metrics() -> None:
    found = Gathering()
    found.put("xdpguard_packets_total", 1, *[EVIL] * len(FAMILIES["xdpguard_packets_total"].labels))
    assert all(units.visible(it) == it for it in found[0].labels)
    assert "\\x1b" in found[0].labels[0]
