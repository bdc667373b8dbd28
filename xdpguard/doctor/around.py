# SPDX-License-Identifier: GPL-2.0
"""Checks of the host around xdpguard: interfaces and their drivers, the firewall, addresses the host needs."""

from __future__ import annotations

from pathlib import Path

from xdpguard.control import needed as needs
from xdpguard.control.answering import Reach, in_words
from xdpguard.control.audit import audit
from xdpguard.control.controller import CONFIG_FACT
from xdpguard.control.guard import answers as answering
from xdpguard.control.interfaces import Interface, Interfaces
from xdpguard.control.presence import presences, unpinned
from xdpguard.control.ruleset import Ruleset
from xdpguard.dataplane.build.program import KernelDataplane
from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.sys import pins as pinning
from xdpguard.doctor.check import Check
from xdpguard.instance import Instance
from xdpguard.net import ethtool, features, netns, queues
from xdpguard.net import firewall as rulesets
from xdpguard.net.links import Link, Links
from xdpguard.net.netns import entered, place_of
from xdpguard.policy.load import load
from xdpguard.policy.model import Guard
from xdpguard.policy.target import parse_ports
from xdpguard.store import clock
from xdpguard.store.attachments import attachments
from xdpguard.store.database import Store


def firewall(instance: Instance) -> Check:
    """Check whether the host's own firewall drops what the guard answers for."""
    namespaces = {""}
    exempt: set[int] = set()
    if instance.store.exists():
        with Store(instance.store, read_only=True) as store:
            guard = Ruleset(store, KernelDataplane(pinning.Pins(instance.bpffs, instance.name))).guard
            configured = configured_guard(store, instance)
            namespaces |= {it.netns for it in attachments(store)} & set(netns.names())
            ports = (port for text in guard.effective(configured).exempt_ports for port in parse_ports(text))
            exempt |= set(guard.published()) | {port.number for port in ports}
    found = [it for name in sorted(namespaces) for it in rulesets.warnings(name, exempt)]
    if found:
        return Check("host firewall", "warn", "; ".join(found), rulesets.REMEDY)
    return Check("host firewall", "ok", "no nftables rule found that drops a listening port", "")


def needed(instance: Instance) -> Check:
    """Check for entries that were left out because the host needs what they block."""
    with Store(instance.store, read_only=True) as store:
        found = needs.kept(store)
    if found:
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        return Check("needed addresses", "warn", f"{found[0]}{more}", found[0].remedy)
    return Check("needed addresses", "ok", "no entry blocks one", "")


def programs(instance: Instance) -> Check:
    """Check whether every recorded interface carries the program."""
    with Store(instance.store, read_only=True) as store:
        found = presences(store, pinning.Pins(instance.bpffs, instance.name).exist())
    lost = [f"{it.place} {it.fault}" for it in found.all if it.fault]
    if lost:
        remedy = (
            "what is stored is not in force there: attach again, or detach to forget it; xdpguard status shows each"
        )
        return Check("programs", "fail", "; ".join(lost), remedy)
    names = ", ".join(it.place + (" (observing)" if it.observe else "") for it in found.all)
    return Check("programs", "ok", names or "nothing is attached", "")


def entries(instance: Instance) -> Check:
    """Check whether the kernel holds the stored entries, where the program finds them."""
    pins = pinning.Pins(instance.bpffs, instance.name)
    with Store(instance.store, read_only=True) as store:
        clock.show_as_in_kernel(store, pins.exist())
        found = audit(Ruleset(store, KernelDataplane(pins)))
        lost = unpinned(store) if found is None else None
    if lost:
        return Check("entries", "fail", f"which of them the kernel holds is unknown: {lost}", lost.remedy)
    if found is None:
        return Check("entries", "ok", "nothing is attached", "")
    if not found.whole:
        lacking = ", ".join(found.missing())
        otherwise = (
            "the kernel differs from the store" if found.seeded else "the data plane's settings were overwritten"
        )
        words = f"the kernel holds only {lacking}" if lacking else otherwise
        return Check("entries", "fail", words, "attach again, or let xdpguard run restore them")
    stored = found.rules.stored + sum(it.stored for it in found.lists.values())
    return Check("entries", "ok", f"the kernel holds all {stored:,} that are stored", "")


def interfaces(instance: Instance) -> Check:
    """Check the interfaces of this network namespace and the programs on them."""
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
        fixed = [it.name for it in Interfaces(store, dataplane, Links()).all() if it.may_fix_mtu()]
    if foreign:
        remedy = f"attach to {', '.join(foreign)} only with --replace"
        return Check("interfaces", "warn", ", ".join(words), remedy)
    remedy = f"if an MTU cannot be raised: detach {', '.join(fixed)}, then attach with --mtu-any" if fixed else ""
    return Check("interfaces", "ok", ", ".join(words), remedy)


def answers(instance: Instance) -> Check:
    """Check whether the active guards can answer."""
    pins = pinning.Pins(instance.bpffs, instance.name)
    current = [it for it in _attached(instance) if pins.is_current(it.name, it.netns)]
    reach = Reach(pins, [Links().get(it.name, it.netns) for it in current])
    failing = list(reach.failing(current))
    if failing:
        words = [f"{place_of(it.name, it.netns)} {in_words(its.muted, its.why)}" for it, its in failing]
        return Check("answers", "warn", f"the SYN guard on {'; on '.join(words)}", failing[0][1].remedy)
    if not current:
        return Check("answers", "ok", "no guard is in reach that could answer", "")
    if not answering(reach.mode):
        return Check("answers", "ok", f"the SYN guard is in mode {reach.mode}, and answers nothing", "")
    names = ", ".join(place_of(it.name, it.netns) for it in current if not it.observe)
    return Check("answers", "ok", f"the SYN guard's answers leave {names or 'no interface: each only observes'}", "")


def configured_guard(store: Store, instance: Instance) -> Guard:
    """Return the guard's policy from the recorded configuration."""
    file = store.fact(CONFIG_FACT) or instance.config
    return load(Path(file)).guard if file and Path(file).is_file() else Guard()


def drivers(instance: Instance) -> Check:
    """Check the drivers of attached interfaces for missing features, and what that costs."""
    found = [_driver(Links().get(it.name, it.netns)) for it in _attached(instance)]
    lacking = [(words, remedy) for words, remedy in found if words]
    if lacking:
        return Check("drivers", "warn", "; ".join(words for words, _ in lacking), lacking[0][1])
    return Check(
        "drivers", "ok", "native mode, with no missing feature detected" if found else "nothing is attached", ""
    )


def _attached(instance: Instance) -> list[Interface]:
    dataplane = KernelDataplane(pinning.Pins(instance.bpffs, instance.name))
    with Store(instance.store, read_only=True) as store:
        return [it for it in Interfaces(store, dataplane, Links()).all() if it.state == "attached"]


def _driver(link: Link) -> tuple[str, str]:
    """Return what the driver of an attached interface lacks, and a remedy; empty if nothing."""
    place = place_of(link.name, link.netns)
    if link.xdp is None or link.xdp.mode == "native":
        cpus = kernel.possible_cpus()
        found = queues.shared(link, cpus)
        return (f"{place} has {found}", queues.remedy(link, cpus)) if found else ("", "")
    with entered(link.netns):
        reported = features.features(link.ifindex)
        try:
            merges = ethtool.gro(link.name)
        except OSError:
            merges = False
    words = f"{place} is attached in generic mode, which copies each packet"
    words += ", as its driver supports no other" if reported == 0 else ""
    if not merges:
        return words, "detach, and attach with --mode native, if its driver and its peer allow it"
    remedy = f"ethtool -K {link.name} gro off, if every segment must be counted"
    return f"{words}, and counts segments merged by GRO as one packet", remedy
