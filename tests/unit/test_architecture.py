# SPDX-License-Identifier: GPL-2.0
"""One room, one job: a lower floor never imports a higher one, and bcc and pyroute2 each have one user."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import xdpguard

ROOT = Path(xdpguard.__file__).parent
# From the bottom up; a room imports those of lower floors only.
FLOORS = [
    {"closeable", "errors", "signals", "units", "__init__"},
    {"process", "shortage"},
    {"files"},
    {"owned"},
    {"instance", "policy"},
    {"net", "capture", "lists"},
    {"dataplane.sys"},
    {"dataplane.tables"},
    {"dataplane.build"},
    {"store"},
    {"control", "telemetry", "tcp"},
    {"metrics", "explain", "doctor", "fleet"},
    {"service", "bench", "tui"},
    {"bridges"},
    {"cli"},
    {"api"},
]


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


@cache
def nodes(path: Path) -> list[ast.Import | ast.ImportFrom]:
    """All imports of a file. Parsed once: there are hundreds of files."""
    found = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [it for it in found if isinstance(it, ast.Import | ast.ImportFrom)]


def imports(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            if node.module == "xdpguard":
                yield from (f"xdpguard.{alias.name}" for alias in node.names)


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(path): path for path in modules()}


def room(name: str) -> str:
    """The room of a module, without the name of the package."""
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] == "dataplane" and len(parts) > 1 else parts[0]


def floor(name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


def imported(path: Path) -> set[str]:
    """The modules of this package that one imports, at its top, in a function, or for types."""
    found = set()
    for node in nodes(path):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name.removeprefix("xdpguard.") in MODULES else str(node.module) for name in names]
        found |= {name.removeprefix("xdpguard.") for name in names if name.startswith("xdpguard.")} & set(MODULES)
    return found


@pytest.mark.parametrize("name", [it for it in MODULES if it not in ("dataplane", "__init__")])
def test_nobody_imports_upwards(name: str) -> None:
    mine = room(name)
    for other in imported(MODULES[name]):
        if room(other) != mine and other != "dataplane":
            assert floor(room(other)) < floor(mine), f"imports {other}"


def test_there_is_no_circle() -> None:
    arrows = {name: imported(path) - {name} for name, path in MODULES.items()}
    # Whoever imports nothing that is left cannot be part of a circle.
    while free := [name for name, others in arrows.items() if not others & arrows.keys()]:
        for name in free:
            del arrows[name]
    assert not arrows


@pytest.mark.parametrize(
    ("library", "user"),
    [
        ("bcc", "dataplane/build/compiler.py"),
        ("prometheus_client", "metrics/prometheus.py"),
        ("opentelemetry", "metrics/otlp.py"),
        ("nats", "fleet/client.py"),
    ],
)
def test_each_has_one_user(library: str, user: str) -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for path in modules()
        if any(name.split(".")[0] == library for name in imports(path))
    }
    assert users == {user}


def test_pyroute2_is_used_in_its_room() -> None:
    users = [path for path in modules() if any(name.split(".")[0] == "pyroute2" for name in imports(path))]
    assert users == [ROOT / "net" / "iproute.py"]


def test_the_environment_moves_folders_and_names_the_instance_and_does_nothing_else() -> None:
    """What a test injects, it injects from tests/: no variable of a production run may stop or kill it."""
    named = {name for path in modules() for name in re.findall(r"XDPGUARD_[A-Z_]*[A-Z]", path.read_text("utf-8"))}
    typers = {"XDPGUARD_COMPLETE"}  # what a shell sets that completes
    assert named - typers == {f"XDPGUARD_{it}" for it in ("BPFFS", "CACHE_DIR", "CONFIG_DIR", "INSTANCE", "STATE_DIR")}
