# SPDX-License-Identifier: GPL-2.0
"""Frames whose IP header a program on an interface cannot read, because a device above it decapsulates them.

MACsec encrypts everything after the MAC addresses; HSR, batman-adv and a switch's own tag (DSA) insert a header before
the IP header. Such frames pass as ``non_ip``. PRP appends a trailer, and sends every frame over two links.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from xdpguard.net.hsr import PRP
from xdpguard.net.links import Link

# The kernel's names for these kinds of devices, and the usual ones. A macsec device and, from Linux 6.0 on, a dsa port
# name the device below in IFLA_LINK, a batadv link the one above in IFLA_MASTER, an HSR or PRP device its two links.
_OPAQUE = {"macsec": "MACsec", "hsr": "HSR", "dsa": "DSA", "batadv": "batman-adv"}
_NETS = Path("/sys/class/net")


def notes(link: Link, links: Iterable[Link], nets: Path = _NETS) -> list[str]:
    """Return the warnings for an interface under such a device; ``links``: every link of its namespace.

    ``nets`` is the directory in which the kernel lists the interfaces of this process's own namespace.
    """
    above = _above(link, list(links))
    found = [_note(link, it) for it in above if it.kind in _OPAQUE and it.kind != "dsa"]
    tag, ports = _tag(link, nets), [it.name for it in above if it.kind == "dsa"]
    if tag or ports:
        found.append(_conduit(link, tag, ports))
    found += [
        f"every packet for {it.name} (PRP) arrives over {link.name} and over a second link; attach to {it.name} instead"
        for it in above
        if it.kind == PRP
    ]
    return found


def _conduit(link: Link, tag: str, ports: Sequence[str]) -> str:
    named = f": {', '.join(ports)}" if ports else ""
    return (
        f"{link.name} is a switch's conduit ({f'DSA, tag {tag}' if tag else 'DSA'}): where its tag precedes the IP"
        f" header, frames pass as non_ip, whatever is blocked; attach to the switch's ports as well{named}"
    )


def _note(link: Link, upper: Link) -> str:
    return (
        f"frames for {upper.name} ({_OPAQUE[upper.kind]}) cannot be read on {link.name}: they pass as non_ip, whatever"
        f" is blocked; attach to {upper.name} as well"
    )


def _tag(link: Link, nets: Path) -> str:
    """Return the name of the switch tag on this interface's frames; empty if it is not a switch's conduit."""
    if link.netns:
        return ""  # its directory is not visible here; from Linux 6.0 on the ports name it
    try:
        return (nets / link.name / "dsa" / "tagging").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _above(link: Link, links: Sequence[Link]) -> list[Link]:
    """Return every device above an interface in its namespace, nearest first."""
    found: list[Link] = []
    waiting = [link]
    while waiting:
        at = waiting.pop(0)
        for it in links:
            if it.ifindex != link.ifindex and it not in found and _stands_on(it, at):
                found.append(it)
                waiting.append(it)
    return found


def _stands_on(upper: Link, lower: Link) -> bool:
    # With a namespace id, the index is that of a device in another namespace.
    below = upper.lower == lower.ifindex and upper.lower_nsid is None
    return below or lower.master == upper.ifindex or lower.ifindex in upper.members
