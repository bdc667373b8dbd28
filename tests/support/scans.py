# SPDX-License-Identifier: GPL-2.0
"""Port scans in the lab: of a client that proves that it is itself, and of somebody in a client's name."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable

from topology import INTERFACE, Lab

from support.guard import syn
from xdpguard.net.netns import entered


def touch(lab: Lab, address: str, port: int, source: str = "") -> bool:
    """Whether a connection is set up; it is closed at once."""
    with entered(lab.outside), contextlib.suppress(OSError):
        socket.create_connection((address, port), timeout=2, source_address=(source, 0) if source else None).close()
        return True
    return False


def spoof_scan(lab: Lab, source: str, ports: Iterable[int] = range(3000, 3200)) -> None:
    """SYNs to closed ports in a client's name, from raw frames that its own stack knows nothing of."""
    with entered(lab.outside), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((INTERFACE, 0))
        for port in ports:
            wire.send(syn(source=source, port=port, sport=port))
