# SPDX-License-Identifier: GPL-2.0
"""The command line as its users run it: a process of its own, with an instance and a state directory of its own."""

from __future__ import annotations

import atexit
import functools
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.forked import Forked
from support.patience import patient

_NUMBERS = itertools.count(1)
_WAITING = re.compile(r"^xdpguard: waiting for another xdpguard command.*\n", re.MULTILINE)
_WAIT = patient(60.0)  # seconds for a command to end
# A test's own affair, or it would have each command compile all its modules.
_NOT_HANDED_DOWN = ("XDPGUARD_", "SSH_", "PYTHONDONTWRITEBYTECODE")


def _common() -> dict[str, str]:
    """What is in the environment of every command."""
    return {key: value for key, value in os.environ.items() if not key.startswith(_NOT_HANDED_DOWN)} | {
        # What one test has compiled the others need not.
        "XDPGUARD_CACHE_DIR": str(Path(sys.prefix) / "compiled"),
        "COLUMNS": "120",
    }


@functools.cache
def _forked() -> Forked:
    made = Forked(_common())
    atexit.register(made.close)
    return made


class Result:
    """How a command ended."""

    def __init__(self, process: subprocess.CompletedProcess[str]) -> None:
        self.code = process.returncode
        self.out = process.stdout
        self.err = process.stderr

    def __repr__(self) -> str:
        return f"exit {self.code}\n{self.out}{self.err}"


def on(answer: Any, name: str) -> Any:
    """What an answer in JSON has on the one interface of that name, in whatever namespace."""
    (found,) = (its for key, its in answer["interfaces"].items() if key.split("@")[0] == name)
    return found


class Command:
    """Runs xdpguard."""

    def __init__(self, state: Path, instance: str = "") -> None:
        self.state = state
        self.instance = instance or f"test-{os.getpid()}-{next(_NUMBERS)}"
        self.environment = _common() | {
            "XDPGUARD_STATE_DIR": str(state),
            "XDPGUARD_INSTANCE": self.instance,
            "XDPGUARD_CONFIG_DIR": str(state / "etc"),
        }

    @property
    def store(self) -> Path:
        """The instance's store."""
        return self.state / self.instance / "store.db"

    @property
    def pins(self) -> Path:
        """The instance's pins."""
        return Path("/sys/fs/bpf/xdpguard") / self.instance

    def __call__(
        self,
        *arguments: str,
        stdin: str | bytes | None = None,
        kill_at: str = "",
        fault: str = "",
        **environment: str,
    ) -> Result:
        """Runs one command to its end; never raises for its exit code.

        ``kill_at``: the step that it dies before; ``fault``: what else happens to it, see injection.py.
        """
        data = stdin.encode() if isinstance(stdin, str) else stdin
        fault = f"{kill_at}: kill" if kill_at else fault
        done = self._run(arguments, self.environment | environment, data, fault)
        # A service beside it may just then hold the lock, and that is told.
        err = _WAITING.sub("", done.stderr.decode("utf-8", "replace"))
        text = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode("utf-8", "replace"), err)
        assert "Traceback" not in text.stderr, text.stderr
        return Result(text)

    def ok(self, *arguments: str, stdin: str | None = None, **environment: str) -> str:
        """Runs a command that must succeed; returns what it printed."""
        result = self(*arguments, stdin=stdin, **environment)
        assert result.code == 0, (arguments, result)
        return result.out

    def json(self, *arguments: str) -> Any:
        """Runs a reading command with --json. `status` may find something degraded, and says so there."""
        result = self(*arguments, "--json")
        assert result.code == 0 or (result.code == 1 and '"degraded": ["' in result.out), (arguments, result)
        return json.loads(result.out)

    def refused(self, code: int, *arguments: str, stdin: str | bytes | None = None, **environment: str) -> str:
        """Runs a command that must fail with that exit code and one line, holding a remedy; returns the line."""
        result = self(*arguments, stdin=stdin, **environment)
        assert result.code == code, (arguments, result)
        lines = result.err.strip().splitlines()
        assert len(lines) == 1, result
        assert lines[0].startswith("xdpguard: "), result
        assert "; " in lines[0], f"no remedy: {result}"
        return lines[0]

    def line(self, *arguments: str) -> list[str]:
        """The command line of a process."""
        return [sys.executable, "-m", "xdpguard.cli", *arguments]

    def _run(
        self, arguments: tuple[str, ...], environment: dict[str, str], data: bytes | None, fault: str = ""
    ) -> subprocess.CompletedProcess[bytes]:
        if _forked().can(environment):
            return _forked().run(arguments, environment, data, _WAIT, fault)
        assert not fault
        return subprocess.run(
            self.line(*arguments),
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            env=environment,
            timeout=_WAIT,
            check=False,
        )

    def clean(self) -> None:
        """Detaches everything and removes what is left."""
        if self.pins.exists() or self.store.exists():
            self("detach", "--all")
        if self.pins.exists():
            for path in sorted(self.pins.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            self.pins.rmdir()
