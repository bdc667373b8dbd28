# SPDX-License-Identifier: GPL-2.0
"""One room, one job: a lower floor never imports a higher one, and bcc and pyroute2 each have one user."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import xdpguard

ROOT = Path(xdpguard.__file__).parent
# From the bottom up; a module may import its own floor and those below.
FLOORS = [
    {"errors", "__init__"},
    {"instance", "privileges"},
    {"policy", "net", "capture"},
    {"dataplane"},
    {"lists", "telemetry", "tcp"},
    {
        "safety",
        "needed",
        "rulebook",
        "inventory",
        "guardbook",
        "answering",
        "loans",
        "listbook",
        "listloader",
        "builds",
        "frames",
        "shadowbook",
        "shadowlists",
        "shadowing",
        "books",
        "promotion",
    },
    {"uppers", "attachments", "attaching", "auditing"},
    {"controller", "doctor"},
    {"metrics"},
    {"guard", "bench", "probe"},
    {"cli", "tui"},
]


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            if node.module == "xdpguard":
                yield from (f"xdpguard.{alias.name}" for alias in node.names)


def floor(name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nobody_imports_upwards(path: Path) -> None:
    mine = floor(path.relative_to(ROOT).parts[0].removesuffix(".py"))
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "xdpguard" and len(parts) > 1 and parts[1] != "__version__":
            assert floor(parts[1]) <= mine, f"imports {name}"


@pytest.mark.parametrize(
    ("library", "user"),
    [
        ("bcc", "dataplane/compiler.py"),
        ("prometheus_client", "metrics/prometheus.py"),
        ("opentelemetry", "metrics/otlp.py"),
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
