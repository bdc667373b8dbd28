# SPDX-License-Identifier: GPL-2.0
"""Which kinds of network devices this kernel makes."""

from __future__ import annotations

import subprocess


def kernel_makes(kind: str) -> bool:
    """Return whether the kernel makes devices of a kind above another, named as ``ip link add type`` does."""
    make = f"ip link add t0 type veth peer name t1 && ip link add link t0 name t2 type {kind}"
    return subprocess.run(["unshare", "-n", "sh", "-c", make], capture_output=True, check=False).returncode == 0
