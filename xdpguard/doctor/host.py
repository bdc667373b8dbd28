# SPDX-License-Identifier: GPL-2.0
"""Checks of the machine itself: privileges, kernel, compiler, directories."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from xdpguard.dataplane.build import tracepoints
from xdpguard.dataplane.build.program import KernelDataplane, Target
from xdpguard.dataplane.sys import btf, kernel
from xdpguard.dataplane.sys import pins as pinning
from xdpguard.dataplane.sys.bpffs import ensure_bpffs, is_bpffs
from xdpguard.doctor.check import Check
from xdpguard.instance import Instance, require_privileges
from xdpguard.net import sysctl
from xdpguard.policy.model import Policy
from xdpguard.store.database import Store
from xdpguard.units import counted

_OLDEST_KERNEL = (5, 15)
JIT = Path("/proc/sys/net/core/bpf_jit_enable")
# Features the data plane manages without on older kernels, by the version that introduced them.
_SINCE = {
    (5, 18): "jumbo frames in native mode",
    (6, 0): "SYN cookies computed in the data plane",
    (6, 3): "drivers that report their XDP features",
}


def privileges(instance: Instance) -> Check:
    """Check whether BPF and network administration are permitted."""
    del instance
    require_privileges()
    return Check("privileges", "ok", "BPF and network administration are permitted", "")


def running_kernel(instance: Instance) -> Check:
    """Check whether the kernel is recent enough, and compiles BPF."""
    del instance
    release, version = platform.release(), kernel.release()
    if version is not None and version < _OLDEST_KERNEL:
        return Check("kernel", "fail", f"{release} is too old", "use Linux 5.15 or later")
    if JIT.exists() and JIT.read_text(encoding="ascii").strip() == "0":
        return Check("kernel", "warn", f"{release}, BPF interpreted", "sysctl -w net.core.bpf_jit_enable=1")
    lacking = [what for since, what in _SINCE.items() if version is not None and version < since]
    return Check("kernel", "ok", f"{release}, without {', '.join(lacking)}" if lacking else release, "")


def bcc(instance: Instance) -> Check:
    """Check whether this Python has bcc."""
    del instance
    from xdpguard.dataplane.build.compiler import import_bcc

    bcc = import_bcc()
    return Check("bcc", "ok", f"{getattr(bcc, '__version__', 'unknown version')} for {sys.executable}", "")


def headers(instance: Instance) -> Check:
    """Check whether the C library's kernel headers are installed."""
    del instance
    from xdpguard.dataplane.build.compiler import require_headers

    require_headers()
    return Check("kernel headers", "ok", "the C library's are installed; no kernel source tree is needed", "")


def bpffs(instance: Instance) -> Check:
    """Check whether the BPF file system is mounted; mount it if it is not."""
    if instance.bpffs.is_dir() and is_bpffs(instance.bpffs):
        return Check("BPF file system", "ok", str(instance.bpffs), "")
    ensure_bpffs(instance.bpffs)
    return Check("BPF file system", "ok", f"{instance.bpffs}, just mounted", "")


def state(instance: Instance) -> Check:
    """Check whether the state can be read and written."""
    with instance.lock():
        pass
    if instance.store.exists():
        with Store(instance.store, read_only=True) as store:
            count = len(store.rules())
        return Check("state directory", "ok", f"{instance.store}, {counted(count, 'rule')}", "")
    return Check("state directory", "ok", f"{instance.store.parent}, no rules yet", "")


def compiles(instance: Instance) -> Check:
    """Check whether the data plane compiles, and the kernel accepts it."""
    # A short-lived instance of its own, so that the real one is not touched.
    for stale in (instance.bpffs / "xdpguard").glob("doctor-*"):
        if not Path(f"/proc/{stale.name.removeprefix('doctor-')}").exists():
            pinning.Pins(instance.bpffs, stale.name).remove_all()
    pins = pinning.Pins(instance.bpffs, f"doctor-{os.getpid()}")
    try:
        with KernelDataplane(pins).build(Target("doctor", "", 1500, False, True), Policy()):
            return Check("data plane", "ok", "compiles, and the kernel accepts it", "")
    finally:
        pins.remove_all()


def guard(instance: Instance) -> Check:
    """Check the kernel for what the SYN guard needs."""
    del instance
    if not btf.switches():
        found = "no kernel type information (BTF): SYN cookies carry only the MSS, full queues are not detected"
        return Check("SYN guard", "warn", found, "use a kernel with CONFIG_DEBUG_INFO_BTF, and libbpf 1")
    value = sysctl.read("net.ipv4.tcp_syncookies")
    if value == "0":
        remedy = "sysctl -w net.ipv4.tcp_syncookies=1, or let xdpguard run raise it while a flood lasts"
        return Check("SYN guard", "warn", "net.ipv4.tcp_syncookies is 0: no cookies can be sent", remedy)
    return Check("SYN guard", "ok", f"the kernel provides what it needs; net.ipv4.tcp_syncookies is {value}", "")


def tcp(instance: Instance) -> Check:
    """Check the kernel for what `xdpguard tcp` needs."""
    del instance
    tracepoints.require_tracepoints([])
    missing = [name for name in tracepoints.KNOWN if not tracepoints.format_of(name)]
    if missing:
        return Check("TCP", "warn", f"no tracepoint {', '.join(missing)}", "use a kernel with CONFIG_BPF_EVENTS")
    if not btf.tcp_switches():
        found = "no kernel type information (BTF): only xdpguard tcp states works"
        return Check("TCP", "warn", found, "use a kernel with CONFIG_DEBUG_INFO_BTF, and libbpf 1")
    return Check("TCP", "ok", f"{len(tracepoints.KNOWN)} tracepoints", "")
