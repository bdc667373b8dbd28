# SPDX-License-Identifier: GPL-2.0
"""What `doctor --fix` does by itself: what changes nothing that somebody may have wanted so, and can be taken back.

A fix returns what it has done, in words; empty: there was nothing for it to do. XdpguardError or OSError when it fails.
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
    """Lets the kernel compile BPF, which is what it does by default; until the next boot."""
    del instance
    JIT.write_text("1", encoding="ascii")
    return "net.core.bpf_jit_enable is 1 until the next boot"


def _headers(instance: Instance) -> str:
    """Installs the one package that compiling needs, where the distribution is Debian's kind."""
    del instance
    if shutil.which("apt-get") is None:
        return ""
    line = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", _HEADERS]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise MissingError(f"{_HEADERS} could not be installed", "apt-get update, and try again", done.stderr)
    return f"{_HEADERS} is installed"


def _guards(instance: Instance) -> str:
    """Tells the guards how their answers leave now."""
    pins = Pins(instance.bpffs, instance.name)
    with instance.lock(), Store(instance.store) as store:
        session = Controller(store, KernelDataplane(pins), Links())
        links = session.links()
        if not links:
            return ""
        session.guard.apply(session.guard.effective(configured_guard(store, instance)), links)
    return "the guards are told how answers leave now"


FIXES: Mapping[str, Callable[[Instance], str]] = {
    "kernel": _jit,
    "kernel headers": _headers,
    "answers": _guards,
}
