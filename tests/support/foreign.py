# SPDX-License-Identifier: GPL-2.0
"""XDP programs that are not ours."""

from __future__ import annotations

import os

from topology import Lab

from xdpguard.dataplane.sys import kernel
from xdpguard.net.links import Links

XDP_PASS = bytes.fromhex("b7000000020000009500000000000000")  # r0 = XDP_PASS; exit


def put_foreign(lab: Lab, name: str, replaced: int | None = None) -> int:
    """Attaches a program that is not ours; returns its id."""
    links = Links()
    descriptor = kernel.load_xdp(XDP_PASS, "somebodys")
    expected = kernel.program_by_id(replaced) if replaced else None
    links.attach(links.get(name, lab.server), descriptor, "native", expected)
    number = kernel.program_info(descriptor).id
    os.close(descriptor)
    if expected is not None:
        os.close(expected)
    return number
