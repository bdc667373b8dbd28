# SPDX-License-Identifier: GPL-2.0
"""Where the C files are."""

from __future__ import annotations

from pathlib import Path

from xdpguard.errors import XdpguardError


def source_folder() -> Path:
    """Return the folder bpf/: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[2]
    for folder in (package / "bpf", package.parent / "bpf"):
        if (folder / "xdpguard.c").is_file():
            return folder
    raise XdpguardError(
        f"the data plane's source is missing: no bpf/ folder in {package}",
        "reinstall the package: pipx reinstall xdpguard",
    )
