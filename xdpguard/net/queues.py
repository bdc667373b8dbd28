# SPDX-License-Identifier: GPL-2.0
"""Whether a driver has a transmit queue for each CPU to send XDP answers.

virtio_net claims one more per possible CPU when a program is attached (virtnet_xdp_set, drivers/net/virtio_net.c).
Where there are too few, CPUs share them under a lock from Linux 5.16 on; before, native mode is refused.
``cpus``: the number of possible CPUs.
"""

from __future__ import annotations

from xdpguard.net import ethtool
from xdpguard.net.links import Link
from xdpguard.net.netns import entered, place_of

_DRIVER = "virtio_net"


def shared(link: Link, cpus: int) -> str:
    """Describe how CPUs share transmit queues in native mode; empty if each has its own, or it is not known."""
    try:
        with entered(link.netns):
            if ethtool.driver(link.name) != _DRIVER:
                return ""
            found = ethtool.channels(link.name)
    except OSError:
        return ""
    attached = link.xdp is not None and link.xdp.mode == "native"
    # With a program attached, the queues of the CPUs are counted too, if they were available.
    if found.combined + cpus <= found.most or (attached and found.combined > cpus):
        return ""
    pairs = "pair" if found.combined == 1 else "pairs"
    return f"{found.combined} {pairs} of queues (at most {found.most}): {cpus} CPUs share them under a lock to answer"


def remedy(link: Link, cpus: int) -> str:
    """Return the remedy that gives each CPU a queue of its own."""
    return (
        f"give the machine {2 * cpus} (qemu: queues={2 * cpus} and mq=on; libvirt: <driver queues='{2 * cpus}'/>) and "
        f"use half of them: ethtool -L {link.name} combined {cpus}, before attaching"
    )


def notes(link: Link, mode: str, sharing: str, cpus: int) -> list[str]:
    """Return the warnings for an interface just attached in a mode.

    ``sharing``: what `shared` said before: afterwards the driver counts the queues that the CPUs have got as its own.
    """
    if not sharing or mode != "native":
        return []
    place = place_of(link.name, link.netns)
    return [f"{place} has {sharing}, so that the guard answers fewer SYNs a second; {remedy(link, cpus)}"]
