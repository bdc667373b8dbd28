# SPDX-License-Identifier: GPL-2.0
"""Report the state of the service to systemd: sd_notify(3), one datagram."""

from __future__ import annotations

import contextlib
import os
import socket
import time


def notify(*lines: str) -> None:
    """Send assignments such as ``READY=1``; do nothing if no manager asked for them."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        # A manager that does not read must not block the service.
        link.setblocking(False)
        link.sendto("\n".join(lines).encode(), address)


def supervised() -> bool:
    """Return whether a manager waits for notifications, and starts the service again when it ends."""
    return bool(os.environ.get("NOTIFY_SOCKET"))


def reloading() -> None:
    """Send ``RELOADING=1`` with the time stamp that systemd requires."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
