# SPDX-License-Identifier: GPL-2.0
"""Compiles and loads with bcc: the only module that imports it.

What clang and the verifier print goes into the exception's ``details``, never to the terminal.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xdpguard import shortage
from xdpguard.closeable import Closeable
from xdpguard.dataplane.build.bundle import bundle
from xdpguard.dataplane.build.cflags import Switches, cflags
from xdpguard.dataplane.build.loading import LoadError, load_programs
from xdpguard.dataplane.build.outer import make_holders
from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.sys.names import FUNCTION, PROGRAMS, PROGRAMS_MAP
from xdpguard.dataplane.sys.pins import wrong_layout
from xdpguard.dataplane.sys.source import source_folder
from xdpguard.errors import MissingError, XdpguardError

_VERIFIED_LINE = re.compile(r"^;.*@ (\S+:\d+)$", re.MULTILINE)
_HEADER = Path("/usr/include/linux/ip.h")
_capturing = threading.RLock()

BCC_REMEDY = (
    "install it from the distribution (Debian, Ubuntu: apt install python3-bpfcc linux-libc-dev; Fedora: dnf install "
    "python3-bcc kernel-headers) and run xdpguard with the distribution's Python: pipx install --system-site-packages "
    "--python /usr/bin/python3 xdpguard"
)


def import_bcc() -> Any:
    """Return the bcc module. MissingError with the way to get it when this Python has none."""
    # bcc reads this when it is imported; without it, it asks for a kernel source tree.
    os.environ["BCC_KERNEL_SOURCE"] = str(source_folder() / "uapi" / "kernel")
    try:
        import bcc
    except ImportError as error:
        raise MissingError(f"bcc is not available to {sys.executable}", BCC_REMEDY, str(error)) from error
    if not hasattr(bcc, "BPF"):
        raise MissingError(
            "the module 'bcc' found is not the BPF compiler but another package of that name",
            "uninstall it (pip uninstall bcc); " + BCC_REMEDY,
        )
    return bcc


def require_headers() -> None:
    """MissingError unless the C library's kernel headers (not a kernel source tree) are installed."""
    if not _HEADER.is_file():
        raise MissingError(
            f"the C library's kernel headers are missing: no {_HEADER}",
            "Debian, Ubuntu: apt install linux-libc-dev; Fedora: dnf install kernel-headers",
        )


class Compiled(Closeable):
    """A compiled program and its maps. Use as a context manager; maps that are pinned outlive it."""

    def __init__(self, switches: Switches, edit: Callable[[str], str] = lambda text: text) -> None:
        """Compiles, creating or opening every pinned map. XdpguardError with clang's words when that fails.

        ``edit`` may change the text before; benchmarks put a packet maker in front.
        """
        bcc = import_bcc()
        require_headers()
        source = source_folder()
        make_holders(Path(switches.pins))
        with captured() as output:
            try:
                self._module = bcc.BPF(text=edit(bundle(source)).encode(), cflags=cflags(switches, source))
            except Exception as error:
                if short := shortage.of(error, output(), output()):
                    raise short from error
                raise XdpguardError(
                    "the data plane does not compile" + _first_error(output()),
                    "run again with -v for the compiler's output; xdpguard doctor checks what it needs",
                    output() or str(error),
                ) from error
        self._library = bcc.lib if hasattr(bcc, "lib") else bcc.libbcc.lib
        self._xdp_type = bcc.BPF.XDP
        self._frags = switches.frags
        self._pins = switches.pins

    def code(self, function: str = FUNCTION) -> bytes:
        """Return the instructions, with the descriptors of this object's maps in them."""
        name = function.encode()
        start = self._library.bpf_function_start(self._module.module, name)
        return ctypes.string_at(start, self._library.bpf_function_size(self._module.module, name))

    def load(self) -> int:
        """Load the programs, and put those that are entered by tail calls into the map of programs.

        Returns a descriptor of the one that is attached, which the caller owns. XdpguardError with the verifier's log,
        or when a pinned map has another layout than the source declares: bcc takes it as it is.
        """
        self._require_layouts()
        try:
            codes = {name: self.code(name) for name in PROGRAMS}
            return load_programs(codes, self.map_fd(PROGRAMS_MAP), self._frags)
        except LoadError as error:
            log = self._verifier_log(error.name)
            places = _VERIFIED_LINE.findall(log)
            where = f" at {places[-1]}" if places else ""
            raise XdpguardError(
                f"the kernel rejects the data plane{where}: {error.strerror}",
                "run again with -v for the verifier's log; kernels from 5.15 on are supported",
                log or str(error),
            ) from error

    def tables(self) -> dict[str, kernel.MapInfo]:
        """Return the maps as the source declares them, by name."""
        library, module = self._library, self._module.module
        library.bpf_num_tables.restype = ctypes.c_size_t
        library.bpf_num_tables.argtypes = [ctypes.c_void_p]
        library.bpf_table_name.restype = ctypes.c_char_p
        library.bpf_table_name.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        for function in (library.bpf_table_key_size_id, library.bpf_table_leaf_size_id):
            function.restype = ctypes.c_size_t
            function.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        found = {}
        for number in range(library.bpf_num_tables(module)):
            name = library.bpf_table_name(module, number).decode()
            found[name] = kernel.MapInfo(
                type=library.bpf_table_type_id(module, number),
                id=0,
                key_size=library.bpf_table_key_size_id(module, number),
                value_size=library.bpf_table_leaf_size_id(module, number),
                max_entries=library.bpf_table_max_entries_id(module, number),
                flags=library.bpf_table_flags_id(module, number),
                name=name,
            )
        return found

    def map_fd(self, name: str) -> int:
        """Return the file descriptor of a map, owned by this object."""
        return int(self._library.bpf_table_fd(self._module.module, name.encode()))

    def close(self) -> None:
        """Free the compiler's memory and its descriptors."""
        self._module.cleanup()

    def _require_layouts(self) -> None:
        for name, declared in self.tables().items():
            if not kernel.map_info(self.map_fd(name)).like(declared):
                raise wrong_layout(f"{self._pins}/{name}")

    def _verifier_log(self, function: str) -> str:
        # bcc loads with line information, so its log names files and lines of bpf/.
        with captured() as output:
            try:
                self._module.load_func(function, self._xdp_type)
            except Exception:
                return str(output())
        return ""


def _first_error(text: str) -> str:
    for line in text.splitlines():
        if "error:" in line:
            return ": " + line.strip()
    return ""


@contextmanager
def captured() -> Iterator[Any]:
    """Collect what C libraries write to file descriptor 2. Yields a function that returns the text so far."""
    sys.stderr.flush()
    # The descriptor is the process's: of two threads the second waits.
    with _capturing, tempfile.TemporaryFile() as file:
        saved = os.dup(2)
        os.dup2(file.fileno(), 2)

        def text() -> str:
            return os.pread(file.fileno(), 4 << 20, 0).decode("utf-8", "replace")

        try:
            yield text
        finally:
            os.dup2(saved, 2)
            os.close(saved)
