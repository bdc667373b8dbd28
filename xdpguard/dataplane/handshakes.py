# SPDX-License-Identifier: GPL-2.0
"""Completed handshakes by remote address, from the tracepoint program bpf/trace/handshakes.c."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from struct import Struct
from types import TracebackType

from xdpguard.dataplane import btf, kernel
from xdpguard.dataplane.bundle import source_folder
from xdpguard.dataplane.cflags import header_flags
from xdpguard.dataplane.compiler import captured, import_bcc, require_headers
from xdpguard.errors import MissingError, XdpguardError
from xdpguard.policy.target import MAPPED

_REMOTE = Struct("=16sII")  # struct xg_remote
_COUNT = Struct("=Q")
_TRACEFS = Path("/sys/kernel/tracing")


class Handshakes:
    """The program, attached. Use as a context manager; it is gone when the process ends, however it ends."""

    def __init__(self) -> None:
        places = btf.trace_switches()
        if not places:
            raise MissingError("the kernel has no type information (BTF)", "use a kernel with CONFIG_DEBUG_INFO_BTF")
        _mount_tracefs()
        bcc = import_bcc()
        require_headers()
        source = source_folder()
        flags = [*header_flags(source), "-Wno-macro-redefined", *(f"-DXG_{key}={at}" for key, at in places.items())]
        text = (source / "trace" / "handshakes.c").read_text(encoding="utf-8")
        with captured() as output:
            try:
                self._module = bcc.BPF(text=text.encode(), cflags=flags)
            except Exception as error:
                raise XdpguardError(
                    "the kernel does not let handshakes be counted (tracepoint sock:inet_sock_set_state)",
                    "nothing else is touched by it; xdpguard doctor checks the environment",
                    output() or str(error),
                ) from error
        self._map = int(self._module["handshakes"].map_fd)

    def counts(self, netns: set[int]) -> dict[bytes, int]:
        """Handshakes so far by remote address (4 or 16 octets), in namespaces of these inode numbers."""
        keys, values, number = kernel.entries(self._map, _REMOTE.size, _COUNT.size)
        found: dict[bytes, int] = {}
        for place in range(number):
            address, where, _ = _REMOTE.unpack_from(keys, place * _REMOTE.size)
            if where in netns:
                plain = address[12:] if address.startswith(MAPPED) else address
                found[plain] = found.get(plain, 0) + _COUNT.unpack_from(values, place * _COUNT.size)[0]
        return found

    def close(self) -> None:
        """Detaches the program."""
        self._module.cleanup()

    def __enter__(self) -> Handshakes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _mount_tracefs() -> None:
    if (_TRACEFS / "events").is_dir():
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tracefs", os.fsencode(_TRACEFS), b"tracefs", 0, None) != 0:
        raise MissingError(f"no tracefs at {_TRACEFS}", f"as root: mount -t tracefs tracefs {_TRACEFS}")
