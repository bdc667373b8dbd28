# SPDX-License-Identifier: GPL-2.0
"""Compile and load the program for the egress of interfaces (bpf/egress.c); net/egress.py hangs it there."""

from __future__ import annotations

import os

from xdpguard.dataplane.build.bundle import bundle
from xdpguard.dataplane.build.cflags import WARNINGS, header_flags, string_flag
from xdpguard.dataplane.build.compiler import captured, import_bcc, require_headers
from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.sys.names import EGRESS
from xdpguard.dataplane.sys.pins import Pins, wrong_layout
from xdpguard.dataplane.sys.source import source_folder
from xdpguard.errors import XdpguardError

MAIN = "egress.c"
_MAP = "sent"


def load(pins: Pins) -> int:
    """Load the program with the instance's own map, which must be pinned; return a descriptor, owned by the caller.

    Raise MissingError without bcc or headers, XdpguardError if the kernel or the compiler refuses it.
    """
    bcc = import_bcc()
    require_headers()
    source = source_folder()
    flags = [*header_flags(source), *WARNINGS, string_flag("PINS", pins.folder)]
    with captured() as output:
        try:
            module = bcc.BPF(text=bundle(source, MAIN).encode(), cflags=flags)
            try:
                if kernel.map_info(module[_MAP.encode()].map_fd).id != kernel.pin_id(pins.folder / _MAP):
                    raise wrong_layout(pins.folder / _MAP)
                return os.dup(module.load_func(EGRESS.encode(), bcc.BPF.SCHED_CLS).fd)
            finally:
                module.cleanup()
        except XdpguardError:
            raise
        except Exception as error:
            raise XdpguardError(
                "the program for the egress of interfaces cannot be loaded",
                "run again with -v for the compiler's and the kernel's output",
                output() or str(error),
            ) from error
