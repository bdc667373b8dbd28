# SPDX-License-Identifier: GPL-2.0
"""What explain and replay share: choosing the program to ask, and opening captures."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard import signals
from xdpguard.cli.session import Options, controller, pins, remembered_policy
from xdpguard.errors import UsageError

if TYPE_CHECKING:
    from xdpguard.capture.reader import Capture
    from xdpguard.explain.subject import Subject

_ENDINGS = (signal.SIGTERM, signal.SIGHUP)
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Use the policy in this file, TOML, not the one in force; nothing need be attached.",
    ),
]


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """Make SIGTERM and SIGHUP end the command like an error, with cleanup; exit with 128 plus the signal's number."""

    def end(number: int, _: object) -> None:
        for kind in signals.ENDING:
            signal.signal(kind, signal.SIG_IGN)  # the cleanup must not be interrupted
        raise SystemExit(128 + number)

    with signals.handled(end, *(kind for kind in _ENDINGS if signal.getsignal(kind) != signal.SIG_IGN)):  # nohup
        yield


@contextmanager
def live(chosen: Options, interface: str, netns: str | None) -> Iterator[Subject]:
    """Probe the program of an attached interface."""
    from xdpguard.explain import subject

    with (
        controller(chosen, read_only=True) as session,
        subject.live(
            session, pins(chosen), remembered_policy(session, chosen), chosen.instance.compiled, interface, netns
        ) as found,
    ):
        yield found


@contextmanager
def asked(chosen: Options, config: Path | None, interface: str, netns: str | None) -> Iterator[Subject]:
    """Probe the program of an attached interface, or the policy in a file."""
    from xdpguard.explain.candidate import candidate
    from xdpguard.instance import require_privileges
    from xdpguard.policy.load import load

    if config is None:
        with _ending_in_order(), live(chosen, interface, netns) as found:
            yield found
        return
    if interface or netns is not None:
        raise UsageError(
            "--interface and --netns cannot be combined with --config", "leave out --config to use an attached program"
        )
    require_privileges()
    policy, place = load(config), chosen.instance
    with _ending_in_order(), candidate(policy, str(config), place.bpffs, place.compiled) as found:
        yield found


@contextmanager
def compared(chosen: Options, config: Path, interface: str, netns: str | None) -> Iterator[tuple[Subject, Subject]]:
    """Probe the program of an attached interface, and what it would be if attached with another file."""
    from xdpguard.explain import subject
    from xdpguard.explain.candidate import candidate
    from xdpguard.policy.load import load

    policy = load(config)
    with _ending_in_order(), controller(chosen, read_only=True) as session:
        held, cache = pins(chosen), chosen.instance.compiled
        with (
            subject.live(session, held, remembered_policy(session, chosen), cache, interface, netns) as now,
            candidate(policy, str(config), chosen.instance.bpffs, cache, (session, now)) as then,
        ):
            yield now, then


@contextmanager
def capture(name: str, subject: Subject) -> Iterator[Capture]:
    """Open a capture file of packets for the interface that is asked about."""
    from xdpguard.capture.ethernet import OWN_MAC
    from xdpguard.capture.reader import Capture
    from xdpguard.capture.stream import opened

    with opened(name) as file:
        yield Capture(name, file, subject.mac or OWN_MAC, subject.own)
