# SPDX-License-Identifier: GPL-2.0
"""The BPF file system: whether it is mounted, mounting it, and noticing where it is hidden."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from xdpguard.errors import MissingError

_BPF_FS_MAGIC = 0xCAFE4A11  # linux/magic.h
_DEFAULT = Path("/sys/fs/bpf")


def is_bpffs(path: Path) -> bool:
    """Return whether ``path`` is inside a BPF file system."""
    libc = ctypes.CDLL(None, use_errno=True)
    answer = ctypes.create_string_buffer(256)  # struct statfs, whose first word is the type
    return libc.statfs(os.fsencode(path), answer) == 0 and ctypes.c_long.from_buffer(answer).value == _BPF_FS_MAGIC


def ensure_bpffs(path: Path) -> None:
    """Mount the BPF file system at its usual place when it is missing. MissingError where that is not to be done."""
    if path.is_dir() and is_bpffs(path):
        return
    by_hand = f"mount it: mount -t bpf bpf {path}"
    if path != _DEFAULT:
        raise MissingError(f"no BPF file system at {path} (XDPGUARD_BPFFS)", by_hand)
    check_visible(path)
    libc = ctypes.CDLL(None, use_errno=True)
    if not path.is_dir() or libc.mount(b"bpf", str(path).encode(), b"bpf", 0, b"mode=0700") != 0:
        raise MissingError(f"no BPF file system at {path}, and it cannot be mounted", f"as root, {by_hand}")


def check_visible(path: Path) -> None:
    """Raise MissingError where the BPF file system that others see is hidden, so that no pin of it can be found."""
    if path == _DEFAULT and not is_bpffs(path) and not _same_mounts_as_init():
        raise MissingError(
            "no BPF file system at /sys/fs/bpf: this process runs in its own mount namespace (ip netns exec?)",
            "run xdpguard outside and name the network namespace, as in xdpguard attach IFACE --netns NAME",
        )


def _same_mounts_as_init() -> bool:
    """Return whether /sys here is that of process 1. `ip netns exec` brings its own, which ends with its process."""
    try:
        mounts = Path("/proc/1/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return True
    device = Path("/sys").stat().st_dev
    here = f"{os.major(device)}:{os.minor(device)}"
    return all(line.split()[2] == here for line in mounts if line.split()[4] == "/sys")
