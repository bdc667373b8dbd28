# SPDX-License-Identifier: GPL-2.0
"""What every command starts with: the chosen instance, privileges, the lock, the store, the controller."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from xdpguard import instance as instances
from xdpguard import units
from xdpguard.cli import render
from xdpguard.errors import UsageError
from xdpguard.instance import ATTACHED, require_privileges

if TYPE_CHECKING:
    from pathlib import Path

    from xdpguard.control.controller import Controller
    from xdpguard.control.ruleset import Ruleset
    from xdpguard.dataplane.sys.pins import Pins
    from xdpguard.instance import Instance
    from xdpguard.policy.model import Policy
    from xdpguard.store.database import Store


@dataclass
class Options:
    """The global options."""

    instance: Instance
    verbose: bool


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
    chosen: Options, read_only: bool = False, on_wait: Callable[[str], None] = _tell
) -> Iterator[Controller]:
    """Open the instance's controller, with the lock to make changes, or without it to read only.

    ``on_wait`` is called with a message naming the lock's holder if it has to wait.
    """
    from xdpguard.control.controller import Controller
    from xdpguard.dataplane.build.program import KernelDataplane
    from xdpguard.net.links import Links

    with _store(chosen, read_only, on_wait, ATTACHED) as store:
        found = Controller(store, KernelDataplane(pins(chosen), chosen.instance.compiled), Links(), on_step)
        if not read_only:
            found.ruleset.follow_clock()
        yield found


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
    """Load the policy of the file last given, or of the instance's own file, or the defaults."""
    from xdpguard.policy.load import load
    from xdpguard.policy.model import Policy

    path = remembered_config(session, chosen)
    return load(path) if path else Policy()


@contextmanager
def ruleset(chosen: Options, read_only: bool = False, on_wait: Callable[[str], None] = _tell) -> Iterator[Ruleset]:
    """Open the instance's rules, lists and guard policy; quick, because it loads neither bcc nor pyroute2.

    ``on_wait`` is called with a message naming the lock's holder if it has to wait.
    """
    from xdpguard.control.ruleset import Ruleset
    from xdpguard.dataplane.build.program import KernelDataplane

    with _store(chosen, read_only, on_wait) as store:
        found = Ruleset(store, KernelDataplane(pins(chosen)), on_step)
        if not read_only:
            found.follow_clock()
        yield found


@contextmanager
def _store(
    chosen: Options, read_only: bool, on_wait: Callable[[str], None] = _tell, needs: Sequence[str] = ("CAP_BPF",)
) -> Iterator[Store]:
    from xdpguard.control.namespaces import expect_namespaces
    from xdpguard.store import clock
    from xdpguard.store.database import Store

    require_privileges(*needs)
    if read_only and _incomplete(chosen):
        with chosen.instance.lock(on_wait):
            _expect_store(chosen)
            with Store(chosen.instance.store) as store:
                _restore(chosen, store)
    if read_only:
        _expect_store(chosen)
        with Store(chosen.instance.store, read_only=True) as store:
            expect_namespaces(store)
            clock.show_as_in_kernel(store, pins(chosen).exist())
            yield store
        return
    with chosen.instance.lock(on_wait):
        _expect_store(chosen)
        with Store(chosen.instance.store) as store:
            expect_namespaces(store)
            _restore(chosen, store)
            yield store
            store.keep_copy(now=not pins(chosen).exist())


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


def on_step(step: str) -> None:
    """Do nothing. Called before each step of a change with its name; crash tests replace it."""


def find_instance(name: str) -> Instance:
    """Return the instance of that name."""
    return instances.find(name)
