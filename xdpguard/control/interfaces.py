# SPDX-License-Identifier: GPL-2.0
"""Which interfaces carry our program, and which should: the records of the store held against the links."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from xdpguard.dataplane.build.program import PROGRAM_NAME, needs_frags
from xdpguard.dataplane.sys import kernel
from xdpguard.net.links import Link, NoSuchLink
from xdpguard.store.database import Attachment, Store

State = Literal["attached", "detached", "replaced", "renamed", "gone"]

_LIFTED = "lifted"  # fact: JSON, names and namespaces
BOOT = "boot"  # fact: the boot in which program ids were recorded; they begin anew with the next


class Programs(Protocol):
    """What is to be known of loaded programs."""

    def exists(self) -> bool: ...
    def owns(self, prog_id: int) -> bool: ...
    def name_of(self, prog_id: int) -> str: ...


class LinkList(Protocol):
    """What is to be known of links."""

    def get(self, name: str, namespace: str = "") -> Link: ...
    def all(self, namespace: str = "") -> list[Link]: ...
    def namespaces(self) -> list[str]: ...


@dataclass
class Interface:
    """An attachment as it is: ``prog_id`` and ``mode`` of our program, None and empty where it is not there.

    ``ifindex``: of the interface of that name; 0: there is none.
    """

    name: str
    netns: str
    mode: str
    observe: bool
    prog_id: int | None
    state: State
    ifindex: int = 0  # 0: the interface is not there
    any_mtu: bool = False  # the program takes frames in several buffers, as was asked for
    mtu: int = 0  # bytes; 0: likewise

    def may_fix_mtu(self) -> bool:
        """Whether a driver may refuse a larger MTU because of the program, which takes frames in one buffer only."""
        return self.prog_id is not None and self.mode == "native" and not self.any_mtu and not needs_frags(self.mtu)


class Interfaces:
    """One instance's interfaces."""

    def __init__(self, store: Store, dataplane: Programs, links: LinkList) -> None:
        self._store = store
        self._dataplane = dataplane
        self._links = links

    def all(self) -> list[Interface]:
        """Every interface that carries our program or should, as it is now."""
        found = [self.look(known) for known in self._store.attachments()]
        for link in self.orphans():
            if link.xdp and link.xdp.prog_id not in {it.prog_id for it in found}:
                found.append(
                    Interface(link.name, link.netns, link.xdp.mode, False, link.xdp.prog_id, "attached", mtu=link.mtu)
                )
        return found

    def known(self, name: str, netns: str) -> Attachment | None:
        """The record of an interface, if there is one."""
        return next((it for it in self._store.attachments() if (it.name, it.netns) == (name, netns)), None)

    def ours(self, link: Link, known: Attachment | None) -> bool:
        """Whether a link carries this instance's program."""
        if link.xdp is None:
            return False
        if self._dataplane.owns(link.xdp.prog_id):
            return True
        # Pins can be lost (a new BPF file system); the record and the name still tell, within one boot.
        recorded = (
            known is not None and known.prog_id == link.xdp.prog_id and self._store.fact(BOOT) == kernel.boot_id()
        )
        return recorded and self._dataplane.name_of(link.xdp.prog_id) == PROGRAM_NAME

    def renamed(self, known: Attachment) -> Link | None:
        """Where an interface went that was renamed or moved: the link that carries the program it carried."""
        links = (link for namespace in self._namespaces() for link in self._links.all(namespace))
        return next((it for it in links if it.xdp and it.xdp.prog_id == known.prog_id and self.ours(it, known)), None)

    def orphans(self) -> list[Link]:
        """Links, in any namespace, that carry our program without being recorded."""
        if not self._dataplane.exists():
            return []
        recorded = {(it.name, it.netns) for it in self._store.attachments()}
        return [
            link
            for namespace in self._namespaces()
            for link in self._links.all(namespace)
            if link.xdp and (link.name, link.netns) not in recorded and self._dataplane.owns(link.xdp.prog_id)
        ]

    def above(self, lower: Link, is_above: Callable[[Link, Link], bool]) -> list[Link]:
        """Links, in any namespace, that carry a program and stand directly on another."""
        links = (link for namespace in self._namespaces() for link in self._links.all(namespace))
        return [it for it in links if it.xdp and is_above(it, lower)]

    def is_ours(self, link: Link) -> bool:
        """Whether a link carries this instance's program, recorded or not."""
        return self.ours(link, self.known(link.name, link.netns))

    def lifted(self) -> set[tuple[str, str]]:
        """Interfaces whose program is off for the moment of a change below them; of one that was killed meanwhile,
        still.
        """
        return {(name, netns) for name, netns in json.loads(self._store.fact(_LIFTED) or "[]")}

    def note_lifted(self, places: Iterable[tuple[str, str]]) -> None:
        """Remembers that; empty: that all are on again."""
        with self._store.transaction():
            self._store.put_fact(_LIFTED, json.dumps(sorted(places)))

    def note_on(self, name: str, netns: str) -> None:
        """Remembers that one of them is on again, whoever attached to it."""
        left = self.lifted()
        if (name, netns) in left:
            self.note_lifted(left - {(name, netns)})

    def look(self, known: Attachment) -> Interface:
        """A recorded interface as it is now."""
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
            return _of(link, known, link.xdp.mode, None, "replaced")
        return _of(link, known, link.xdp.mode, link.xdp.prog_id, "attached")

    def _namespaces(self) -> list[str]:
        recorded = {it.netns for it in self._store.attachments()}
        return list(dict.fromkeys(["", *self._links.namespaces(), *sorted(recorded)]))


def _of(link: Link | None, known: Attachment, mode: str, prog_id: int | None, state: State) -> Interface:
    """A recorded interface, whose link that is."""
    index, mtu = (link.ifindex, link.mtu) if link else (0, 0)
    return Interface(known.name, known.netns, mode, known.observe, prog_id, state, index, known.any_mtu, mtu)
