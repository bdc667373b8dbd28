# SPDX-License-Identifier: GPL-2.0
"""Which interfaces carry our program, and which should: the records in the store compared with the links."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from xdpguard.dataplane.build.program import PROGRAM_NAME, needs_frags
from xdpguard.dataplane.sys import kernel
from xdpguard.net.links import Link, NoSuchLink
from xdpguard.store.attachments import Attachment, attachments
from xdpguard.store.database import Store

State = Literal["attached", "detached", "replaced", "renamed", "gone"]

_LIFTED = "lifted"  # fact: JSON, names and namespaces
_LIMITING = "limiting"  # fact: JSON, names, namespaces and indexes; see Interfaces.note_frames
BOOT = "boot"  # fact: the boot in which program ids were recorded; the next boot reuses them


class Programs(Protocol):
    """What must be known about loaded programs."""

    def exists(self) -> bool: ...
    def owns(self, prog_id: int) -> bool: ...
    def owned(self, prog_ids: Iterable[int]) -> set[int]: ...
    def name_of(self, prog_id: int) -> str: ...


class LinkList(Protocol):
    """What must be known about links."""

    def get(self, name: str, namespace: str = "") -> Link: ...
    def all(self, namespace: str = "") -> list[Link]: ...
    def namespaces(self) -> list[str]: ...


@dataclass
class Interface:
    """An attachment in its current state; ``prog_id`` is None while the interface does not carry our program.

    ``other``: the id of the program that has replaced ours; 0: none has. ``limiting``: see `Interfaces.note_frames`.
    """

    name: str
    netns: str
    mode: str
    observe: bool
    prog_id: int | None
    state: State
    ifindex: int = 0  # 0: the interface does not exist
    any_mtu: bool = False  # the program was asked to accept frames in several buffers
    mtu: int = 0  # bytes; 0: the interface does not exist
    other: int = 0
    limiting: bool = False

    def may_fix_mtu(self) -> bool:
        """Return whether a driver may refuse a larger MTU because of a program that accepts frames in one buffer."""
        single = self.limiting or not (self.any_mtu or needs_frags(self.mtu))
        return self.prog_id is not None and self.mode == "native" and single


class Interfaces:
    """The interfaces of one instance."""

    def __init__(self, store: Store, dataplane: Programs, links: LinkList) -> None:
        self._store = store
        self._dataplane = dataplane
        self._links = links

    def all(self) -> list[Interface]:
        """Return every interface that carries our program or should, in its current state."""
        found = [self.look(known) for known in attachments(self._store)]
        for link in self.orphans():
            if link.xdp and link.xdp.prog_id not in {it.prog_id for it in found}:
                found.append(
                    Interface(link.name, link.netns, link.xdp.mode, False, link.xdp.prog_id, "attached", mtu=link.mtu)
                )
        return found

    def known(self, name: str, netns: str) -> Attachment | None:
        """Return the record of an interface, or None."""
        return next((it for it in attachments(self._store) if (it.name, it.netns) == (name, netns)), None)

    def ours(self, link: Link, known: Attachment | None) -> bool:
        """Return whether a link, with its record if any, carries this instance's program."""
        if link.xdp is None:
            return False
        if self._dataplane.owns(link.xdp.prog_id):
            return True
        # Pins can be lost (a new BPF file system); within one boot, the record and the name still identify it.
        recorded = (
            known is not None and known.prog_id == link.xdp.prog_id and self._store.fact(BOOT) == kernel.boot_id()
        )
        return recorded and self._dataplane.name_of(link.xdp.prog_id) == PROGRAM_NAME

    def renamed(self, known: Attachment) -> Link | None:
        """Find an interface that was renamed or moved: return the link that carries its program, or None."""
        links = (link for namespace in self._namespaces() for link in self._links.all(namespace))
        return next((it for it in links if it.xdp and it.xdp.prog_id == known.prog_id and self.ours(it, known)), None)

    def orphans(self) -> list[Link]:
        """Return the links, in any namespace, that carry our program without being recorded."""
        if not self._dataplane.exists():
            return []
        recorded = {(it.name, it.netns) for it in attachments(self._store)}
        links = (link for namespace in self._namespaces() for link in self._links.all(namespace))
        found = [(it, it.xdp.prog_id) for it in links if it.xdp and (it.name, it.netns) not in recorded]
        ours = self._dataplane.owned({number for _, number in found})
        return [link for link, number in found if number in ours]

    def above(self, lower: Link, is_above: Callable[[Link, Link], bool]) -> list[Link]:
        """Return the links, in any namespace, that carry a program and are directly above ``lower``."""
        links = (link for namespace in self._namespaces() for link in self._links.all(namespace))
        return [it for it in links if it.xdp and is_above(it, lower)]

    def is_ours(self, link: Link) -> bool:
        """Return whether a link carries this instance's program, recorded or not."""
        return self.ours(link, self.known(link.name, link.netns))

    def lifted(self) -> set[tuple[str, str]]:
        """Return the interfaces whose program is detached during a change below them, or since one that was killed."""
        return {(name, netns) for name, netns in json.loads(self._store.fact(_LIFTED) or "[]")}

    def note_lifted(self, places: Iterable[tuple[str, str]]) -> None:
        """Record the interfaces whose program is detached during a change; empty: all carry theirs again."""
        with self._store.transaction():
            self._store.put_fact(_LIFTED, json.dumps(sorted(places)))

    def note_frames(self, link: Link, mode: str, any_mtu: bool) -> None:
        """Record whether a program attached to a link accepts frames in one buffer only. Call within a transaction.

        A driver may keep the MTU limit of the first such program until none is attached: a larger MTU of the link
        itself does not lift it, nor does the next program (drivers/net/veth.c, veth_xdp_set).
        """
        place = (link.name, link.netns, link.ifindex)
        swapped = link.xdp is not None and link.xdp.mode == "native"
        single = not (any_mtu or needs_frags(link.mtu)) or (swapped and place in self._limiting())
        known = {(it.name, it.netns) for it in attachments(self._store)}
        kept = {it for it in self._limiting() if it[:2] in known and it[:2] != place[:2]}
        kept |= {place} if single and mode == "native" else set()
        self._store.put_fact(_LIMITING, json.dumps(sorted(kept)))

    def _limiting(self) -> set[tuple[str, str, int]]:
        """Return name, namespace and index of the links whose MTU a program may limit."""
        return {(name, netns, index) for name, netns, index in json.loads(self._store.fact(_LIMITING) or "[]")}

    def note_on(self, name: str, netns: str) -> None:
        """Record that an interface carries its program again, whoever attached it."""
        left = self.lifted()
        if (name, netns) in left:
            self.note_lifted(left - {(name, netns)})

    def look(self, known: Attachment) -> Interface:
        """Return a recorded interface in its current state."""
        try:
            link = self._links.get(known.name, known.netns)
        except NoSuchLink:
            moved = self.renamed(known)
            if moved and moved.xdp:
                return _of(moved, known, moved.xdp.mode, moved.xdp.prog_id, "renamed")
            return _of(None, known, known.mode, None, "gone")
        if link.xdp is None:
            return _of(link, known, known.mode, None, "detached")
        if not self.ours(link, known):
            its = _of(link, known, link.xdp.mode, None, "replaced")
            its.other = link.xdp.prog_id
            return its
        its = _of(link, known, link.xdp.mode, link.xdp.prog_id, "attached")
        its.limiting = (link.name, link.netns, link.ifindex) in self._limiting()
        return its

    def _namespaces(self) -> list[str]:
        recorded = {it.netns for it in attachments(self._store)}
        return list(dict.fromkeys(["", *self._links.namespaces(), *sorted(recorded)]))


def _of(link: Link | None, known: Attachment, mode: str, prog_id: int | None, state: State) -> Interface:
    """Build an Interface from a record and the link found for it, or None if there is none."""
    index, mtu = (link.ifindex, link.mtu) if link else (0, 0)
    return Interface(known.name, known.netns, mode, known.observe, prog_id, state, index, known.any_mtu, mtu)
