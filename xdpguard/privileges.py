# SPDX-License-Identifier: GPL-2.0
"""What this process may do."""

from __future__ import annotations

from pathlib import Path

from xdpguard.errors import MissingError

_CAP_NET_ADMIN, _CAP_SYS_ADMIN, _CAP_BPF = 12, 21, 39  # linux/capability.h


def require_privileges() -> None:
    """MissingError unless this process may use BPF and change links."""
    held = _effective()
    if not held >> _CAP_NET_ADMIN & 1 or not (held >> _CAP_BPF & 1 or held >> _CAP_SYS_ADMIN & 1):
        raise MissingError("this needs root (CAP_BPF and CAP_NET_ADMIN)", "run it with sudo")


def _effective() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0
