# SPDX-License-Identifier: GPL-2.0
"""Programs on the kernel's tracepoints: compiled by bcc, attached by perf events.

The perf events belong to this process, and nothing is pinned: however the process ends, the programs go with it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from xdpguard.closeable import Closeable
from xdpguard.dataplane.build.bundle import bundle
from xdpguard.dataplane.build.cflags import WARNINGS, header_flags
from xdpguard.dataplane.build.compiler import captured, import_bcc, require_headers
from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.sys.source import source_folder
from xdpguard.errors import MissingError, XdpguardError

_TRACEFS = Path("/sys/kernel/tracing")
# All that programs of bpf/ are on.
KNOWN = ("sock:inet_sock_set_state", "tcp:tcp_retransmit_skb", "tcp:tcp_retransmit_synack", "tcp:tcp_probe")


class Tracepoints(Closeable):
    """A program of bpf/, attached to its tracepoints. Use as a context manager."""

    def __init__(
        self, main: str, needed: Iterable[str], switches: Mapping[str, int], raw: Mapping[str, str] | None = None
    ) -> None:
        """Compiles and attaches ``bpf/MAIN``. ``needed`` are its tracepoints (``tcp:tcp_probe``); ``switches`` go to
        the compiler as XG_NAME; ``raw`` are functions that take a tracepoint's arguments as they are, and the names of
        these tracepoints (``inet_sock_set_state``).

        MissingError without tracefs or one of the tracepoints; XdpguardError when the kernel does not take it.
        """
        require_tracepoints(needed)
        bcc = import_bcc()
        require_headers()
        source = source_folder()
        numbers = (f"-DXG_{name}={_constant(value)}" for name, value in switches.items())
        flags = [*header_flags(source), *WARNINGS, *numbers]
        self._links: list[int] = []
        with captured() as output:
            try:
                self._module = bcc.BPF(text=bundle(source, main).encode(), cflags=flags)
                self._attach_raw(raw or {}, bcc.BPF.RAW_TRACEPOINT)
            except Exception as error:
                raise XdpguardError(
                    f"the kernel rejects the program for {', '.join(needed)}",
                    "run again with -v for its message; xdpguard doctor checks the environment",
                    output() or str(error),
                ) from error

    def _attach_raw(self, raw: Mapping[str, str], kind: int) -> None:
        """Attach what takes arguments as they are, before the others on the same tracepoint: the kernel runs programs
        in the order in which they came.
        """
        later = [it for it in self._module.tracepoint_fds if it.decode().partition(":")[2] in raw.values()]
        for name in later:
            self._module.detach_tracepoint(name)
        for function, tracepoint in raw.items():
            loaded = self._module.load_func(function.encode(), kind)
            self._links.append(kernel.attach_raw_tracepoint(tracepoint, loaded.fd))
        for name in later:
            self._module.attach_tracepoint(name, fn_name=b"tracepoint__" + name.replace(b":", b"__"))

    def map_fd(self, name: str) -> int:
        """Return the file descriptor of a map, owned by this object."""
        return int(self._module[name.encode()].map_fd)

    def program_fds(self) -> list[int]:
        """Return the file descriptors of the programs, owned by this object."""
        return [int(function.fd) for function in self._module.funcs.values()]

    def missed(self, name: str = "") -> int:
        """Return how often a program, or that function, did not run because one was running on its CPU."""
        functions = self._module.funcs.items()
        return sum(kernel.program_info(it.fd).missed for key, it in functions if not name or key == name.encode())

    def close(self) -> None:
        """Detach."""
        for link in self._links:
            os.close(link)
        self._links = []
        self._module.cleanup()


def require_tracepoints(names: Iterable[str]) -> None:
    """MissingError unless tracefs is there, or can be mounted, and has these tracepoints."""
    _mount_tracefs()
    for name in names:
        if not format_of(name):
            raise MissingError(
                f"this kernel has no tracepoint {name}",
                "use a kernel that has it (Linux 5.15 or later with CONFIG_FTRACE and CONFIG_BPF_EVENTS)",
            )


def format_of(name: str) -> str:
    """Return what the kernel says of a tracepoint's fields; empty when there is no such tracepoint, or no tracefs."""
    category, _, event = name.partition(":")
    try:
        return (_TRACEFS / "events" / category / event / "format").read_text(encoding="utf-8")
    except OSError:
        return ""


def _constant(value: int) -> str:
    """As C takes it: what does not fit into an int is unsigned."""
    return f"{value}ull" if value > 0x7FFFFFFF else str(value)


def _mount_tracefs() -> None:
    try:
        if (_TRACEFS / "events").is_dir():
            return
    except PermissionError as error:
        raise MissingError(
            f"no permission to read {_TRACEFS}: all but root need CAP_DAC_READ_SEARCH, which this process lacks",
            "run it with sudo, or grant it",
        ) from error
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tracefs", os.fsencode(_TRACEFS), b"tracefs", 0, None) != 0:
        raise MissingError(f"no tracefs at {_TRACEFS}", f"as root: mount -t tracefs tracefs {_TRACEFS}")
