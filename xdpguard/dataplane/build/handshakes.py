# SPDX-License-Identifier: GPL-2.0
"""Completed handshakes by remote address, from the tracepoint program bpf/tcp/handshakes.c."""

from __future__ import annotations

from struct import Struct

from xdpguard.closeable import Closeable
from xdpguard.dataplane.build.tracepoints import Tracepoints
from xdpguard.dataplane.sys import btf, kernel
from xdpguard.dataplane.sys.layouts.base import packer
from xdpguard.dataplane.sys.layouts.tcp import Remote
from xdpguard.errors import MissingError
from xdpguard.policy.target import MAPPED

_REMOTE = packer(Remote)
_COUNT = Struct("=Q")


class Handshakes(Closeable):
    """The program, attached. Use as a context manager; it is gone when the process ends, however it ends."""

    def __init__(self) -> None:
        places = btf.trace_switches()
        if not places:
            raise MissingError("the kernel has no type information (BTF)", "use a kernel with CONFIG_DEBUG_INFO_BTF")
        self._program = Tracepoints("tcp/handshakes.c", ["sock:inet_sock_set_state"], places)
        self._map = self._program.map_fd("handshakes")

    def counts(self, netns: set[int]) -> dict[bytes, int]:
        """Return handshakes so far by remote address (4 or 16 octets), in namespaces of these inode numbers."""
        keys, values, number = kernel.entries(self._map, _REMOTE.size, _COUNT.size)
        found: dict[bytes, int] = {}
        for place in range(number):
            address, where, _ = _REMOTE.unpack_from(keys, place * _REMOTE.size)
            if where in netns:
                plain = address[12:] if address.startswith(MAPPED) else address
                found[plain] = found.get(plain, 0) + _COUNT.unpack_from(values, place * _COUNT.size)[0]
        return found

    def close(self) -> None:
        """Detach the program."""
        self._program.close()
