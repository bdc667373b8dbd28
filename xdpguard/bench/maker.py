# SPDX-License-Identifier: GPL-2.0
"""Pass frames with changing sources to any XDP program: see bpf/bench/sources.c.

Programs that tail-call each other must agree on the attach type they were loaded for and on multi-buffer support, so
each kind of program has its own packet makers, and its own empty program to subtract.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import struct
from contextlib import ExitStack
from typing import NamedTuple

from xdpguard.bench.packets import FAMILIES, SOURCES, Family, size
from xdpguard.closeable import Closeable
from xdpguard.dataplane.build.cflags import header_flags
from xdpguard.dataplane.build.compiler import captured, import_bcc, require_headers
from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.sys.source import source_folder
from xdpguard.errors import XdpguardError

_XDP_DROP = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 1, 0x95, 0, 0, 0)  # r0 = XDP_DROP; exit
_ATTACH_XDP = 37  # enum bpf_attach_type; libbpf names it when it loads, others do not
_FIRST = bytes(4)


class Kind(NamedTuple):
    """What programs that tail-call each other must agree on: load flags and attach type."""

    flags: int
    attach_type: int


# The kinds in use, the most frequent first.
_KINDS = [
    Kind(flags, attach) for flags, attach in itertools.product((0, kernel.PROG_FLAG_XDP_HAS_FRAGS), (0, _ATTACH_XDP))
]


def drop_at_once(kind: Kind = _KINDS[0]) -> int:
    """Load the empty program, which measures the overhead itself; the caller owns the descriptor."""
    return kernel.load_xdp(_XDP_DROP, "bench_empty", *kind)


class Maker(Closeable):
    """A packet maker for one family and one kind of program. Use as a context manager."""

    def __init__(self, family: Family, kind: Kind) -> None:
        bcc = import_bcc()
        require_headers()
        source = source_folder()
        switches = {"FRAME": size(family), "IPV6": int(family == 6), "SOURCES": SOURCES}
        flags = [*header_flags(source), *(f"-DXG_{name}={value}" for name, value in switches.items())]
        text = (source / "bench" / "sources.c").read_text(encoding="utf-8")
        with captured() as output:
            try:
                self._module = bcc.BPF(text=text.encode(), cflags=flags)
            except Exception as error:
                raise XdpguardError(
                    "the bench's packet maker does not compile",
                    "run again with -v for the compiler's output; xdpguard doctor checks what it needs",
                    output() or str(error),
                ) from error
        library = bcc.lib if hasattr(bcc, "lib") else bcc.libbcc.lib
        start = library.bpf_function_start(self._module.module, b"make")
        code = ctypes.string_at(start, library.bpf_function_size(self._module.module, b"make"))
        self.fd = kernel.load_xdp(code, "bench_make", *kind)
        self._sources = b""

    def takes(self, program: int) -> bool:
        """Make it call this program from now on. Return False if the program is of another kind."""
        try:
            kernel.update(self._map("tested"), _FIRST, struct.pack("=I", program))
        except OSError as error:
            if error.errno == errno.EINVAL:
                return False
            raise
        return True

    def prepare(self, frame: bytes, sources: bytes) -> None:
        """Set the frame, and the sources that are written into it in turn, starting with the first."""
        kernel.update(self._map("frames"), _FIRST, bytes(2) + frame)
        kernel.update(self._map("next"), _FIRST, bytes(4))
        if sources is not self._sources:
            kernel.update_batch(self._map("sources"), struct.pack(f"={SOURCES}I", *range(SOURCES)), sources, SOURCES)
            self._sources = sources

    def _map(self, name: str) -> int:
        return int(self._module[name].map_fd)

    def close(self) -> None:
        """Free the program and its maps."""
        os.close(self.fd)
        self._module.cleanup()


class Makers:
    """Packet makers, each created when first needed, and closed with ``stack``."""

    def __init__(self, stack: ExitStack) -> None:
        self._made: dict[tuple[Family, Kind], Maker] = {}
        self._stack = stack

    def kind(self, program: int) -> Kind:
        """Return the kind of a program. Raise XdpguardError if no packet maker can call it."""
        for kind in _KINDS:
            if self.get(FAMILIES[0], kind).takes(program):
                return kind
        raise XdpguardError("XDP programs cannot call each other here", "measure with --only rates,loading")

    def get(self, family: Family, kind: Kind) -> Maker:
        """Return the maker for a family and a kind."""
        if (family, kind) not in self._made:
            self._made[family, kind] = self._stack.enter_context(Maker(family, kind))
        return self._made[family, kind]
