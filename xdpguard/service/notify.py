# SPDX-License-Identifier: GPL-2.0
"""Telling systemd how the service does: sd_notify(3), which is one datagram."""

from __future__ import annotations

import contextlib
import os
import socket
import time


def notify(*lines: str) -> None:
    """Sends ``READY=1`` and the like; does nothing where nobody asked for it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        # A manager that does not read must not hold the service up.
        link.setblocking(False)
        link.sendto("\n".join(lines).encode(), address)


def reloading() -> None:
    """``RELOADING=1`` with the time systemd wants beside it."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
