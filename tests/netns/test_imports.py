# SPDX-License-Identifier: GPL-2.0
"""What each command imports, with an interface attached: start-up is most of the time of the short ones."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.command import Command
from topology import INTERFACE, Lab

# Libraries that take long to import. hashlib loads OpenSSL.
LIBRARIES = {
    *("asyncio", "bcc", "hashlib", "inspect", "msgspec", "numpy", "prometheus_client", "pyroute2", "rich", "sqlite3"),
    *("textual", "tomllib", "typer"),
}
# Modules of this package with much behind them.
ATTACHING = {"xdpguard.control.attach", "xdpguard.control.loader", "xdpguard.control.planning"}
AROUND = {"xdpguard.control.surroundings"}
LARGE = LIBRARIES | ATTACHING | AROUND
TYPER = {"inspect", "typer"}
STORE = TYPER | {"sqlite3"}
ANSWERS = STORE | {"msgspec"}


@pytest.fixture
def attached(attached: Command) -> Command:
    attached.ok("block", "198.51.100.7")
    return attached


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["--help"], set()),
        (["-h"], set()),
        (["status", "--help"], TYPER),
        (["stats"], STORE),
        (["rules"], STORE),
        (["block", "198.51.100.8"], STORE),
        (["unblock", "198.51.100.7"], STORE),
        (["explain", "198.51.100.7"], ANSWERS),
        (["status"], STORE | AROUND),
        (["status", "--json"], ANSWERS | AROUND),
        # Positive control.
        (["attach", INTERFACE], ANSWERS | ATTACHING | AROUND | {"tomllib", "pyroute2", "asyncio", "hashlib"}),
    ],
    ids=lambda it: " ".join(it) if isinstance(it, list) else "",
)
def test_a_command_imports_what_it_needs(arguments: list[str], allowed: set[str], attached: Command, lab: Lab) -> None:
    more = ["--netns", lab.server] if arguments[0] == "attach" else []
    code = (
        "import sys\nfrom xdpguard.cli.app import run\n"
        f"code = run({arguments + more!r})\n"
        f"large = {LARGE!r}\n"
        "print('imported:', *large & {*sys.modules, *(it.split('.')[0] for it in sys.modules)}, file=sys.stderr)\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=attached.environment
    )
    assert done.returncode == 0, done
    found = done.stderr.splitlines()[-1].split()
    assert found[0] == "imported:"
    assert set(found[1:]) <= allowed
    if arguments[0] == "attach":
        assert set(found[1:]) == allowed
