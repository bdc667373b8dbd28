# SPDX-License-Identifier: GPL-2.0
"""The fixes of `doctor --fix`: only changes that nobody can object to, and that can be undone.

A fix returns what it did, in words, empty if there was nothing to do. Raises XdpguardError or OSError if it fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping

from xdpguard.control.controller import Controller
from xdpguard.dataplane.build.program import KernelDataplane
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.doctor.around import configured_guard
from xdpguard.doctor.host import JIT
from xdpguard.errors import MissingError
from xdpguard.instance import Instance
from xdpguard.net.links import Links
from xdpguard.store.database import Store

_HEADERS = "linux-libc-dev"


def _jit(instance: Instance) -> str:
    """Enable the BPF JIT compiler, the kernel's default, until the next boot."""
    del instance
    JIT.write_text("1", encoding="ascii")
    return "net.core.bpf_jit_enable is 1 until the next boot"


def _headers(instance: Instance) -> str:
    """Install the only package that compiling needs, on Debian and its derivatives."""
    del instance
    if shutil.which("apt-get") is None:
        return ""
    line = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", _HEADERS]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise MissingError(f"{_HEADERS} could not be installed", "run apt-get update and try again", done.stderr)
    return f"{_HEADERS} is installed"


def _guards(instance: Instance) -> str:
    """Update the guards' knowledge of how their answers leave."""
    pins = Pins(instance.bpffs, instance.name)
    with instance.lock(), Store(instance.store) as store:
        session = Controller(store, KernelDataplane(pins), Links())
        links = session.links()
        if not links:
            return ""
        session.guard.apply(session.guard.effective(configured_guard(store, instance)), links)
    return "the guards now know how answers leave"


FIXES: Mapping[str, Callable[[Instance], str]] = {
    "kernel": _jit,
    "kernel headers": _headers,
    "answers": _guards,
}
