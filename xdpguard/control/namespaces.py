# SPDX-License-Identifier: GPL-2.0
"""Recorded names of interfaces and namespaces, and which of them a user's words mean."""

from __future__ import annotations

from collections.abc import Collection

from xdpguard.dataplane.sys import kernel
from xdpguard.net import netns
from xdpguard.net.recorded import is_fleeting
from xdpguard.store.attachments import attachments
from xdpguard.store.database import Store

Interface = tuple[str, str]  # name, and recorded name of the namespace


def expect_namespaces(store: Store) -> None:
    """Tie each recorded name that may come to mean another namespace to the one it meant when recorded."""
    boot = kernel.boot_id()
    for name, then, cookie in store.execute("SELECT name, boot, cookie FROM namespaces"):
        netns.expect(name, int(cookie) if then == boot else netns.GONE)


def record_namespace(store: Store, name: str) -> None:
    """Record which namespace a name that may come to mean another one stands for. The caller holds a transaction."""
    if is_fleeting(name):
        cookie = netns.cookie_of(netns.place(name))
        store.execute("INSERT OR REPLACE INTO namespaces VALUES (?, ?, ?)", (name, kernel.boot_id(), str(cookie)))
        netns.expect(name, cookie)


def forget_namespace(store: Store, name: str) -> None:
    """Delete the record of a namespace that no recorded interface is in any more. The caller holds a transaction."""
    if not any(it.netns == name for it in attachments(store)):
        store.execute("DELETE FROM namespaces WHERE name = ?", (name,))


def matching(there: Collection[Interface], interface: str, namespace: str | None) -> list[Interface]:
    """Return the interfaces that a user's words mean.

    ``interface``: a name or an alternative name, empty for any; ``namespace``: a recorded name, None for any.
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
