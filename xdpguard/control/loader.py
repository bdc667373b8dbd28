# SPDX-License-Identifier: GPL-2.0
"""Load a list from a file: read it, refuse what would do harm, put it in force."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from xdpguard.control import lasting, needs, safety
from xdpguard.control.lists import Lists
from xdpguard.control.outlook import held
from xdpguard.control.plan import Circumstances, ListsFailed, Loaded, Plan, Prepared
from xdpguard.control.sources import Source, read_source, stamp
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.policy.hits import NO_SPLIT
from xdpguard.policy.rule import CONFIG
from xdpguard.store.lists import ListStore, NamedList
from xdpguard.store.timing import timing
from xdpguard.units import counted

if TYPE_CHECKING:
    from xdpguard.lists.addresses import AddressSet
    from xdpguard.lists.formats import Request
    from xdpguard.policy.model import ListFile

_FORCE = "use --force to override"


class Loader:
    """Loads the lists of one mode into one instance."""

    def __init__(self, lists: Lists, on_step: Callable[[str], None] = lambda step: None, dry_run: bool = False) -> None:
        """``on_step`` is called with a progress text before each step. A dry run reads lists that would be refused."""
        self._dry_run = dry_run
        self._store = lists.changes.store
        self._lists = lists
        self._step = on_step

    def plan(
        self,
        files: Mapping[str, ListFile],
        around: Circumstances,
        force: bool = False,
    ) -> Plan:
        """Read the files of a configuration that are new or have changed; change nothing yet."""
        held, plan = {it.name: it for it in self._lists.stored.all()}, Plan([], self._gone(files), {})
        if files and self._lists.mode == "enforce" and not around.unattended and not force:
            around = around._replace(needed=needs.refusing(self._store, {"", *around.places}, around.loopback))
        for name, its in self._mine(files):
            if name in held and held[name].stamp == stamp(Path(its.file), _request(its)):
                continue
            near = around._replace(taken=[it.its.number for it in plan.puts])
            try:
                found = self._read(name, its, its.force or force, near)
                plan.puts.append(found)
            except XdpguardError as error:
                plan.errors[name] = error
        return plan

    def follow(
        self,
        files: Mapping[str, ListFile],
        due: Callable[[str], bool] = lambda name: True,
        keep: Callable[[Plan], object] = lambda plan: None,
    ) -> Iterator[Loaded]:
        """Load the files of a configuration that are new or have changed, and drop lists that it no longer names.

        ``keep`` is called with the lists before they are in force, to let through what the host needs. Raises
        ListsFailed for all that cannot be loaded or dropped, after the others are done; they stay as they are.
        """
        held, plan = {it.name: it for it in self._lists.stored.all()}, Plan([], self._gone(files), {})
        for name, its in self._mine(files):
            if name in held and (not due(name) or held[name].stamp == stamp(Path(its.file), _request(its))):
                continue
            near = Circumstances(taken=[it.its.number for it in plan.puts], unattended=True)
            try:
                found = self._read(name, its, its.force, near)
                plan.puts.append(found)
            except XdpguardError as error:
                plan.errors[name] = error
        for it in self._done(plan, keep):
            yield it.loaded(self._lists.in_kernel())
        if plan.errors:
            raise ListsFailed(plan.errors)

    def _done(self, plan: Plan, keep: Callable[[Plan], object]) -> list[Prepared]:
        """Put lists in force and drop others; return what is in force, and add what is refused to the errors.

        All are in one swap, for the index is built from all lists, however few have changed; each by itself if that is
        refused, as it is where a filter asks one of them.
        """
        if not plan.puts and not plan.drops:
            return []
        try:
            with self._lists.changes.begin():
                if plan.puts:
                    keep(plan)
                self._lists.apply([(it.its, it.entries) for it in plan.puts], plan.drops)
        except XdpguardError as error:
            parts = [Plan([it], [], plan.errors) for it in plan.puts]
            parts += [Plan([], [name], plan.errors) for name in plan.drops]
            if len(parts) > 1:
                return [it for part in parts for it in self._done(part, keep)]
            plan.errors[plan.puts[0].its.name if plan.puts else plan.drops[0]] = error
            return []
        return plan.puts

    def _hidden(self, name: str) -> bool:
        """Return whether filters find another list of this name."""
        return self._lists.mode == "shadow" and ListStore(self._store).find(name) is not None

    def _gone(self, files: Mapping[str, ListFile]) -> list[str]:
        mine = dict(self._mine(files))
        return [it.name for it in self._lists.stored.all() if it.source == CONFIG and it.name not in mine]

    def _mine(self, files: Mapping[str, ListFile]) -> Iterator[tuple[str, ListFile]]:
        """Yield the configured lists that are of this loader's mode."""
        return ((name, its) for name, its in files.items() if its.shadow == (self._lists.mode == "shadow"))

    def put(self, prepared: Prepared) -> Loaded:
        """Put a list in force that was read and checked."""
        self._step(f"putting {counted(len(prepared.entries), 'entry', 'entries')} in force")
        return prepared.loaded(self._lists.put(prepared.its, prepared.entries))

    def _read(self, name: str, its: ListFile, force: bool, around: Circumstances) -> Prepared:
        """Read a file of the configuration and check it; change nothing. ``force`` accepts one without entries, too.

        Raises UsageError if it is not a list, XdpguardError if it is refused.
        """
        wanted = _request(its)
        wanted = wanted._replace(allow_empty=wanted.allow_empty or force)
        return self.prepare(name, read_source(Path(its.file), its.strict, self._step, wanted), CONFIG, force, around)

    def prepare(
        self, name: str, found: Source, source: str, force: bool, around: Circumstances | None = None
    ) -> Prepared:
        """Check what was read, changing nothing. Raise XdpguardError if it is refused."""
        check_name(name)
        parsed, entries, given = found.parsed, found.entries, found.parsed.given
        before = self._lists.stored.find(name)
        around = around or Circumstances()
        refusal = None
        if not force:
            try:
                # A list that only counts does no harm but by filters; it is checked when it is promoted.
                if self._lists.mode == "enforce":
                    self._check(name, entries, given, before, around)
                if around.config is None and not around.unattended and not self._hidden(name):
                    safety.check_asked(self._store, name, entries)
            except XdpguardError as error:
                if not self._dry_run:
                    raise
                refusal = error
        number = before.number if before else self._lists.stored.free_number(around.taken)
        shadow = self._lists.mode == "shadow"
        beside = (self._lists.stored.in_force(it.name) for it in self._lists.stored.all() if it.name != name)
        notes = [*parsed.notes, *lasting.notes(parsed, chain([entries], beside), shadow, self._dry_run)]
        if before and before.source == CONFIG != source:
            source = CONFIG
            notes.append(f"{name} is in the configuration file: the file named there is loaded again at the next check")
        now = time.time()
        ends = timing(entries.packed_ends(), 0, now)
        its = NamedList(
            name=name,
            number=number,
            source=source,
            file=found.file,
            stamp=found.stamp,
            format=parsed.format,
            loaded=now,
            given=given,
            entries=len(entries) - ends.ended,
            duplicates=found.duplicates,
            skipped=parsed.skipped,
            forced=force,
            packets=before.packets if before else 0,
            bytes=before.bytes if before else 0,
            mode=self._lists.mode,
            split=before.split if before else NO_SPLIT,
            timing=ends,
        )
        if self._lists.mode == "enforce":
            what = f"the list {name}"
            notes += needs.dhcp_notes(self._store, lambda it: what if held(entries, it) else "", around.config)
        if parsed.cleared:
            words, each = counted(parsed.cleared, "entry", "entries"), "" if parsed.cleared == 1 else " each"
            notes.append(f"{words} had host bits set; taken as the enclosing prefix{each}")
        return Prepared(its, entries, before, parsed.faults, notes, parsed.reading, parsed.left_out, refusal)

    def _check(
        self, name: str, entries: AddressSet, given: int, before: NamedList | None, around: Circumstances
    ) -> None:
        """Raise XdpguardError if a list would do harm, or has shrunk too much."""
        if given:  # one without entries was asked for
            check_size(name, given, before)
        if around.unattended:
            safety.check_everybody(name, entries)
        else:
            safety.check_list(self._store, name, entries, around.places, around.config, around.loopback, around.needed)


def check_size(name: str, given: int, before: NamedList | None) -> None:
    """Refuse a list that has less than half of the entries it had before."""
    if before is not None and given * 2 < before.given:
        raise XdpguardError(
            f"the list {name} had {counted(before.given, 'entry', 'entries')}, and now has {given:,}: fewer than half",
            f"nothing was changed; check that the file is complete; {_FORCE}",
        )


def check_name(name: str) -> None:
    """Raise UsageError if a name is not valid for a list."""
    from xdpguard.policy.model import LIST_NAME

    if not LIST_NAME.fullmatch(name):
        raise UsageError(f"not a list name: {name!r}", "use up to 64 letters, digits, . _ or -")


def _request(its: ListFile) -> Request:
    """Return how the configuration wants a file to be read."""
    from xdpguard.lists.formats.request import Request

    return Request(its.format, its.column, its.prefix_column, its.allow_empty)
