# SPDX-License-Identifier: GPL-2.0
"""What every command starts from: the chosen instance, privileges, the lock, the store, the controller."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from xdpguard import instance as instances
from xdpguard.cli import render
from xdpguard.errors import UsageError
from xdpguard.instance import require_privileges

if TYPE_CHECKING:
    from pathlib import Path

    from xdpguard.cli.undoing import Recorded
    from xdpguard.control.change import Changes
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
    typer.echo(f"xdpguard: {message}", err=True)


@contextmanager
def controller(
    chosen: Options,
    read_only: bool = False,
    on_wait: Callable[[str], None] = _tell,
    command: Recorded | None = None,
    on_undone: Callable[[str], None] = render.note,
) -> Iterator[Controller]:
    """Open the instance's controller: with the lock, to change something, or without it, to read only.

    ``on_wait`` is called with the lock's holder when it has to wait, and with what could not be undone; ``command``:
    what is changed is recorded as its change; ``on_undone``: called with what was undone first, as nobody had
    confirmed it.
    """
    with _store(chosen, read_only, on_wait, command, on_undone) as store:
        made = _controller(chosen, store)
        with _recorded(made.changes, command):
            yield made


def _controller(chosen: Options, store: Store) -> Controller:
    from xdpguard.control.controller import Controller
    from xdpguard.dataplane.build.program import KernelDataplane
    from xdpguard.net.links import Links

    return Controller(store, KernelDataplane(pins(chosen), chosen.instance.compiled), Links(), _interruption())


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


def _load(session: Controller, chosen: Options) -> Policy:
    from xdpguard.policy.load import load
    from xdpguard.policy.model import Policy

    path = session.config()
    if path is not None and not path.is_file():
        raise UsageError(
            f"the configuration of the last attach has gone: {path}", "give another with --config, or --no-config"
        )
    path = path or chosen.instance.config
    return load(path) if path else Policy()


def _config(session: Controller, chosen: Options) -> Path | None:
    return session.config() or chosen.instance.config


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
        made = Ruleset(store, KernelDataplane(pins(chosen)), _interruption())
        with _recorded(made.changes, command):
            yield made


def _recorded(changes: Changes, command: Recorded | None) -> AbstractContextManager[None]:
    return command.recorded(changes) if command else nullcontext()


@contextmanager
def _store(
    chosen: Options,
    read_only: bool,
    on_wait: Callable[[str], None],
    command: Recorded | None,
    on_undone: Callable[[str], None],
) -> Iterator[Store]:
    from xdpguard.cli import undoing
    from xdpguard.control.namespaces import expect_namespaces
    from xdpguard.store import journal
    from xdpguard.store.database import Store

    require_privileges()
    path = chosen.instance.store
    if read_only:
        with Store(path, read_only=True) as store:
            expect_namespaces(store)
            if not journal.overdue(store):
                yield store
                return
    with chosen.instance.lock(on_wait), Store(path) as store:
        expect_namespaces(store)
        undoing.settle(
            store, lambda: _controller(chosen, store), lambda it: how_to_undo(it, chosen), on_undone, on_wait
        )
        if not read_only:
            if command:
                command.begin(store, chosen.instance.name, _interruption())
            yield store
            return
    with Store(path, read_only=True) as store:
        yield store


def _interruption() -> Callable[[str], None]:
    """Return a hook for crash tests: XDPGUARD_TEST_KILL_AT names the step at which the process kills itself."""
    at = os.environ.get("XDPGUARD_TEST_KILL_AT")

    def step(name: str) -> None:
        if name == at:
            os.kill(os.getpid(), signal.SIGKILL)

    return step


def find_instance(name: str) -> Instance:
    """Return the instance of that name."""
    return instances.find(name)
