# SPDX-License-Identifier: GPL-2.0
"""Whether this machine has what xdpguard needs. Every finding that is not in order comes with its remedy."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from xdpguard import needed
from xdpguard.answering import Reach, in_words
from xdpguard.controller import CONFIG_FACT
from xdpguard.dataplane import btf, kernel, tracepoints
from xdpguard.dataplane import pins as pinning
from xdpguard.dataplane.program import KernelDataplane, Target
from xdpguard.errors import XdpguardError
from xdpguard.guardbook import Guardbook, answers
from xdpguard.instance import Instance
from xdpguard.inventory import Inventory
from xdpguard.lists.store import Store
from xdpguard.net import firewall, netns, sysctl
from xdpguard.net.links import Links
from xdpguard.net.netns import place_of
from xdpguard.policy.load import load
from xdpguard.policy.model import Guard, Policy
from xdpguard.policy.target import parse_ports
from xdpguard.privileges import require_privileges

_OLDEST_KERNEL = (5, 15)


class Check(NamedTuple):
    """One finding. ``warn`` does not keep xdpguard from working."""

    name: str
    result: Literal["ok", "warn", "fail"]
    finding: str
    remedy: str


def run(instance: Instance) -> list[Check]:
    """Every check, in the order in which attaching would need them."""
    checks: list[tuple[str, Callable[[Instance], Check]]] = [
        ("privileges", _privileges),
        ("kernel", _kernel),
        ("bcc", _bcc),
        ("kernel headers", _headers),
        ("BPF file system", _bpffs),
        ("state directory", _state),
        ("data plane", _compiles),
        ("SYN guard", _guard),
        ("host firewall", _firewall),
        ("TCP", _tcp),
        ("interfaces", _interfaces),
        ("answers", _answers),
        ("needed addresses", _needed),
    ]
    found = []
    for name, check in checks:
        try:
            found.append(check(instance))
        except XdpguardError as error:
            found.append(Check(name, "fail", str(error), error.remedy))
        except OSError as error:
            found.append(Check(name, "fail", error.strerror or str(error), "run it with sudo"))
    return found


def _privileges(instance: Instance) -> Check:
    del instance
    require_privileges()
    return Check("privileges", "ok", "BPF and network administration are allowed", "")


def _kernel(instance: Instance) -> Check:
    del instance
    release, version = platform.release(), kernel.release()
    if version is not None and version < _OLDEST_KERNEL:
        return Check("kernel", "fail", f"{release} is too old", "use Linux 5.15 or later")
    jit = Path("/proc/sys/net/core/bpf_jit_enable")
    if jit.exists() and jit.read_text(encoding="ascii").strip() == "0":
        return Check("kernel", "warn", f"{release}, BPF interpreted", "sysctl -w net.core.bpf_jit_enable=1")
    return Check("kernel", "ok", release, "")


def _bcc(instance: Instance) -> Check:
    del instance
    from xdpguard.dataplane.compiler import import_bcc

    bcc = import_bcc()
    return Check("bcc", "ok", f"{getattr(bcc, '__version__', 'unknown version')} for {sys.executable}", "")


def _headers(instance: Instance) -> Check:
    del instance
    from xdpguard.dataplane.compiler import require_headers

    require_headers()
    return Check("kernel headers", "ok", "the C library's are there; a kernel source tree is not needed", "")


def _bpffs(instance: Instance) -> Check:
    if instance.bpffs.is_dir() and pinning.is_bpffs(instance.bpffs):
        return Check("BPF file system", "ok", str(instance.bpffs), "")
    pinning.ensure_bpffs(instance.bpffs)
    return Check("BPF file system", "ok", f"{instance.bpffs}, mounted just now", "")


def _state(instance: Instance) -> Check:
    with instance.lock():
        pass
    if instance.store.exists():
        with Store(instance.store, read_only=True) as store:
            count = len(store.rules())
        return Check("state directory", "ok", f"{instance.store}, {count} rules", "")
    return Check("state directory", "ok", f"{instance.store.parent}, no rules yet", "")


def _compiles(instance: Instance) -> Check:
    # A short-lived instance of its own: nothing of the real one is touched.
    for stale in (instance.bpffs / "xdpguard").glob("doctor-*"):
        if not Path(f"/proc/{stale.name.removeprefix('doctor-')}").exists():
            pinning.Pins(instance.bpffs, stale.name).remove_all()
    pins = pinning.Pins(instance.bpffs, f"doctor-{os.getpid()}")
    try:
        with KernelDataplane(pins).build(Target("doctor", "", 1500, False, True), Policy()):
            return Check("data plane", "ok", "compiles, and the kernel takes it", "")
    finally:
        pins.remove_all()


def _guard(instance: Instance) -> Check:
    del instance
    if not btf.switches():
        found = "no kernel type information (BTF): SYN cookies carry the MSS only, full queues are not seen"
        return Check("SYN guard", "warn", found, "use a kernel with CONFIG_DEBUG_INFO_BTF, and libbpf 1")
    value = sysctl.read("net.ipv4.tcp_syncookies")
    if value == "0":
        remedy = "sysctl -w net.ipv4.tcp_syncookies=1, or let xdpguard run raise it while a flood lasts"
        return Check("SYN guard", "warn", "net.ipv4.tcp_syncookies is 0: no cookie can be sent", remedy)
    return Check("SYN guard", "ok", f"the kernel tells what it needs; net.ipv4.tcp_syncookies is {value}", "")


def _firewall(instance: Instance) -> Check:
    namespaces = {""}
    exempt: set[int] = set()
    if instance.store.exists():
        with Store(instance.store, read_only=True) as store:
            book = Guardbook(store, pinning.Pins(instance.bpffs, instance.name))
            file = store.fact(CONFIG_FACT) or instance.config
            configured = load(Path(file)).guard if file and Path(file).is_file() else Guard()
            namespaces |= {it.netns for it in store.attachments()} & set(netns.names())
            ports = (port for text in book.effective(configured).exempt_ports for port in parse_ports(text))
            exempt |= set(book.published()) | {port.number for port in ports}
    found = [it for name in sorted(namespaces) for it in firewall.sentences(name, exempt)]
    if found:
        return Check("host firewall", "warn", "; ".join(found), firewall.REMEDY)
    return Check("host firewall", "ok", "no rule of nftables is seen to drop a listening port", "")


def _tcp(instance: Instance) -> Check:
    del instance
    tracepoints.require_tracepoints([])
    missing = [name for name in tracepoints.KNOWN if not tracepoints.format_of(name)]
    if missing:
        return Check("TCP", "warn", f"no tracepoint {', '.join(missing)}", "use a kernel with CONFIG_BPF_EVENTS")
    if not btf.tcp_switches():
        found = "no kernel type information (BTF): xdpguard tcp can do no more than states"
        return Check("TCP", "warn", found, "use a kernel with CONFIG_DEBUG_INFO_BTF, and libbpf 1")
    return Check("TCP", "ok", f"{len(tracepoints.KNOWN)} tracepoints", "")


def _needed(instance: Instance) -> Check:
    with Store(instance.store, read_only=True) as store:
        found = needed.kept(store)
    if found:
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        return Check("needed addresses", "warn", f"{found[0]}{more}", found[0].remedy)
    return Check("needed addresses", "ok", "no entry had to be left out for one", "")


def _interfaces(instance: Instance) -> Check:
    pins = pinning.Pins(instance.bpffs, instance.name)
    dataplane = KernelDataplane(pins)
    words, foreign = [], []
    for link in Links().all():
        if link.xdp is None:
            words.append(link.name)
        elif pins.exist() and dataplane.owns(link.xdp.prog_id):
            words.append(f"{link.name} (ours, {link.xdp.mode})")
        else:
            words.append(f"{link.name} (program {link.xdp.prog_id}, {dataplane.name_of(link.xdp.prog_id)})")
            foreign.append(link.name)
    with Store(instance.store, read_only=True) as store:
        fixed = [it.name for it in Inventory(store, dataplane, Links()).interfaces() if it.may_fix_mtu()]
    if foreign:
        remedy = f"attach to {', '.join(foreign)} only with --replace"
        return Check("interfaces", "warn", ", ".join(words), remedy)
    remedy = f"if an MTU cannot be raised: detach {', '.join(fixed)} first, or attach with --mtu-any" if fixed else ""
    return Check("interfaces", "ok", ", ".join(words), remedy)


def _answers(instance: Instance) -> Check:
    """Whether the guards that are on can answer."""
    pins = pinning.Pins(instance.bpffs, instance.name)
    links = Links()
    with Store(instance.store, read_only=True) as store:
        attached = [it for it in Inventory(store, KernelDataplane(pins), links).interfaces() if it.state == "attached"]
    current = [it for it in attached if pins.is_current(it.name, it.netns)]
    reach = Reach(pins, [links.get(it.name, it.netns) for it in current])
    failing = list(reach.failing(current))
    if failing:
        words = [f"{place_of(it.name, it.netns)} {in_words(its.muted, its.why)}" for it, its in failing]
        return Check("answers", "warn", f"the SYN guard on {'; on '.join(words)}", failing[0][1].remedy)
    if not current:
        return Check("answers", "ok", "nothing is attached, so the SYN guard has nothing to answer", "")
    if not answers(reach.mode):
        return Check("answers", "ok", f"the SYN guard is in mode {reach.mode}, and answers nothing", "")
    names = ", ".join(place_of(it.name, it.netns) for it in current if not it.observe)
    return Check("answers", "ok", f"those of the SYN guard leave {names or 'no interface: each only observes'}", "")
