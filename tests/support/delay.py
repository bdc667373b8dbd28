# SPDX-License-Identifier: GPL-2.0
"""A link with a delay between the lab's namespaces: two TUN devices, and a thread that carries packets between them.

`tc netem` would do it, too, but not every kernel has it.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import os
import select
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from topology import Lab

from support.patience import patient
from xdpguard.net.netns import entered

SERVER, OUTSIDE = "198.19.0.1", "198.19.0.2"
_TUNSETIFF = 0x400454CA  # linux/if_tun.h
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_NAME = "slow0"


def _tun(namespace: str, address: str) -> int:
    with entered(namespace):
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH14x", _NAME.encode(), _IFF_TUN | _IFF_NO_PI))
    for line in (f"addr add {address}/24 dev {_NAME}", f"link set {_NAME} up"):
        subprocess.run(["ip", "-n", namespace, *line.split()], check=True, timeout=patient(60))
    return descriptor


class _Carrier:
    def __init__(self, ends: tuple[int, int], delay: float) -> None:
        self._to = {ends[0]: ends[1], ends[1]: ends[0]}
        self._delay = delay
        self._held: collections.deque[tuple[float, int, bytes]] = collections.deque()
        self.running = True

    def carry(self) -> None:
        """Until it shall not any more. All packets wait equally long, so they stay in order."""
        while self.running:
            now = time.monotonic()
            while self._held and self._held[0][0] <= now:
                _, end, packet = self._held.popleft()
                with contextlib.suppress(OSError):
                    os.write(end, packet)
            left = self._held[0][0] - now if self._held else 0.05
            for end in select.select(list(self._to), [], [], max(0.0, left))[0]:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        packet = os.read(end, 65_536)
                        self._held.append((time.monotonic() + self._delay, self._to[end], packet))


@contextmanager
def delayed(lab: Lab, seconds: float) -> Iterator[None]:
    """SERVER and OUTSIDE reach each other, each packet after so long."""
    ends: list[int] = []
    try:
        ends.append(_tun(lab.server, SERVER))
        ends.append(_tun(lab.outside, OUTSIDE))
        carrier = _Carrier((ends[0], ends[1]), seconds)
        thread = threading.Thread(target=carrier.carry, daemon=True)
        thread.start()
        try:
            yield
        finally:
            carrier.running = False
            thread.join(patient(30))
    finally:
        for end in ends:
            os.close(end)  # and the device has gone
