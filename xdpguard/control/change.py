# SPDX-License-Identifier: GPL-2.0
"""The one way to change anything: all or nothing, in the store and in the kernel.

    mark      "pending" is written to the store durably
    begin     a store transaction is opened; each part of the change goes to the store first, then to the kernel
    commit    the mark is cleared and the transaction is committed: the change takes effect here
    done

The rows that it touched are written with it, for `undo` (store/recorder.py), if it is the change of a command.
A failure before the commit rolls the store back and brings the kernel in line with it at once. After a kill, SQLite
rolls the store back and the mark remains: the next change, of whatever kind, first brings the kernel in line.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

from xdpguard.errors import XdpguardError
from xdpguard.store.database import Store
from xdpguard.store.journal import Change
from xdpguard.store.recorder import Recorder

PENDING = "pending"  # fact: the kernel may differ from the store


class Image(Protocol):
    """The kernel's image of one kind of object in the store."""

    def stale(self) -> bool:
        """Return whether the kernel's maps were not filled from this store: they are new, or another store's. Fast."""

    def resync(self) -> None:
        """Make the kernel hold what the store holds. Raise OSError or MemoryError if it has no room."""


class Changes:
    """Makes the changes of one instance, one at a time. The caller holds the instance's lock."""

    def __init__(
        self, store: Store, attached: Callable[[], bool], on_step: Callable[[str], None] = lambda step: None
    ) -> None:
        """``attached`` returns whether the kernel holds maps. ``on_step`` is called before each step with its name."""
        self.store = store
        self.attached = attached
        self.step = on_step
        self._images: list[Image] = []
        self._touched: list[Image] = []
        self._released: set[tuple[Image, int]] = set()
        self._last: list[Callable[[], None]] = []
        self._open = False
        self._failed: BaseException | None = None
        self._recorder: Recorder | None = None

    def record(self, command: str, confirm: float | None = None) -> None:
        """Record what is changed from now on as one change of a command, to be undone by `undo`.

        ``confirm``: seconds from the last commit on in which it must be confirmed, or it is undone.
        """
        self._recorder = Recorder(self.store, command, confirm)

    def aside(self) -> AbstractContextManager[None]:
        """Leave what the block changes out of the record, unless it is part of a change: an `undo` is not for it."""
        return nullcontext() if self._open or self._recorder is None else self._recorder.aside()

    @property
    def recorded(self) -> Change | None:
        """The change that was recorded; None if nothing has changed, or nothing is recorded."""
        return self._recorder.change if self._recorder else None

    def register(self, image: Image) -> None:
        """Add an image to those that are kept in line with the store."""
        self._images.append(image)

    def touch(self, image: Image, step: str) -> None:
        """Declare that an image may differ from the store; call within a change, before its kernel part."""
        assert self._open
        self.step(step)
        if image not in self._touched:
            self._touched.append(image)

    def finish(self, part: Callable[[], None]) -> None:
        """Run a part of this change once, after all others: for what depends on them, such as on the order of all."""
        assert self._open
        if part not in self._last:
            self._last.append(part)

    def settle(self) -> None:
        """Run the parts of `finish` now, before a step that relies on them or that cannot be taken back."""
        while self._last:
            self._last.pop(0)()

    def release(self, image: Image, slots: Iterable[int]) -> None:
        """Release the hit counters of entries that this change removes; if it fails, the entries get them back."""
        self._released.update((image, slot) for slot in slots)

    def released(self, image: Image) -> set[int]:
        """Return the counters that this change has released."""
        return {slot for its, slot in self._released if its is image}

    @contextmanager
    def begin(self) -> Iterator[None]:
        """Run the block as one change, all or nothing; a nested change is part of the outer one.

        Must not begin within a store transaction, which would delay the mark.
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
        self._open, self._failed, self._touched, self._released, self._last = True, None, [], set(), []
        try:
            with self.store.transaction():
                yield
                if self._failed is not None:
                    raise self._failed
                self.settle()
                if attached:
                    self.store.put_fact(PENDING, "" if caught_up else "1")
                self.step("commit")
        except BaseException:
            if attached:
                self._take_back(caught_up)
            raise
        finally:
            self._open = False
        self.step("done")

    def pending(self) -> bool:
        """Return whether a change was interrupted, so that the kernel may differ from the store."""
        return self.attached() and bool(self.store.fact(PENDING))

    def catch_up(self) -> bool:
        """Bring the kernel in line after a killed change, or if another store has filled its maps.

        Returns False if the kernel has no room; it is then tried again at the next change.
        """
        if not self.attached():
            return True
        if self.store.fact(PENDING):
            return self.resync()
        return self._resynced(image for image in self._images if image.stale())

    def resync(self, *images: Image) -> bool:
        """Make the kernel hold what the store holds of these images, or of all, whatever it held before.

        Returns False, and leaves the mark, if the kernel has no room.
        """
        pending = bool(self.store.fact(PENDING))
        if not pending:
            self._mark("1")
        done = self._resynced(images or self._images)
        if done and not (pending and images):
            self._mark("")
        return done

    def _take_back(self, caught_up: bool) -> None:
        """Undo the kernel part after the store was rolled back; what fails is left, with the mark, to the next one."""
        self.step("take back")
        with contextlib.suppress(XdpguardError):
            # The last first: what admits packets is there for as long as what cuts them.
            if self._resynced(reversed(self._touched)) and caught_up:
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
