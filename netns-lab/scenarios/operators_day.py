# SPDX-License-Identifier: GPL-2.0
"""What every command answers in an operator's day, and the store's content after it, as text that can be compared.

Times, ids and figures that are never the same are masked: two runs of one checkout print the same text. So `diff` of
two checkouts' days shows what a change makes different for users.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenarios.commands import Said
from scenarios.day import Day
from topology import Lab

_ROOT = Path(__file__).parents[2]
_MASK = "~"
# Of JSON and of the store's columns: never the same twice.
_CHANGING = {
    "abi", "age", "attached", "boot", "cookie", "created", "expires", "last", "left", "loaded", "prog_id", "seconds",
    "stamp", "time",
}  # fmt: skip
_IN_WORDS = [
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?"), "DATE"),
    (re.compile(r"\b\d\d:\d\d:\d\d(\.\d+)?"), "TIME"),
    (re.compile(r"\b\d[\d.,]* ?(ms|s|m|h|d)\b( \d+ ?(s|m|h)\b)?"), "SPAN"),
    (re.compile(r"\b[\d,]+ packets/s"), "RATE"),
    (re.compile(r"program \d+|│? *\d+ (?=\S*\s*(yes|no)\b)"), "PROGRAM "),
]
_NUMBER = re.compile(r"0x[0-9a-f]+|\d[\d.,]*")
_BLANKS = re.compile(r"[ ─━-]{2,}")
_EXAMPLES = """\
examples:
  sudo netns-lab/scenarios/operators-day > after.txt
  sudo netns-lab/scenarios/operators-day --checkout ../before > before.txt
"""


@dataclass
class _Ended:
    code: int
    out: str
    err: str


class _Commands:
    """Runs a checkout's xdpguard."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def __call__(self, *arguments: str, stdin: str | None = None) -> _Ended:
        done = subprocess.run(
            self.line(*arguments), env=self.environment, input=stdin or "", capture_output=True, text=True, check=False
        )
        return _Ended(done.returncode, done.stdout, done.stderr)

    def line(self, *arguments: str) -> list[str]:
        """The command line of a process."""
        return [sys.executable, "-P", "-m", "xdpguard.cli", *arguments]


def _json(value: Any, loose: bool) -> Any:
    """A document with what changes masked. ``loose``: all figures change, and so does what there is of each."""
    if isinstance(value, dict):
        return {key: _MASK if key in _CHANGING and _is_number(it) else _json(it, loose) for key, it in value.items()}
    if isinstance(value, list):
        items = [_json(it, loose) for it in value]
        return [it for at, it in enumerate(items) if it not in items[:at]] if loose else items
    if loose and _is_number(value):
        return _MASK
    return _NUMBER.sub(_MASK, value) if loose and isinstance(value, str) else value


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _words(text: str, loose: bool) -> str:
    for pattern, name in _IN_WORDS:
        text = pattern.sub(name, text)
    text = _NUMBER.sub(_MASK, text) if loose else text
    lines = [_BLANKS.sub("  ", line).rstrip() for line in text.splitlines()]
    return "\n".join(dict.fromkeys(lines) if loose else lines)


def _said(said: Said) -> Iterator[str]:
    yield f"$ xdpguard {' '.join(Path(it).name for it in said.arguments)}"
    documents = said.documents()
    if documents:
        plain = [json.dumps(_json(it, said.loose), indent=1, ensure_ascii=False) for it in documents]
        yield from dict.fromkeys(plain) if said.loose else plain
    else:
        yield _words(said.out, said.loose)
    yield _words(said.err, said.loose)
    yield f"exit {said.code}"


def _store(path: Path) -> Iterator[str]:
    with closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        tables = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
        for (table,) in database.execute(tables).fetchall():
            for row in database.execute(f'SELECT * FROM "{table}" ORDER BY 1, 2').fetchall():
                fields = {key: _MASK if key in _CHANGING and row[key] else row[key] for key in row.keys()}  # noqa: SIM118
                if table == "facts":
                    fields["value"] = re.sub(r"[0-9a-f]{16,}|[0-9a-f-]{36}|\d{4,}", _MASK, str(row["value"]))
                yield f"{table}: {fields}"


def day(checkout: Path) -> Iterator[str]:
    """The day of a checkout, line by line."""
    with tempfile.TemporaryDirectory(prefix="xdpguard-day-") as text, Lab("xgday", owner=os.getpid()) as lab:
        folder = Path(text)
        environment = {key: it for key, it in os.environ.items() if not key.startswith(("XDPGUARD_", "SSH_"))} | {
            "PYTHONPATH": str(checkout),
            "XDPGUARD_CACHE_DIR": str(Path(sys.prefix) / "compiled"),
            "XDPGUARD_STATE_DIR": text,
            "XDPGUARD_CONFIG_DIR": text,
            "XDPGUARD_INSTANCE": "day",
            "COLUMNS": "160",
            "LC_ALL": "C.UTF-8",
        }
        commands = _Commands(environment)
        try:
            for said in Day(commands, lab, folder):
                out, err = (it.replace(text, "FOLDER") for it in (said.out, said.err))
                yield from _said(said._replace(out=out, err=err))
            yield "the store:"
            yield from (it.replace(text, "FOLDER") for it in _store(folder / "day" / "store.db"))
        finally:
            commands("detach", "--all")


def main() -> int:
    """The command line."""
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="operators-day", description=__doc__, epilog=_EXAMPLES, formatter_class=style)
    parser.add_argument("--checkout", type=Path, default=_ROOT, help="whose xdpguard is run (default: this one's)")
    given = parser.parse_args()
    if not (given.checkout / "xdpguard" / "cli").is_dir():
        parser.error(f"{given.checkout} is not a checkout of xdpguard")
    # What was made goes with its contexts, which SIGTERM would not end otherwise.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    for line in day(given.checkout.resolve()):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
