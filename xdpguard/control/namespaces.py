# SPDX-License-Identifier: GPL-2.0
"""Interfaces and namespaces as they are recorded, and which of them a user's words mean."""

from __future__ import annotations

from collections.abc import Collection

from xdpguard.dataplane.sys import kernel
from xdpguard.net import netns
from xdpguard.store.database import Store

Interface = tuple[str, str]  # its name, and the recorded name of its namespace


def expect_namespaces(store: Store) -> None:
    """Holds recorded names that can come to lead to another namespace to the one they stood for when recorded."""
    boot = kernel.boot_id()
    for name, then, cookie in store.execute("SELECT name, boot, cookie FROM namespaces"):
        netns.expect(name, int(cookie) if then == boot else netns.GONE)


def record_namespace(store: Store, name: str) -> None:
    """Remembers which namespace such a name stands for. Whoever calls holds a transaction."""
    if netns.is_fleeting(name):
        cookie = netns.cookie_of(netns.place(name))
        store.execute("INSERT OR REPLACE INTO namespaces VALUES (?, ?, ?)", (name, kernel.boot_id(), str(cookie)))
        netns.expect(name, cookie)


def forget_namespace(store: Store, name: str) -> None:
    """Forgets it, unless an interface in it is still recorded. Whoever calls holds a transaction."""
    if not any(it.netns == name for it in store.attachments()):
        store.execute("DELETE FROM namespaces WHERE name = ?", (name,))


def meant(there: Collection[Interface], interface: str, namespace: str | None) -> list[Interface]:
    """Those of these interfaces that a user's words mean: a name or an alternative name (empty: any), and the recorded
    name of a namespace (None: any).
    """
    found = [it for it in there if namespace in (None, it[1])]
    named = [it for it in found if interface in ("", it[0])]
    return named or [it for it in found if interface in _altnames(*it)]


def _altnames(name: str, namespace: str) -> tuple[str, ...]:
    from xdpguard.net.links import Links, NoSuchLink

    try:
        return Links().get(name, namespace).altnames
    except NoSuchLink:
        return ()
