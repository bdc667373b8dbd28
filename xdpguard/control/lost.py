# SPDX-License-Identifier: GPL-2.0
"""Pinned maps that are incomplete: removed by hand while a program uses them, or left by an attach that was killed."""

from __future__ import annotations

from xdpguard.control.interfaces import Interfaces
from xdpguard.dataplane.build.program import KernelDataplane
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.sys.repin import lost_programs, missing, repin
from xdpguard.net.links import Links
from xdpguard.net.netns import arguments_of, place_of
from xdpguard.store.database import Store


def restore(store: Store, pins: Pins) -> list[str]:
    """Pin again what the attached programs use, and remove the incomplete rest of an attach that was killed.

    Returns notes. The caller holds the instance's lock and has found pins missing.
    """
    found = Interfaces(store, KernelDataplane(pins), Links()).all()
    attached = {pins.link_folder(it.name, it.netns): it.prog_id for it in found if it.prog_id is not None}
    made = {path.name for folder, program in attached.items() for path in repin(pins, folder, program)}
    notes = [f"pins of maps in use were missing and are restored: {', '.join(sorted(made))}"] if made else []
    for it in found:
        if it.prog_id is not None and lost_programs(pins.link_folder(it.name, it.netns)):
            notes.append(
                f"the program on {place_of(it.name, it.netns)} has lost the SYN guard and shadow entries, as the pin"
                f" of its programs was removed; attach again: xdpguard attach {arguments_of(it.name, it.netns)}"
            )
    left = {path.parent for path in missing(pins)} - set(attached)
    if attached:
        left.discard(pins.folder)  # what no program uses is made by the next attach
    for folder in left:
        pins.remove_folder(folder)
    if left:
        pins.tidy()
        notes.append("removed the incomplete maps of an attach that did not finish")
    return notes
