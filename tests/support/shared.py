# SPDX-License-Identifier: GPL-2.0
"""One attached instance for the tests of a module, put back between them to what it was after attaching.

Attaching and detaching take most of a short test's time. What a test has changed is undone behind the controller's
back: its files (the store, what is beside it, configurations) and the content of every pinned map. Where a test has
attached, swapped or detached anything, the next one gets an instance that is attached anew.
"""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from topology import INTERFACE, Lab

from support.command import Command
from xdpguard.dataplane.sys import kernel
from xdpguard.net.links import Links

_RING, _FIRST = 27, bytes(4)


class Shared:
    """The instance; it is attached when a test asks for it first."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is for the states of its instances, one after the other."""
        self._folder = folder
        self._number = 0
        self._its: _Attached | None = None

    def attached(self, lab: Lab) -> Command:
        """The instance, attached to the lab's interface, without rules and lists and with counters at zero."""
        if self._its is not None and not self._its.restore():
            self.away()
        if self._its is None:
            self._number += 1
            self._its = _Attached(Command(self._folder / f"shared{self._number}"), lab)
        return self._its.command

    def away(self) -> None:
        """Detaches it: what follows needs the interface."""
        if self._its is not None:
            self._its.command.clean()
            self._its = None


class _Attached:
    """An attached instance, and what it was then."""

    def __init__(self, command: Command, lab: Lab) -> None:
        self.command = command
        self._server = lab.server
        try:
            command.ok("attach", INTERFACE, "--netns", lab.server)
            self._program = self._carried()
            self._files = {path: path.read_bytes() for path in _files(command.state)}
            self._maps = {path: _content(path) for path in _files(command.pins)}
        except BaseException:
            command.clean()
            raise

    def restore(self) -> bool:
        """Puts everything back; False if something else is attached now, or no longer."""
        if self._carried() != self._program or set(_files(self.command.pins)) != self._maps.keys():
            return False
        for path, content in self._maps.items():
            _put_back(path, content)
        shutil.rmtree(self.command.state / "etc", ignore_errors=True)
        for path in set(_files(self.command.state)) - self._files.keys():
            path.unlink()
        for path, data in self._files.items():
            path.write_bytes(data)
        return True

    def _carried(self) -> int | None:
        xdp = Links().get(INTERFACE, self._server).xdp
        return xdp.prog_id if xdp else None


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[int, kernel.MapInfo]]:
    descriptor = kernel.open_pin(str(path))
    try:
        yield descriptor, kernel.map_info(descriptor)
    finally:
        os.close(descriptor)


def _mapped(descriptor: int, info: kernel.MapInfo) -> mmap.mmap:
    return mmap.mmap(descriptor, (info.value_size + 7 & ~7) * info.max_entries)


def _read(descriptor: int, info: kernel.MapInfo) -> tuple[bytes, bytes, int]:
    """Keys, values, and how many. An array is read at once."""
    size, array = info.value_size, info.type in (kernel.MAP_ARRAY, kernel.MAP_PERCPU_ARRAY)
    if info.type == kernel.MAP_PERCPU_ARRAY:
        size = (size + 7 & ~7) * kernel.possible_cpus()
    elif not array and not kernel.has_entries(descriptor, info.key_size):
        return b"", b"", 0
    return kernel.entries(descriptor, info.key_size, size, info.max_entries if array else min(info.max_entries, 1024))


def _content(path: Path) -> tuple[bytes, bytes, int]:
    """What a map holds, as `_read` returns it. Rings are only drained, and programs not changed by any command."""
    with _opened(path) as (descriptor, info):
        if info.type in (_RING, kernel.MAP_PROGRAMS):
            return b"", b"", 0
        if info.flags & kernel.MAP_MMAPABLE:
            with _mapped(descriptor, info) as whole:
                return b"", whole[:], info.max_entries
        if info.type == kernel.MAP_ARRAY_OF_MAPS:
            assert kernel.lookup(descriptor, _FIRST, 4) is None, "no list is loaded by attaching"
            return b"", b"", 0
        return _read(descriptor, info)


def _drain(descriptor: int) -> None:
    """Takes everything out of a ring: the reader's place, in its first page, becomes that of the writers."""
    with (
        mmap.mmap(descriptor, mmap.PAGESIZE) as reader,
        mmap.mmap(descriptor, mmap.PAGESIZE, prot=mmap.PROT_READ, offset=mmap.PAGESIZE) as writers,
    ):
        reader[:8] = writers[:8]


def _put_back(path: Path, before: tuple[bytes, bytes, int]) -> None:
    keys, values, count = before
    with _opened(path) as (descriptor, info):
        if info.type == kernel.MAP_PROGRAMS:
            return
        if info.type == _RING:
            _drain(descriptor)
            return
        if info.flags & kernel.MAP_MMAPABLE:
            with _mapped(descriptor, info) as whole:
                if whole[:] != values:
                    whole[:] = values
            return
        if info.type == kernel.MAP_ARRAY_OF_MAPS:
            kernel.delete(descriptor, _FIRST)
            return
        found = _read(descriptor, info)
        if found == before:
            return
        if info.type not in (kernel.MAP_ARRAY, kernel.MAP_PERCPU_ARRAY):
            size = info.key_size
            for place in range(found[2]):
                kernel.delete(descriptor, found[0][place * size : (place + 1) * size])
        if count:
            kernel.update_batch(descriptor, keys, values, count)
