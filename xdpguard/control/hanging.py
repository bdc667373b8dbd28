# SPDX-License-Identifier: GPL-2.0
"""The program at the egress of an instance's interfaces, which remembers what was sent (bpf/egress.c)."""

from __future__ import annotations

from collections.abc import Iterable

from xdpguard.closeable import opened
from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.sys.names import EGRESS
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import default
from xdpguard.net import conntrack, egress
from xdpguard.net.links import Link

_NAME = EGRESS[:15]  # as the kernel keeps it
_MAP = "sent"


def lacking(pins: Pins, links: Iterable[Link]) -> list[Link]:
    """Return the links without the program, or with one of another map; loopback interfaces need none."""
    return [it for it in links if not it.loopback and not any(_feeds(pins, hung.program) for hung in _ours(it))]


def hang(pins: Pins, links: Iterable[Link]) -> None:
    """Hang the program at the egress of links that lack it, beside the filters of others.

    What was sent before is taken over from connection tracking, so that idle connections of containers go on.
    """
    wanted = lacking(pins, links)
    if not wanted:
        return
    from xdpguard.dataplane.build import egress as program

    with opened(program.load(pins)) as descriptor:
        for it in wanted:
            egress.hang(it.name, it.ifindex, it.netns, descriptor, EGRESS, next(iter(_ours(it)), None))
    for netns in {it.netns for it in wanted}:
        default.remember(pins, conntrack.read(netns))


def take_off(link: Link) -> None:
    """Take our program off an interface's egress, if it hangs there."""
    for hung in _ours(link):
        egress.take_off(link.ifindex, link.netns, hung)


def _ours(link: Link) -> list[egress.Hung]:
    """Return where our program hangs, of whatever version: it has our name, and a map of ours."""
    return [it for it in egress.programs_at(link.ifindex, link.netns) if _is_ours(it.program)]


def _is_ours(program: int) -> bool:
    try:
        with opened(kernel.program_by_id(program)) as descriptor:
            its = kernel.program_info(descriptor)
        return its.name == _NAME and any(map(_is_its_map, its.map_ids))
    except FileNotFoundError:
        return False


def _is_its_map(number: int) -> bool:
    with opened(kernel.map_by_id(number)) as descriptor:
        return kernel.map_info(descriptor).name == _MAP


def _feeds(pins: Pins, program: int) -> bool:
    """Return whether a program writes into this instance's own maps."""
    try:
        with opened(kernel.program_by_id(program)) as descriptor:
            return kernel.pin_id(pins.folder / _MAP) in kernel.program_info(descriptor).map_ids
    except FileNotFoundError:
        return False
