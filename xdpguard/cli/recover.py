# SPDX-License-Identifier: GPL-2.0
"""The command recover."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard.cli import render, session
from xdpguard.cli.session import Options, options, pins
from xdpguard.errors import XdpguardError
from xdpguard.instance import ATTACHED, in_a_row, require_privileges

if TYPE_CHECKING:
    from xdpguard.control.recover import Recovered

_EXAMPLES = """
\b
Examples:
  xdpguard recover --dry-run    show what would be in the new store, and from what
  xdpguard recover              rebuild it; the damaged file is kept beside it
  xdpguard recover --empty      begin with an empty store: what the kernel still holds is removed from it

The kernel knows targets, ends and members of lists. Reasons, origins, names of lists and filters come from the last
good copy, which commands that change something keep beside the store: at once where they change lists or filters,
otherwise at most every 30 seconds.
"""


def register(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command(epilog=_EXAMPLES)(recover)


def recover(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be recovered; change nothing.")] = False,
    empty: Annotated[bool, typer.Option("--empty", help="Recover nothing: begin with an empty store.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Rebuild a lost or damaged rule store from what the kernel holds and the last good copy."""
    from xdpguard.control.recover import complaint

    chosen = options(context)
    require_privileges(*ATTACHED)
    with chosen.instance.lock(), _private_folder(chosen.instance.store.parent) as folder:
        wrong = complaint(chosen.instance.store) or _missing(chosen)
        if wrong is None:
            raise XdpguardError(f"the rule store {chosen.instance.store} is intact", "there is nothing to recover")
        found, new = _rebuilt(chosen, folder, empty)
        kept = None if dry_run else _put_in_place(chosen, new)
    if as_json:
        from xdpguard.cli.answers.state import Recovery

        render.print_json(Recovery.of(found, str(wrong), str(kept or ""), dry_run))
        return
    render.say(f"{wrong}")
    _print(found, dry_run)
    if kept:
        render.say(f"the damaged file is kept as {kept}")


def _missing(chosen: Options) -> XdpguardError | None:
    """Return what is wrong if the kernel holds rules and there is no store, nor a mark of one."""
    from xdpguard.store import keeping

    store = chosen.instance.store
    return keeping.lost(store) if keeping.is_blank(store) and pins(chosen).exist() else None


@contextlib.contextmanager
def _private_folder(above: Path):  # type: ignore[no-untyped-def]
    for old in above.glob("recover-*"):  # of one that was killed; the lock is held
        shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix="recover-", dir=above))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _rebuilt(chosen: Options, folder: Path, empty: bool) -> tuple[Recovered, Path]:
    """Build the new store in a folder; return what is in it, and its file."""
    from xdpguard.control.controller import Controller
    from xdpguard.control.recover import Recovered, complaint, rebuild
    from xdpguard.dataplane.build.program import KernelDataplane
    from xdpguard.net.links import Links
    from xdpguard.store import keeping
    from xdpguard.store.database import Store

    new, copied = folder / "store.db", None
    copy = keeping.copy_of(chosen.instance.store)
    if not empty and copy.is_file() and complaint(copy) is None:
        copied = copy.stat().st_mtime
        session.on_step("copy")
        shutil.copyfile(copy, new)
    with Store(new) as store:
        made = Controller(store, KernelDataplane(pins(chosen), chosen.instance.compiled), Links())
        if empty:
            return Recovered(False, None, {}, 0, {}, {}, [], 0), new
        session.on_step("rebuild")
        found = rebuild(made, copied, chosen.instance.store)
    if not found.kernel and copied is None and not found.salvaged:
        raise XdpguardError(
            "there is nothing to recover from: nothing is attached, and there is no copy of the store",
            "restore a backup, or begin anew: xdpguard recover --empty",
        )
    return found, new


def _put_in_place(chosen: Options, new: Path) -> Path | None:
    """Put the new store in place of the damaged one; return where the latter went, None if there was nothing in it."""
    store, kept = chosen.instance.store, None
    if os.path.lexists(store) and not (store.is_file() and not store.stat().st_size):
        names = (store.with_name(f"{store.name}.damaged-{number}") for number in itertools.count(int(time.time())))
        kept = next(it for it in names if not os.path.lexists(it))
        session.on_step("keep")
        store.rename(kept)
    # A journal of the old file must not be applied to the new one.
    store.with_name(store.name + "-journal").unlink(missing_ok=True)
    session.on_step("replace")
    new.rename(store)
    session.on_step("in line")
    _in_line(chosen)
    return kept


def _in_line(chosen: Options) -> None:
    """Bring the kernel in line with the new store: at once, as the next change would."""
    from xdpguard.control.ruleset import Ruleset
    from xdpguard.dataplane.build.program import KernelDataplane
    from xdpguard.store.database import Store

    with Store(chosen.instance.store) as store:
        changes = Ruleset(store, KernelDataplane(pins(chosen))).changes
        if changes.attached():
            changes.resync()
        store.keep_copy(now=True)


def _print(found: Recovered, dry_run: bool) -> None:
    sources = ["the kernel's maps"] if found.kernel else []
    if found.copy is not None:
        sources.append(f"the copy of {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(found.copy))}")
    if found.salvaged:
        sources.append(f"the damaged file, which has {in_a_row(found.salvaged)} whole")
    would = "would be rebuilt" if dry_run else "was rebuilt"
    render.say(f"the store {would} from {in_a_row(sources)}" if sources else f"the store {would}: empty")
    rules = ", ".join(f"{count:,} {kind}" for kind, count in found.rules.items()) or "none"
    render.say(f"rules: {rules}; shadow: {found.shadow_rules:,}")
    for name, count in {**found.lists, **found.shadow_lists}.items():
        render.say(f"list {name}: {render.counted(count, 'entry', 'entries')}")
    if found.filters:
        render.say(f"filters: {found.filters:,}")
    if found.other_filters:
        verb = "would no longer be" if dry_run else "are no longer"
        render.note(f"the kernel has other filters, which cannot be read back from it: they {verb} in force")
    if found.unnamed:
        render.note(f"{render.counted(found.unnamed, 'rule')} only the kernel knew: the reason and origin are lost")
    if found.kernel and found.copy is None:
        lost = "the guard's overrides" if "lists" in found.salvaged else "the guard's overrides and the names of lists"
        render.note(f"without a copy of the store, {lost} are lost")
