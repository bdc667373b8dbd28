# SPDX-License-Identifier: GPL-2.0
"""Choose a mode in which a program accepts frames in several buffers, so that the MTU can be raised later."""

from __future__ import annotations

from xdpguard.errors import XdpguardError
from xdpguard.net.features import no_frags
from xdpguard.net.links import Link, WantedMode
from xdpguard.net.netns import place_of


def mode_for_any_mtu(link: Link, wanted: WantedMode) -> tuple[WantedMode, list[str]]:
    """Return the mode to attach in, with notes. Raise XdpguardError if native mode is wanted but cannot accept them.

    Generic mode works with every device and kernel: the kernel copies such a frame into one buffer.
    """
    carried = link.xdp.mode if link.xdp else wanted  # modes cannot be swapped
    reason = no_frags(link) if carried != "generic" else ""
    if not reason:
        return wanted, []
    if carried == "auto":
        return "generic", [f"{reason}: attached in generic mode, which is slower"]
    raise XdpguardError(
        f"--mtu-any is not possible on {place_of(link.name, link.netns)} in native mode: {reason}",
        f"leave it out, or {'detach it first and ' if link.xdp else ''}use --mode generic, in which any MTU works",
    )
