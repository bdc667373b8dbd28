# SPDX-License-Identifier: GPL-2.0
"""What the SYN guard of an interface must know about its link and its host, and whether its answers leave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.tables import guard
from xdpguard.net import around, offload, sharing
from xdpguard.net.answers import Egress, egress
from xdpguard.net.around import Around
from xdpguard.net.links import Link
from xdpguard.net.netns import entered

if TYPE_CHECKING:
    from xdpguard.policy.model import Guard

Seen = list[tuple[Link, Around]]  # interfaces, and what is around each


def surroundings(
    policy: Guard, link: Link, seen: Around | None = None, moved: Sequence[Link] | None = None
) -> guard.Surroundings:
    """Return what the guard of an interface must know about its link and its host, as seen or as they are now.

    ``moved``: what `sharing.moved` returned.
    """
    seen = seen or around.read(link.ifindex, link.netns)
    return guard.Surroundings(
        link.mac,
        pass_unknown=bool(others(policy, link, seen)),
        mute=egress_of_answers(link, seen).leaves is False,
        macs=seen.macs,
        locals=seen.locals,
        ports=seen.ports,
        shared=sharing.shares(link, sharing.moved() if moved is None else moved),
    )


def egress_of_answers(link: Link, seen: Around | None = None) -> Egress:
    """Return whether the guard's answers arrive in the mode of the link's program, and if not, why."""
    out = egress(link)
    if out.leaves is False or (link.xdp is not None and link.xdp.mode != "native"):
        return out
    seen = seen or around.read(link.ifindex, link.netns)
    tags = untagged(link, seen)
    if not tags:
        return out
    verb = "strips" if len(tags) == 1 else "strip"
    return Egress(
        False,
        f"{' and '.join(tags)} {verb} the VLAN tags of {', '.join(seen.vlans)}, so an answer would leave untagged",
        "detach and attach with --mode generic, which keeps the tags",
    )


def others(policy: Guard, link: Link, seen: Around) -> list[str]:
    """Return the reasons to pass segments without a socket, which may be for another host; empty if there are none."""
    if policy.translated != "auto":
        return ["the policy says so (translated=yes)"] if policy.translated == "yes" else []
    found = list(seen.others)
    with entered(link.netns):
        if kernel.attached_programs(kernel.TCX_INGRESS, link.ifindex):
            found.append("tcx programs on its ingress")
    return found


def untagged(link: Link, seen: Around) -> list[str]:
    """Return the names of the devices whose VLAN tags an answer would lack; if there are any, none is sent."""
    mode = link.xdp.mode if link.xdp else "native"
    return offload.untagged(mode, seen.receivers, link.netns) if seen.vlans else []
