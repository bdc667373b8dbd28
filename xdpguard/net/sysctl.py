# SPDX-License-Identifier: GPL-2.0
"""Read and write ``net.*`` sysctls in a network namespace."""

from __future__ import annotations

from pathlib import Path

from xdpguard.errors import XdpguardError
from xdpguard.net.netns import entered


def _path(name: str) -> Path:
    return Path("/proc/sys") / name.replace(".", "/")


def read(name: str, netns: str = "") -> str:
    """Return the value of a sysctl such as ``net.ipv4.tcp_syncookies``. Raise XdpguardError if it cannot be read."""
    with entered(netns):
        try:
            return _path(name).read_text(encoding="ascii").strip()
        except OSError as error:
            raise XdpguardError(f"cannot read {name}: {error.strerror}", "see xdpguard doctor") from error


def write(name: str, value: str, netns: str = "") -> None:
    """Set a sysctl. Raise XdpguardError if the kernel rejects the value."""
    with entered(netns):
        try:
            _path(name).write_text(value, encoding="ascii")
        except OSError as error:
            raise XdpguardError(
                f"cannot set {name} to {value}: {error.strerror}", "run as root, with a writable /proc/sys"
            ) from error
