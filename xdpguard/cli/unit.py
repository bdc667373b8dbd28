# SPDX-License-Identifier: GPL-2.0
"""The systemd units that ``--print-unit`` prints: the packaged ones, completed with this installation's places."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from xdpguard import files
from xdpguard.errors import UsageError

# Each moves a folder; what the service writes to must be writable under ProtectSystem=strict.
_WRITTEN = ("XDPGUARD_STATE_DIR", "XDPGUARD_CACHE_DIR", "XDPGUARD_BPFFS")
_FOLDERS = (*_WRITTEN, "XDPGUARD_CONFIG_DIR")


def text(instance: str, config: Path | None, attach: Sequence[str], netns: str) -> str:
    """Return the unit for a command line of ``run`` and the folders that the environment names."""
    arguments = ["--config", str(config.absolute())] if config else []
    arguments += [word for place in attach for word in ("--attach", place)]
    arguments += ["--netns", netns] if netns else []
    return _completed("xdpguard.service", instance, "run", arguments)


def bridge_text(instance: str, name: str, arguments: Sequence[str]) -> str:
    """Return the unit of a bridge for a command line of ``bridge NAME`` and the folders that the environment names."""
    return _completed(f"xdpguard-{name}.service", instance, f"bridge {name}", arguments)


def _completed(file: str, instance: str, command: str, arguments: Sequence[str]) -> str:
    unit = (Path(__file__).parent.parent / "systemd" / file).read_text(encoding="utf-8")
    program = shutil.which("xdpguard") or f"{sys.executable} -P -m xdpguard.cli"
    more = "".join(f" {_quoted(word)}" for word in arguments)
    unit = unit.replace("@PROGRAM@", program).replace(f"@INSTANCE@ {command}", f"@INSTANCE@ {command}{more}")
    moved = {name: str(Path(value).absolute()) for name in _FOLDERS if (value := os.environ.get(name))}
    lines = [f"Environment={_quoted(f'{name}={place}')}" for name, place in moved.items()]
    lines += [f"ReadWritePaths=-{_escaped(moved[name])}" for name in _WRITTEN if name in moved]
    head, service, rest = unit.replace("@INSTANCE@", instance).partition("[Service]\n")
    return head + service + "".join(f"{line}\n" for line in lines) + rest


def _quoted(word: str) -> str:
    """Write a word as systemd reads it in ExecStart= and Environment= (systemd.syntax(7))."""
    word = _escaped(word.replace("\\", "\\\\").replace('"', '\\"')).replace("$", "$$")
    return f'"{word}"' if any(letter in word for letter in " \t'\"\\;") else word


def _escaped(word: str) -> str:
    if not word.isprintable():
        raise UsageError(f"{files.shown(word)} cannot stand in a unit", "name a file without control characters")
    return word.replace("%", "%%")
