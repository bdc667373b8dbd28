# SPDX-License-Identifier: GPL-2.0
"""What is told of a list that was loaded, or only read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from xdpguard.cli import entries, render

if TYPE_CHECKING:
    from xdpguard.control.plan import Loaded
    from xdpguard.control.presence import Presences
    from xdpguard.control.results import ListHits
    from xdpguard.lists.addresses import AddressSet

_FIRST = 10  # prefixes that a dry run shows


def list_notes(done: Loaded) -> Iterator[str]:
    """Yield notes for the user about a list that was loaded."""
    its = done.its
    for fault in done.faults:
        yield f"{its.file or 'standard input'}:{fault.line}: {fault.text!r}: {fault.why}; skipped"
    if its.skipped > len(done.faults):
        yield f"... and {render.counted(its.skipped - len(done.faults), 'more line')} skipped"
    yield from done.notes


def report(done: Loaded, shadow: bool, as_json: bool, where: Presences) -> None:
    """Report a list that was loaded."""
    for text in list_notes(done):
        render.note(text)
    if as_json:
        from xdpguard.cli.answers.entries import LoadedNow

        render.print_json(LoadedNow.of(done, shadow, bool(where.enforcing)))
        return
    render.say(f"{'loaded the shadow list' if shadow else 'loaded'} {_summary(done)}")
    begins = "counts" if shadow else "in force"
    for text in where.notes(f"nothing is attached: stored, {begins} from the next attach on"):
        render.note(text)


def report_reading(done: Loaded, entries: AddressSet, shadow: bool, as_json: bool) -> None:
    """Show how a file was read, and the first prefixes that it blocks."""
    families = ((4, entries.network4.size), (6, entries.high6.size))
    places = [(version, place) for version, size in families for place in range(min(size, _FIRST))]
    first = [str(entries.prefix(version, place)) for version, place in places[:_FIRST]]
    if as_json:
        from xdpguard.cli.answers.entries import DryLoad

        render.print_json(DryLoad.read(done, shadow, first, list(list_notes(done))))
        return
    for text in list_notes(done):
        render.note(text)
    render.say(f"would load {_summary(done)}")
    for text in first:
        render.say(f"  {text}")
    if len(entries) > len(first):
        render.say(f"  ... and {render.counted(len(entries) - len(first), 'more prefix', 'more prefixes')}")


def _summary(done: Loaded) -> str:
    its = done.its
    was = f" (had {done.before.entries:,})" if done.before else ""
    skipped = f", {render.counted(its.skipped, 'line')} skipped" if its.skipped else ""
    left_out = f", {done.left_out:,} left out" if done.left_out else ""
    twice = f", {render.counted(its.duplicates, 'duplicate')}" if its.duplicates else ""
    given, stored = render.counted(its.given, "entry", "entries"), render.counted(its.entries, "prefix", "prefixes")
    counts = f"{given}{twice}, as {stored}{was}{skipped}{left_out}"
    return f"{its.name}: {counts} ({its.format}: {done.reading})"


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Show progress on a terminal."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True).status("") as status:
        yield status.update


def say_ends(found: Iterable[ListHits], kind: str) -> None:
    """Print which of the entries of lists have an end."""
    for item in found:
        if text := entries.ends_words(item.its, bool(kind)):
            render.say(f"{kind}{item.its.name}: {text}")
