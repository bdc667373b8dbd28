# SPDX-License-Identifier: GPL-2.0
"""From a file to a list in force: reads it, refuses what would do harm, puts it among the lists."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from xdpguard.control import safety
from xdpguard.control.lists import Lists
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.policy.hits import NO_SPLIT
from xdpguard.policy.rule import NewRule
from xdpguard.store.lists import NamedList

if TYPE_CHECKING:
    from xdpguard.lists.addresses import AddressSet
    from xdpguard.lists.formats import Fault, Parsed
    from xdpguard.policy.model import ListFile

CONFIG = "config"  # origin of the lists that stand in the configuration file
_FORCE = "--force loads it all the same"


class Loaded(NamedTuple):
    """What loading a list did: it, what it was before, lines that held no entry, other notes, whether in force."""

    its: NamedList
    before: NamedList | None
    faults: list[Fault]
    notes: list[str]
    in_force: bool


class Circumstances(NamedTuple):
    """What a list is held against besides the store: namespaces to be guarded, numbers taken, rules to come.

    ``unattended``: nobody is there to be refused; whoever loads keeps what the host needs (needed.py).
    """

    places: Collection[str] = ()
    taken: Collection[int] = ()
    config: Collection[NewRule] | None = None
    unattended: bool = False


class Prepared(NamedTuple):
    """A list that was read and may be put in force."""

    its: NamedList
    entries: AddressSet
    before: NamedList | None
    faults: list[Fault]
    notes: list[str]

    def loaded(self, in_force: bool) -> Loaded:
        """What to tell about it once it is."""
        return Loaded(self.its, self.before, self.faults, self.notes, in_force)


class ListsFailed(UsageError):
    """Files of the configuration that could not be loaded: its words are the first one's, ``errors`` are by name."""

    def __init__(self, errors: Mapping[str, XdpguardError]) -> None:
        first = next(iter(errors.values()))
        super().__init__(str(first), first.remedy)
        self.errors = dict(errors)


class Plan(NamedTuple):
    """What a configuration asks for: lists to put, names to drop, and files that cannot be loaded."""

    puts: list[Prepared]
    drops: list[str]
    errors: dict[str, XdpguardError]

    def unforced(self) -> dict[str, AddressSet]:
        """The entries of those lists to put that must not cut off what the host needs."""
        return {it.its.name: it.entries for it in self.puts if not it.its.forced}


class Loader:
    """Loads lists of one mode into one instance."""

    def __init__(self, lists: Lists, on_step: Callable[[str], None] = lambda step: None) -> None:
        """``on_step`` hears what is being done, for somebody who waits."""
        self._store = lists.changes.store
        self._lists = lists
        self._step = on_step

    def load_file(
        self, name: str, path: Path, source: str = "cli", strict: bool = False, force: bool = False
    ) -> Loaded:
        """Loads a file under a name. UsageError when it is no list, XdpguardError when it is refused."""
        return self._put(self._read_file(name, path, source, strict, force))

    def load_stream(self, name: str, label: str, stream: BinaryIO, strict: bool = False, force: bool = False) -> Loaded:
        """Loads what a stream holds, likewise."""
        from xdpguard.lists.formats import read

        check_name(name)
        self._step(f"reading {label}")
        return self._put(self._prepare(name, "", "", read(label, stream), "cli", strict, force))

    def plan(
        self,
        files: Mapping[str, ListFile],
        around: Circumstances,
        force: bool = False,
    ) -> Plan:
        """Reads those files of a configuration that are new or have changed; changes nothing yet."""
        held, plan = {it.name: it for it in self._lists.stored.all()}, Plan([], self._gone(files), {})
        for name, its in self._mine(files):
            if name in held and held[name].stamp == stamp(Path(its.file)):
                continue
            near = around._replace(taken=[it.its.number for it in plan.puts])
            try:
                found = self._read_file(name, Path(its.file), CONFIG, its.strict, its.force or force, near)
                plan.puts.append(found)
            except XdpguardError as error:
                plan.errors[name] = error
        return plan

    def follow(
        self,
        files: Mapping[str, ListFile],
        due: Callable[[str], bool] = lambda name: True,
        keep: Callable[[Mapping[str, AddressSet]], object] = lambda lists: None,
    ) -> Iterator[Loaded]:
        """Loads those files of the configuration that are new or have changed, and drops lists that it has no more.

        Unattended: ``keep`` hears of the entries before they are in force, to keep what the host needs. Files that
        cannot be loaded are told in one ListsFailed when all others are done; their old entries stay.
        """
        held = {it.name: it for it in self._lists.stored.all()}
        errors: dict[str, XdpguardError] = {}
        ready: list[Prepared] = []
        for name, its in self._mine(files):
            path = Path(its.file)
            if name in held and (not due(name) or held[name].stamp == stamp(path)):
                continue
            near = Circumstances(taken=[it.its.number for it in ready], unattended=True)
            try:
                found = self._read_file(name, path, CONFIG, its.strict, its.force, near)
                ready.append(found)
            except XdpguardError as error:
                errors[name] = error
        gone = self._gone(files)
        if ready or gone:
            with self._lists.changes.begin():
                if ready:
                    keep({it.its.name: it.entries for it in ready if not it.its.forced})
                # All in one swap: an index is built of all lists, however few have changed.
                self._lists.apply([(it.its, it.entries) for it in ready], gone)
        for it in ready:
            yield it.loaded(self._lists.in_kernel())
        if errors:
            raise ListsFailed(errors)

    def _gone(self, files: Mapping[str, ListFile]) -> list[str]:
        mine = dict(self._mine(files))
        return [it.name for it in self._lists.stored.all() if it.source == CONFIG and it.name not in mine]

    def _mine(self, files: Mapping[str, ListFile]) -> Iterator[tuple[str, ListFile]]:
        """Those that are shadow lists, or those that are not, as the lists are of that mode."""
        return ((name, its) for name, its in files.items() if its.shadow == (self._lists.mode == "shadow"))

    def _put(self, prepared: Prepared) -> Loaded:
        self._step(f"putting {len(prepared.entries):,} entries in force")
        return prepared.loaded(self._lists.put(prepared.its, prepared.entries))

    def _read_file(
        self,
        name: str,
        path: Path,
        source: str,
        strict: bool,
        force: bool,
        around: Circumstances | None = None,
    ) -> Prepared:
        from xdpguard.lists.formats import read_file

        check_name(name)
        self._step(f"reading {path}")
        mark = stamp(path)
        return self._prepare(name, str(path.absolute()), mark, read_file(path), source, strict, force, around)

    def _prepare(
        self,
        name: str,
        file: str,
        mark: str,
        parsed: Parsed,
        source: str,
        strict: bool,
        force: bool,
        around: Circumstances | None = None,
    ) -> Prepared:
        from xdpguard.lists.addresses import aggregate

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
        before = self._lists.stored.find(name)
        around = around or Circumstances()
        # A list that only counts does no harm; it is looked at when it is promoted.
        if not force and self._lists.mode == "enforce":
            check_size(name, given, before)
            if around.unattended:
                safety.check_everybody(name, entries)
            else:
                safety.check_list(self._store, name, entries, around.places, around.config)
        number = before.number if before else self._lists.stored.free_number(around.taken)
        notes = list(parsed.notes)
        if before and before.source == CONFIG != source:
            source = CONFIG
            notes.append(
                f"{name} stands in the configuration file: what that names comes back with the next look at it"
            )
        its = NamedList(
            name=name,
            number=number,
            source=source,
            file=file,
            stamp=mark,
            format=parsed.format,
            loaded=time.time(),
            given=given,
            entries=len(entries),
            duplicates=twice,
            skipped=parsed.skipped,
            forced=force,
            packets=before.packets if before else 0,
            bytes=before.bytes if before else 0,
            mode=self._lists.mode,
            split=before.split if before else NO_SPLIT,
        )
        if parsed.cleared:
            notes.append(f"{parsed.cleared:,} entries had host bits set; taken as the prefixes that hold them")
        return Prepared(its, entries, before, parsed.faults, notes)


def check_size(name: str, given: int, before: NamedList | None) -> None:
    """Refuses a list that has less than half of the entries that it had."""
    if before is not None and given * 2 < before.given:
        raise XdpguardError(
            f"the list {name} had {before.given:,} entries, and now has {given:,}: less than half",
            f"nothing was changed; see whether the file is whole; {_FORCE}",
        )


def check_name(name: str) -> None:
    """UsageError when a list cannot be called so."""
    from xdpguard.policy.model import LIST_NAME

    if not LIST_NAME.fullmatch(name):
        raise UsageError(f"not a name for a list: {name!r}", "use up to 64 letters, digits, . _ or -")


def stamp(path: Path) -> str:
    """What tells one state of a file from another; empty when it cannot be looked at."""
    with contextlib.suppress(OSError):
        status = path.stat()
        return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
    return ""
