# SPDX-License-Identifier: GPL-2.0
"""What every command starts from: the chosen instance, privileges, the lock, the store, the controller."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from xdpguard import instance as instances
from xdpguard import units
from xdpguard.errors import UsageError
from xdpguard.instance import require_privileges

if TYPE_CHECKING:
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
    """Open the instance's controller: with the lock, to change something, or without it, to read only.

    ``on_wait`` is called with the lock's holder when it has to wait.
    """
    from xdpguard.control.controller import Controller
    from xdpguard.dataplane.build.program import KernelDataplane
    from xdpguard.net.links import Links

    with _store(chosen, read_only, on_wait) as store:
        yield Controller(store, KernelDataplane(pins(chosen), chosen.instance.compiled), Links(), _interruption())


def remembered_policy(session: Controller, chosen: Options) -> Policy:
    """Load the policy of the file last given, or of the instance's own file, or the defaults."""
    from xdpguard.policy.load import load
    from xdpguard.policy.model import Policy

    path = session.config()
    if path is not None and not path.is_file():
        raise UsageError(
            f"the configuration of the last attach has gone: {path}", "give another with --config, or --no-config"
        )
    path = path or chosen.instance.config
    return load(path) if path else Policy()


@contextmanager
def ruleset(chosen: Options, read_only: bool = False, on_wait: Callable[[str], None] = _tell) -> Iterator[Ruleset]:
    """Open the instance's rules, lists and guard policy; quick, because it loads neither bcc nor pyroute2.

    ``on_wait`` is called with the lock's holder when it has to wait.
    """
    from xdpguard.control.ruleset import Ruleset
    from xdpguard.dataplane.build.program import KernelDataplane

    with _store(chosen, read_only, on_wait) as store:
        yield Ruleset(store, KernelDataplane(pins(chosen)), _interruption())


@contextmanager
def _store(chosen: Options, read_only: bool, on_wait: Callable[[str], None] = _tell) -> Iterator[Store]:
    from xdpguard.control.namespaces import expect_namespaces
    from xdpguard.store.database import Store

    require_privileges()
    if read_only:
        with Store(chosen.instance.store, read_only=True) as store:
            expect_namespaces(store)
            yield store
        return
    with chosen.instance.lock(on_wait), Store(chosen.instance.store) as store:
        expect_namespaces(store)
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
