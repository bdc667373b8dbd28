# SPDX-License-Identifier: GPL-2.0
"""What every command starts with: the chosen instance, privileges, the lock, the store, the controller."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from xdpguard import instance as instances
from xdpguard import units
from xdpguard.cli import render
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.instance import ATTACHED, require_privileges

if TYPE_CHECKING:
    from pathlib import Path

    from xdpguard.cli.undoing import Recorded
    from xdpguard.control.controller import Controller
    from xdpguard.control.ruleset import Ruleset
    from xdpguard.control.undo import Undo
    from xdpguard.dataplane.sys.pins import Pins
    from xdpguard.instance import Instance
    from xdpguard.policy.model import Policy
    from xdpguard.store.database import Store


@dataclass
class Options:
    """The global options, and the ``words`` of the command line."""

    instance: Instance
    verbose: bool
    words: str = ""


def options(context: typer.Context) -> Options:
    """Return the global options of the running command."""
    found = context.find_object(Options)
    assert found is not None  # the application's callback has set them
    return found


def pins(chosen: Options) -> Pins:
    """Return the instance's pinned maps."""
    from xdpguard.dataplane.sys.pins import Pins

    return Pins(chosen.instance.bpffs, chosen.instance.name)


def _tell(message: str) -> None:
    typer.echo(f"xdpguard: {units.visible(message)}", err=True)


@contextmanager
def controller(
    chosen: Options,
    read_only: bool = False,
    on_wait: Callable[[str], None] = _tell,
    command: Recorded | None = None,
    on_undone: Callable[[str], None] = render.note,
) -> Iterator[Controller]:
    """Open the instance's controller, with the lock to make changes, or without it to read only.

    ``on_wait`` is called with a message naming the lock's holder if it has to wait, and with what could not be undone.
    ``command``: what is changed is recorded as its change. ``on_undone``: called with what was undone first, because
    nobody had confirmed it.
    """
    with _store(chosen, read_only, on_wait, command, on_undone, ATTACHED) as store:
        made = _controller(chosen, store)
        with _changing(made.ruleset, read_only, command):
            yield made


def _controller(chosen: Options, store: Store) -> Controller:
    from xdpguard.control.controller import Controller
    from xdpguard.dataplane.build.program import KernelDataplane
    from xdpguard.net.links import Links

    return Controller(store, KernelDataplane(pins(chosen), chosen.instance.compiled), Links(), on_step)


def remembered_config(session: Controller, chosen: Options) -> Path | None:
    """Return the configuration file last given, or the instance's own, or None. Raise UsageError if it is missing."""
    path = session.config()
    if path is not None and not path.is_file():
        raise UsageError(
            f"the configuration of the last attach no longer exists: {path}",
            "give another with --config, or use --no-config",
        )
    return path or chosen.instance.config


def remembered_policy(session: Controller, chosen: Options) -> Policy:
    """Load the policy of the file last given, or of the instance's own file, or the defaults.

    A file that an undo has put out of force counts again once it is changed; until then it is the policy of before.
    """
    from xdpguard.control import configured

    held = configured.held_back(session.store, _config(session, chosen))
    return (configured.in_force(session.store) if held else None) or _load(session, chosen)


def how_to_undo(session: Controller, chosen: Options, force: bool = False) -> Undo:
    """Return what an undo must know of the configuration."""
    from xdpguard.control.undo import Undo

    return Undo(lambda: _load(session, chosen), lambda: _config(session, chosen), force=force)


def _config(session: Controller, chosen: Options) -> Path | None:
    return session.config() or chosen.instance.config


def _load(session: Controller, chosen: Options) -> Policy:
    from xdpguard.policy.load import load
    from xdpguard.policy.model import Policy

    path = remembered_config(session, chosen)
    return load(path) if path else Policy()


@contextmanager
def ruleset(
    chosen: Options,
    read_only: bool = False,
    on_wait: Callable[[str], None] = _tell,
    command: Recorded | None = None,
    on_undone: Callable[[str], None] = render.note,
) -> Iterator[Ruleset]:
    """Open the instance's rules, lists and guard policy; quick, because it loads neither bcc nor pyroute2.

    ``on_wait``, ``command``, ``on_undone``: as for `controller`.
    """
    from xdpguard.control.ruleset import Ruleset
    from xdpguard.dataplane.build.program import KernelDataplane

    with _store(chosen, read_only, on_wait, command, on_undone) as store:
        made = Ruleset(store, KernelDataplane(pins(chosen)), on_step)
        with _changing(made, read_only, command):
            yield made


def _changing(found: Ruleset, read_only: bool, command: Recorded | None) -> AbstractContextManager[None]:
    """Let ends follow the clock first, which is not part of the change that is recorded."""
    if not read_only:
        found.follow_clock()
    return command.recorded(found.changes) if command else nullcontext()


@contextmanager
def _store(
    chosen: Options,
    read_only: bool,
    on_wait: Callable[[str], None],
    command: Recorded | None,
    on_undone: Callable[[str], None],
    needs: Sequence[str] = ("CAP_BPF",),
) -> Iterator[Store]:
    from xdpguard.control.namespaces import expect_namespaces
    from xdpguard.store import journal
    from xdpguard.store.database import Store

    require_privileges(*needs)
    if read_only:
        _expect_store(chosen)
        with Store(chosen.instance.store, read_only=True) as store:
            if not _incomplete(chosen) and not journal.overdue(store):
                _show(chosen, store)
                yield store
                return
    with chosen.instance.lock(on_wait):
        _expect_store(chosen)
        with Store(chosen.instance.store) as store:
            expect_namespaces(store)
            _restore(chosen, store)
            _settle(chosen, store, on_undone, on_wait)
            if not read_only:
                if command:
                    command.begin(store, chosen.instance.name, on_step)
                yield store
            store.keep_copy(now=not pins(chosen).exist())
    if read_only:
        with Store(chosen.instance.store, read_only=True) as store:
            _show(chosen, store)
            yield store


def _show(chosen: Options, store: Store) -> None:
    """Make a store that is only read show what is so now."""
    from xdpguard.control.namespaces import expect_namespaces
    from xdpguard.store import clock

    expect_namespaces(store)
    clock.show_as_in_kernel(store, pins(chosen).exist())


def _settle(chosen: Options, store: Store, on_undone: Callable[[str], None], on_failed: Callable[[str], None]) -> None:
    """Undo the change whose time to be confirmed has passed. The caller holds the lock."""
    from xdpguard.cli import undoing

    undoing.settle(store, lambda: _controller(chosen, store), lambda it: how_to_undo(it, chosen), on_undone, on_failed)


def _expect_store(chosen: Options) -> None:
    """Raise Damaged if the kernel holds rules of a store that no longer exists, wherever its mark went."""
    from xdpguard.store import keeping

    if pins(chosen).exist() and keeping.is_blank(chosen.instance.store):
        raise keeping.lost(chosen.instance.store)


def _incomplete(chosen: Options) -> bool:
    """Return whether pinned maps are missing; or another command is just making or removing them."""
    from xdpguard.dataplane.sys.repin import missing

    return bool(missing(pins(chosen)))


def _restore(chosen: Options, store: Store) -> None:
    """Pin again what is missing, and say so. The caller holds the lock."""
    if _incomplete(chosen):
        from xdpguard.control.lost import restore

        for note in restore(store, pins(chosen)):
            render.note(note)


def nothing_attached(chosen: Options) -> XdpguardError:
    """Return the error of a command that finds no maps to read; see control/presence.py."""
    from xdpguard.control import presence
    from xdpguard.store.database import Store

    with Store(chosen.instance.store, read_only=True) as store:
        return presence.nothing_attached(store)


def on_step(step: str) -> None:
    """Do nothing. Called before each step of a change with its name; crash tests replace it."""


def find_instance(name: str) -> Instance:
    """Return the instance of that name."""
    return instances.find(name)
