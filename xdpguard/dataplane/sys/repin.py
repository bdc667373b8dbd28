# SPDX-License-Identifier: GPL-2.0
"""Pins that somebody removed: the maps live on while a program uses them, so they can be pinned again.

Except a map of programs, which the kernel empties with its last pin (bpf_fd_array_map_clear()): only an attach brings
those programs back.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.sys.names import PROGRAMS_MAP
from xdpguard.dataplane.sys.pins import Pins

# The maps of bpf/maps.h by where they are pinned: below XG_PINS, and below XG_LINK_PINS without the map of programs.
SHARED_MAPS = frozenset(
    (
        *("settings", "allow4", "allow6", "deny4", "deny6", "deny4_prefix", "deny6_prefix", "deny4_nets", "deny6_nets"),
        *("list_index", "list_nets4", "list_nets6", "list_hits", "shadow_index", "shadow_nets4", "shadow_nets6"),
        *("shadow4", "shadow6", "shadow_hits", "ports", "hits", "sources4", "sources6", "tuples4", "tuples6"),
        *("guard_policy", "buckets", "events", "drops", "drop_reader", "connections", "sent", "served"),
        "cuts",
        *("filter_set", "filter_hits", "filter_buckets", "source_buckets"),
    )
)
LINK_MAPS = frozenset(("above", "counters", "flights", "guard", "kept", "locals4", "locals6", "macs"))
_PINNED_AS = {"guards": "guard"}  # maps that are pinned by another name than their own


def lost_programs(folder: Path) -> bool:
    """Return whether an interface has lost its map of programs; ``folder``: of the interface's own maps."""
    return not any(name.startswith(PROGRAMS_MAP) for name in _names(folder) or ())


def missing(pins: Pins) -> set[Path]:
    """Return the pins that a set which exists in part lacks; empty where there is none at all.

    The map of programs of an interface has a number in its name, so one stands for all.
    """
    shared = _names(pins.folder)
    if shared is None:
        return set()
    lost = {pins.folder / name for name in SHARED_MAPS - shared}
    links = pins.folder / "links"
    for folder in map(links.joinpath, _names(links) or ()):
        own = _names(folder) or set()
        lost |= {folder / name for name in LINK_MAPS - own}
        if lost_programs(folder):
            lost.add(folder / f"{PROGRAMS_MAP}-1")
    return lost


def repin(pins: Pins, folder: Path, program: int) -> set[Path]:
    """Pin what is missing of the maps that an attached program uses, by its id; return the new pins.

    ``folder``: that of the interface's own maps.

    Empty if the program uses no map that is still pinned: it is of another version.
    """
    if not known(pins, program):
        return set()
    lost = missing(pins)
    made = set()
    for descriptor in _maps(program):
        name = kernel.map_info(descriptor).name
        path = _path(pins, folder, _PINNED_AS.get(name, name))
        if path in lost and not path.exists():
            kernel.pin(str(path), descriptor)
            made.add(path)
    return made


def known(pins: Pins, program: int) -> bool:
    """Return whether a program uses a map that is pinned for this version."""
    pinned = {kernel.pin_id(path) for path in pins.names()}
    return any(kernel.map_info(it).id in pinned for it in _maps(program))


def _path(pins: Pins, folder: Path, name: str) -> Path:
    return (folder if name in LINK_MAPS else pins.folder) / name


def _maps(program: int) -> Iterator[int]:
    """Yield a descriptor of each map that a program, or one it calls, uses."""
    left, seen = [program], set()
    while left:
        seen.add(of := left.pop())
        for map_id in _map_ids(of):
            with contextlib.ExitStack() as held:
                descriptor = kernel.map_by_id(map_id)
                held.callback(os.close, descriptor)
                if kernel.map_info(descriptor).type == kernel.MAP_PROGRAMS:
                    left += [it for it in _called(descriptor) if it not in seen]
                yield descriptor


def _map_ids(program: int) -> Iterable[int]:
    try:
        descriptor = kernel.program_by_id(program)
    except FileNotFoundError:
        return ()
    try:
        return kernel.program_info(descriptor).map_ids
    finally:
        os.close(descriptor)


def _called(programs: int) -> list[int]:
    """Return the ids of the programs in a map of programs."""
    room = kernel.map_info(programs).max_entries
    found = (kernel.lookup(programs, place.to_bytes(4, "little"), 4) for place in range(room))
    return [int.from_bytes(it, "little") for it in found if it]


def _names(folder: Path) -> set[str] | None:
    try:
        return {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return None
