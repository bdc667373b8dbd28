# SPDX-License-Identifier: GPL-2.0
"""Load a list from a file: read it, refuse what would do harm, put it in force."""

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
from xdpguard.policy.rule import CONFIG, NewRule
from xdpguard.store.lists import NamedList

if TYPE_CHECKING:
    from xdpguard.lists.addresses import AddressSet
    from xdpguard.lists.formats import Fault, Parsed
    from xdpguard.policy.model import ListFile

_FORCE = "--force loads it all the same"


class Loaded(NamedTuple):
    """The result of loading a list: the list, its previous state, invalid lines, notes, and whether it is in force."""

    its: NamedList
    before: NamedList | None
    faults: list[Fault]
    notes: list[str]
    in_force: bool


class Circumstances(NamedTuple):
    """What a list is checked against besides the store: namespaces to be guarded, numbers taken, rules to come.

    ``unattended``: nobody is there to see a refusal; the caller lets through what the host needs (needed.py).
    """

    places: Collection[str] = ()
    taken: Collection[int] = ()
    config: Collection[NewRule] | None = None
    unattended: bool = False


class Prepared(NamedTuple):
    """A list that was read and has passed the checks."""

    its: NamedList
    entries: AddressSet
    before: NamedList | None
    faults: list[Fault]
    notes: list[str]

    def loaded(self, in_force: bool) -> Loaded:
        """Return the result to report for this list."""
        return Loaded(self.its, self.before, self.faults, self.notes, in_force)


class ListsFailed(UsageError):
    """Lists of the configuration that could not be loaded: ``errors`` by name; the message is that of the first."""

    def __init__(self, errors: Mapping[str, XdpguardError]) -> None:
        first = next(iter(errors.values()))
        super().__init__(str(first), first.remedy)
        self.errors = dict(errors)


class Plan(NamedTuple):
    """What a configuration asks for: lists to put in force, names of lists to drop, and load errors by list name."""

    puts: list[Prepared]
    drops: list[str]
    errors: dict[str, XdpguardError]

    def unforced(self) -> dict[str, AddressSet]:
        """Return the entries of the lists that are not forced, so must not cut off what the host needs."""
        return {it.its.name: it.entries for it in self.puts if not it.its.forced}


class Loader:
    """Loads the lists of one mode into one instance."""

    def __init__(self, lists: Lists, on_step: Callable[[str], None] = lambda step: None) -> None:
        """``on_step`` is called with a progress text before each step."""
        self._store = lists.changes.store
        self._lists = lists
        self._step = on_step

    def load_file(
        self, name: str, path: Path, source: str = "cli", strict: bool = False, force: bool = False
    ) -> Loaded:
        """Load a file under a name. Raise UsageError if it is not a list, XdpguardError if it is refused."""
        return self._put(self._read_file(name, path, source, strict, force))

    def load_stream(self, name: str, label: str, stream: BinaryIO, strict: bool = False, force: bool = False) -> Loaded:
        """Load a stream under a name. Raise UsageError if it is not a list, XdpguardError if it is refused."""
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
        """Read the files of a configuration that are new or have changed; change nothing yet."""
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
        """Load the files of a configuration that are new or have changed, and drop lists that it no longer names.

        ``keep`` is called with the entries before they are in force, to let through what the host needs. Raises
        ListsFailed for all files that cannot be loaded, after the others are done; their old entries stay in force.
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
                # All in one swap: the index is built from all lists, however few have changed.
                self._lists.apply([(it.its, it.entries) for it in ready], gone)
        for it in ready:
            yield it.loaded(self._lists.in_kernel())
        if errors:
            raise ListsFailed(errors)

    def _gone(self, files: Mapping[str, ListFile]) -> list[str]:
        mine = dict(self._mine(files))
        return [it.name for it in self._lists.stored.all() if it.source == CONFIG and it.name not in mine]

    def _mine(self, files: Mapping[str, ListFile]) -> Iterator[tuple[str, ListFile]]:
        """Yield the configured lists that are of this loader's mode."""
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
        # A list that only counts does no harm; it is checked when it is promoted.
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
    """Refuse a list that has less than half of the entries it had before."""
    if before is not None and given * 2 < before.given:
        raise XdpguardError(
            f"the list {name} had {before.given:,} entries, and now has {given:,}: less than half",
            f"nothing was changed; see whether the file is whole; {_FORCE}",
        )


def check_name(name: str) -> None:
    """Raise UsageError if a name is not valid for a list."""
    from xdpguard.policy.model import LIST_NAME

    if not LIST_NAME.fullmatch(name):
        raise UsageError(f"not a name for a list: {name!r}", "use up to 64 letters, digits, . _ or -")


def stamp(path: Path) -> str:
    """Return a mark that changes whenever a file does; empty if the file cannot be examined."""
    with contextlib.suppress(OSError):
        status = path.stat()
        return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
    return ""
