# SPDX-License-Identifier: GPL-2.0
"""Whether a driver has a queue for each CPU to send on what an XDP program answers.

virtio_net takes one more for each possible CPU when a program comes (virtnet_xdp_set, drivers/net/virtio_net.c). Where
they are not there, CPUs share those that are under a lock, from 5.16 on; before, native mode is refused.
``cpus``: how many are possible.
"""

from __future__ import annotations

from xdpguard.net import ethtool
from xdpguard.net.links import Link
from xdpguard.net.netns import entered, place_of

_DRIVER = "virtio_net"


def shared(link: Link, cpus: int) -> str:
    """How the CPUs share queues for answers in native mode, in words; empty where each has one, or nobody can tell."""
    try:
        with entered(link.netns):
            if ethtool.driver(link.name) != _DRIVER:
                return ""
            found = ethtool.channels(link.name)
    except OSError:
        return ""
    attached = link.xdp is not None and link.xdp.mode == "native"
    # With a program, those of the CPUs are counted too, where they were to be had.
    if found.combined + cpus <= found.most or (attached and found.combined > cpus):
        return ""
    pairs = "pair" if found.combined == 1 else "pairs"
    return (
        f"{found.combined} {pairs} of queues (at most {found.most}): its {cpus} CPUs send answers in turn, under a lock"
    )


def remedy(link: Link, cpus: int) -> str:
    """What gives each CPU one."""
    return (
        f"give the machine {2 * cpus} (qemu: queues={2 * cpus} and mq=on; libvirt: <driver queues='{2 * cpus}'/>) and "
        f"use half of them: ethtool -L {link.name} combined {cpus}, before attaching"
    )


def notes(link: Link, mode: str, cpus: int) -> list[str]:
    """What a person should know of an interface that has just been attached in a mode; ``link``: as it was before."""
    found = shared(link, cpus) if mode == "native" else ""
    place = place_of(link.name, link.netns)
    return (
        [f"{place} has {found}, so that the guard answers fewer SYNs a second; {remedy(link, cpus)}"] if found else []
    )
