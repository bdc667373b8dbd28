# SPDX-License-Identifier: GPL-2.0
"""The default of an instance: the configured one, what ``default drop`` or ``default pass`` has set, its kernel image.

While it drops, or would, a program at each interface's egress remembers what was sent, to know what answers it
(bpf/egress.c). It is hung there before the default takes effect, and taken off after it has ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING

from xdpguard.control import hanging
from xdpguard.control.change import Changes
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import default
from xdpguard.dataplane.tables.default import InForce

if TYPE_CHECKING:
    from xdpguard.net.links import Link
    from xdpguard.policy.model import Default
    from xdpguard.store.database import Store

_FACT = "default"  # fact: JSON of what was set by a command; empty: the configuration counts
_IN_FORCE = "default_in_force"  # fact: mode and strictness in the kernel
_SINCE = "default_since"  # fact: when that was put in force, Unix time


def in_force(store: Store) -> InForce:
    """Return the default put in force last, or to be put in force by the next attach."""
    mode, _, strict = store.fact(_IN_FORCE).partition(" ")
    return InForce("enforce" if mode == "enforce" else "shadow" if mode == "shadow" else "pass", strict == "1")


def since(store: Store) -> int | None:
    """Return when the default in force was put in force, Unix time; None if none ever was."""
    held = store.fact(_SINCE)
    return int(held) if held else None


def record(store: Store, its: InForce) -> None:
    """Record what is put in force, and since when. The caller holds a transaction."""
    store.put_fact(_IN_FORCE, f"{its.mode} {int(its.strict_udp)}")
    store.put_fact(_SINCE, f"{time.time():.0f}")


class DefaultPolicy:
    """The default of one instance. Implements Image (change.py). The caller of a method that changes anything holds the
    instance's lock.
    """

    def __init__(self, changes: Changes, pins: Pins) -> None:
        self._changes = changes
        self._store = changes.store
        self._pins = pins
        changes.register(self)

    def override(self) -> Default | None:
        """Return what a command has set; None if the configuration counts."""
        return parsed(self._store.fact(_FACT))

    def effective(self, configured: Default) -> Default:
        """Return what was set by a command, or else what is configured."""
        return self.override() or configured

    def current(self, configured: Default) -> Default:
        """Return what is in force while anything is attached, otherwise what the next attach puts in force."""
        return _as_wanted(in_force(self._store)) if self._changes.attached() else self.effective(configured)

    def set(self, wanted: Default, configured: Default, links: Iterable[Link]) -> None:
        """Store what a command wants and put it in force on ``links``, all or nothing."""
        import msgspec

        text = "" if wanted == configured else msgspec.json.encode(wanted).decode()
        links = list(links)
        with self._changes.begin():
            if self._store.fact(_FACT) != text:
                self._store.put_fact(_FACT, text)
            self.put(wanted, links)
        self.tidy(wanted, links)

    def apply(self, wanted: Default, links: Iterable[Link]) -> None:
        """Put a default in force on attached interfaces, and repair what is missing there."""
        links = list(links)
        self.put(wanted, links)
        self.tidy(wanted, links)

    def put(self, wanted: Default, links: Iterable[Link]) -> None:
        """Put a default in force. One already recorded is only written again. Part of a change, or one of its own."""
        its = wanted_in_force(wanted)
        recorded = in_force(self._store) == its
        attached = self._changes.attached()
        if attached and its.mode != "pass":
            hanging.hang(self._pins, links)
        with nullcontext() if recorded else self._changes.begin():
            if not recorded:
                record(self._store, its)
                self._changes.touch(self, "default")
            if attached:
                default.write(self._pins, its)
            if attached and not recorded:
                default.clear_cuts(self._pins)

    def lacking(self, carriers: Callable[[], Iterable[Link]]) -> list[Link]:
        """Return those of the links found by ``carriers`` that lack the program at egress, if the default needs it."""
        return [] if in_force(self._store).mode == "pass" else hanging.lacking(self._pins, carriers())

    def hang_again(self, links: Iterable[Link]) -> None:
        """Hang the program where it was taken off, if the default in force needs it."""
        if in_force(self._store).mode != "pass":
            hanging.hang(self._pins, links)

    def tidy(self, wanted: Default, links: Iterable[Link]) -> None:
        """Take the program off where a default that passes needs it no more; to call when that is committed."""
        if wanted.policy == "pass":
            for it in links:
                hanging.take_off(it)

    def adopt(self) -> None:
        """Record the default in the kernel, of which a rebuilt store may not know. The caller holds a transaction."""
        import msgspec

        its = default.read(self._pins)
        if its != in_force(self._store):
            self._store.put_fact(_FACT, msgspec.json.encode(_as_wanted(its)).decode())
            record(self._store, its)

    def stale(self) -> bool:
        """Return whether the kernel's default differs from the one put in force last."""
        return bool(self._store.fact(_IN_FORCE)) and default.read(self._pins) != in_force(self._store)

    def resync(self) -> None:
        """Restore the default put in force last."""
        default.write(self._pins, in_force(self._store))


def parsed(text: str) -> Default | None:
    """Return a stored default; None if there is none, or another version of xdpguard wrote it."""
    import msgspec

    from xdpguard.policy.model import Default

    try:
        return msgspec.json.decode(text, type=Default) if text else None
    except msgspec.ValidationError:
        return None


def described(its: Default | None) -> str:
    """Describe a default that a command has set, or that none has."""
    return words_of(wanted_in_force(its)) if its else "that of the configuration"


def words_of(its: InForce) -> str:
    """Describe a default: pass; drop, in shadow; drop, enforced, strict for UDP."""
    strict = ", strict for UDP" if its.strict_udp else ""
    return "pass" if its.mode == "pass" else f"drop, {'enforced' if its.mode == 'enforce' else 'in shadow'}{strict}"


def wanted_in_force(wanted: Default) -> InForce:
    """Return a default as the kernel has it."""
    if wanted.policy == "pass":
        return InForce("pass", False)
    return InForce("enforce" if wanted.enforced else "shadow", wanted.strict_udp)


def _as_wanted(its: InForce) -> Default:
    """Return a default in force as a configuration would ask for it."""
    from xdpguard.policy.model import Default

    return Default(
        policy="pass" if its.mode == "pass" else "drop",
        mode="enforce" if its.mode == "enforce" else "shadow",
        strict_udp=its.strict_udp,
    )
