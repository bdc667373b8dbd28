# SPDX-License-Identifier: GPL-2.0
"""From a file to a list in force: reads it, refuses what would do harm, hands it to the listbook."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from xdpguard import safety
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.listbook import Listbook
from xdpguard.lists.shelf import NamedList
from xdpguard.lists.store import Store
from xdpguard.policy.model import LIST_NAME, ListFile

if TYPE_CHECKING:
    from xdpguard.lists.formats import Fault

CONFIG = "config"  # origin of the lists that stand in the configuration file
_FORCE = "--force loads it all the same"


class Loaded(NamedTuple):
    """What loading a list did: it, what it was before, lines that held no entry, other notes, whether in force."""

    its: NamedList
    before: NamedList | None
    faults: list[Fault]
    notes: list[str]
    in_force: bool


class Loader:
    """Loads lists into one instance."""

    def __init__(self, store: Store, book: Listbook, on_step: Callable[[str], None] = lambda step: None) -> None:
        """``on_step`` hears what is being done, for somebody who waits."""
        self._store = store
        self._book = book
        self._step = on_step

    def load_file(
        self, name: str, path: Path, source: str = "cli", strict: bool = False, force: bool = False
    ) -> Loaded:
        """Loads a file under a name. UsageError when it is no list, XdpguardError when it is refused."""
        from xdpguard.lists.formats import read_file

        check_name(name)
        self._step(f"reading {path}")
        mark = stamp(path)
        parsed = read_file(path)
        return self._load(name, str(path.absolute()), mark, parsed, source, strict, force)

    def load_stream(self, name: str, label: str, stream: BinaryIO, strict: bool = False, force: bool = False) -> Loaded:
        """Loads what a stream holds, likewise."""
        from xdpguard.lists.formats import read

        check_name(name)
        self._step(f"reading {label}")
        return self._load(name, "", "", read(label, stream), "cli", strict, force)

    def follow(self, files: Mapping[str, ListFile], due: Callable[[str], bool] = lambda name: True) -> Iterator[Loaded]:
        """Loads those files of the configuration that are new or have changed, and drops lists that it has no more.

        A file that cannot be loaded is an XdpguardError, raised when all others are done; its old entries stay.
        """
        held = {it.name: it for it in self._book.shelf.all()}
        for it in held.values():
            if it.source == CONFIG and it.name not in files:
                self._book.drop(it.name)
        failed: XdpguardError | None = None
        for name, its in files.items():
            path = Path(its.file)
            if name in held and (not due(name) or held[name].stamp == stamp(path)):
                continue
            try:
                yield self.load_file(name, path, CONFIG, its.strict, its.force)
            except XdpguardError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def _load(self, name: str, file: str, mark: str, parsed: object, source: str, strict: bool, force: bool) -> Loaded:
        from xdpguard.lists.addresses import aggregate
        from xdpguard.lists.formats.collector import Parsed

        assert isinstance(parsed, Parsed)
        label = file or "standard input"
        if strict and parsed.skipped:
            fault = parsed.faults[0]
            raise UsageError(
                f"{label}:{fault.line}: {fault.text!r}: {fault.why}"
                + (f" (and {parsed.skipped - 1:,} more)" if parsed.skipped > 1 else ""),
                "nothing was changed; correct the file, or leave --strict out",
            )
        self._step("sorting")
        given = parsed.first4.size + parsed.high6.size
        entries, twice = aggregate(parsed.first4, parsed.last4, parsed.high6, parsed.low6, parsed.length6)
        before = self._book.shelf.find(name)
        if not force:
            _check_size(name, given, before)
            safety.check_list(self._store, name, entries)
        number = before.number if before else self._book.shelf.free_number()
        its = NamedList(
            name,
            number,
            source,
            file,
            mark,
            parsed.format,
            time.time(),
            given,
            len(entries),
            twice,
            parsed.skipped,
            force,
        )
        if before:
            its = its._replace(packets=before.packets, bytes=before.bytes)
        self._step(f"putting {len(entries):,} entries in force")
        in_force = self._book.put(its, entries)
        notes = list(parsed.notes)
        if parsed.cleared:
            notes.append(f"{parsed.cleared:,} entries had host bits set; taken as the prefixes that hold them")
        return Loaded(its, before, parsed.faults, notes, in_force)


def _check_size(name: str, given: int, before: NamedList | None) -> None:
    if before is not None and given * 2 < before.given:
        raise XdpguardError(
            f"the list {name} had {before.given:,} entries, and now has {given:,}: less than half",
            f"nothing was changed; see whether the file is whole; {_FORCE}",
        )


def check_name(name: str) -> None:
    """UsageError when a list cannot be called so."""
    if not LIST_NAME.fullmatch(name):
        raise UsageError(f"not a name for a list: {name!r}", "use up to 64 letters, digits, . _ or -")


def stamp(path: Path) -> str:
    """What tells one state of a file from another; empty when it cannot be looked at."""
    with contextlib.suppress(OSError):
        status = path.stat()
        return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
    return ""
