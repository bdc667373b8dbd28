# SPDX-License-Identifier: GPL-2.0
"""What this process may do."""

from __future__ import annotations

from pathlib import Path

from xdpguard.errors import MissingError

_CAP_NET_ADMIN, _CAP_SYS_ADMIN, _CAP_PERFMON, _CAP_BPF = 12, 21, 38, 39  # linux/capability.h


def require_privileges() -> None:
    """MissingError unless this process may use BPF and change links."""
    held = _effective()

    def has(*numbers: int) -> bool:
        return all(held >> number & 1 for number in numbers)

    # Without CAP_PERFMON the verifier takes no program that does arithmetic on pointers as ours does.
    if not has(_CAP_NET_ADMIN) or not (has(_CAP_SYS_ADMIN) or has(_CAP_BPF, _CAP_PERFMON)):
        raise MissingError("this needs root (CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN)", "run it with sudo")


def _effective() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0
