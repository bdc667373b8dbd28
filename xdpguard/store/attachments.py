# SPDX-License-Identifier: GPL-2.0
"""The interfaces that should carry the program, as the store records them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from xdpguard.store.database import Store


class Attachment(NamedTuple):
    """An interface that should carry the program. ``netns`` is the recorded name of its namespace (net/netns.py);
    ``any_mtu``: the program accepts frames in several buffers, so that the MTU can be raised later.
    """

    name: str
    netns: str
    mode: str
    observe: bool
    prog_id: int = 0
    any_mtu: bool = False


def attachments(store: Store) -> list[Attachment]:
    """Return the interfaces that should carry the program, in order of attaching."""
    any_mtu = set(store.whole("any_mtu"))
    return [
        Attachment(name, netns, mode, bool(observe), number, (name, netns) in any_mtu)
        for name, netns, mode, observe, number, *_ in store.whole("interfaces", order="attached, name")
    ]


def put_attachment(store: Store, attachment: Attachment, now: float) -> None:
    """Record an interface, or update its record."""
    store.unlike = True
    store.execute(
        "INSERT INTO interfaces VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name, netns) DO UPDATE SET"
        " mode = excluded.mode, observe = excluded.observe, prog_id = excluded.prog_id",
        (*attachment[:5], now),
    )
    place = attachment.name, attachment.netns
    store.execute("DELETE FROM any_mtu WHERE name = ? AND netns = ?", place)
    if attachment.any_mtu:
        store.execute("INSERT INTO any_mtu VALUES (?, ?)", place)


def remove_attachment(store: Store, name: str, netns: str) -> None:
    """Delete the record of an interface."""
    for table in ("interfaces", "any_mtu"):
        store.execute(f"DELETE FROM {table} WHERE name = ? AND netns = ?", (name, netns))
