# SPDX-License-Identifier: GPL-2.0
"""The one way anything changes: all of it or nothing, in the store and in the kernel.

    mark      "pending" is written to the store, for good
    begin     a transaction of the store is opened; whoever changes something changes the store, then the kernel
    commit    the mark is taken off, and the transaction is committed: only now has it happened
    done

Who fails before the commit rolls the store back and brings the kernel in line with it at once. Who is killed leaves
SQLite to roll the store back, and the mark: the next change, whatever it is of, first brings the kernel in line.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from xdpguard.errors import XdpguardError
from xdpguard.store.database import Store

PENDING = "pending"  # fact: the kernel may differ from the store


class Image(Protocol):
    """What the kernel holds of one kind of things that the store has."""

    def stale(self) -> bool:
        """Whether the kernel holds what this store has not put there: new maps, or those of another store. Quick."""

    def resync(self) -> None:
        """Makes the kernel hold what the store holds. OSError or MemoryError when it has no room for it."""


class Changes:
    """Changes of one instance, one after the other. Wants the instance's lock held."""

    def __init__(
        self, store: Store, attached: Callable[[], bool], on_step: Callable[[str], None] = lambda step: None
    ) -> None:
        """``attached``: whether there are maps in the kernel. ``on_step`` hears of each step before it is taken."""
        self.store = store
        self.attached = attached
        self.step = on_step
        self._images: list[Image] = []
        self._touched: list[Image] = []
        self._released: set[tuple[Image, int]] = set()
        self._open = False
        self._failed: BaseException | None = None

    def register(self, image: Image) -> None:
        """Adds an image to those that are brought in line."""
        self._images.append(image)

    def touch(self, image: Image, step: str) -> None:
        """To be said within a change before the kernel's part of it: this image may differ from the store now."""
        assert self._open
        self.step(step)
        if image not in self._touched:
            self._touched.append(image)

    def release(self, image: Image, slots: Iterable[int]) -> None:
        """To be said of hit counters whose entries this change takes away: if it fails, they are theirs again."""
        self._released.update((image, slot) for slot in slots)

    def released(self, image: Image) -> set[int]:
        """The counters that this change has released."""
        return {slot for its, slot in self._released if its is image}

    @contextmanager
    def begin(self) -> Iterator[None]:
        """All that is done inside is done, or nothing. One that is begun inside another is part of that one.

        Not to be begun within a transaction of the store, which would hold the mark back.
        """
        if self._open:
            try:
                yield
            except BaseException as error:
                self._failed = error
                raise
            return
        assert not self.store.changing
        attached = self.attached()
        caught_up = not attached or self.catch_up()
        if attached:
            self.step("mark")
            self._mark("1")
        self.step("begin")
        self._open, self._failed, self._touched, self._released = True, None, [], set()
        try:
            with self.store.transaction():
                yield
                if self._failed is not None:
                    raise self._failed
                if attached:
                    self.store.put_fact(PENDING, "" if caught_up else "1")
                self.step("commit")
        except BaseException:
            self._open = False
            if attached:
                self._take_back(caught_up)
            raise
        finally:
            self._open = False
        self.step("done")

    def pending(self) -> bool:
        """Whether a change was interrupted, so that the kernel may differ from the store."""
        return self.attached() and bool(self.store.fact(PENDING))

    def catch_up(self) -> bool:
        """Brings the kernel in line after a change that was killed, or when another store filled its maps.

        False when the kernel has no room for it: that stays to be done.
        """
        if not self.attached():
            return True
        if self.store.fact(PENDING):
            return self.resync()
        return self._resynced(image for image in self._images if image.stale())

    def resync(self, *images: Image) -> bool:
        """Makes the kernel hold what the store holds of these images, or of all, whatever it held before.

        False, and the mark stays, when the kernel has no room for it.
        """
        pending = bool(self.store.fact(PENDING))
        if not pending:
            self._mark("1")
        done = self._resynced(images or self._images)
        if done and not (pending and images):
            self._mark("")
        return done

    def _take_back(self, caught_up: bool) -> None:
        """After the store was rolled back. What cannot be done now is left, with the mark, to the next change."""
        self.step("take back")
        with contextlib.suppress(XdpguardError):
            if self._resynced(self._touched) and caught_up:
                self._mark("")

    def _resynced(self, images: Iterable[Image]) -> bool:
        done = True
        for image in images:
            try:
                image.resync()
            except (OSError, MemoryError):
                done = False
        return done

    def _mark(self, value: str) -> None:
        with self.store.transaction():
            self.store.put_fact(PENDING, value)
