# SPDX-License-Identifier: GPL-2.0
"""The program that is asked: that of an attached interface, in its current state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from xdpguard.capture.direction import NOBODY, Own
from xdpguard.control import builds
from xdpguard.control.controller import Controller
from xdpguard.control.interfaces import Interface
from xdpguard.control.namespaces import matching
from xdpguard.control.presence import nothing_attached
from xdpguard.control.ruleset import Ruleset
from xdpguard.dataplane.build.probe import Probe, of_instance
from xdpguard.dataplane.build.program import Target
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import guard, guardpolicy
from xdpguard.errors import UsageError
from xdpguard.explain.own import of_link
from xdpguard.net.links import Link
from xdpguard.net.netns import place_of
from xdpguard.net.recorded import recorded_name
from xdpguard.policy.model import Policy
from xdpguard.store.attachments import attachments

NO_GUARD = guard.State(*[0] * len(guard.State._fields))


@dataclass
class Subject:
    """A probe, and what explains its answers. ``link``: the interface on which its packets seem to arrive.

    ``own``: what the host sends from.
    """

    label: str
    probe: Probe
    ruleset: Ruleset
    pins: Pins
    state: guard.State
    mode: str  # of the guard
    observe: bool = False
    link: Link | None = None
    own: Own = NOBODY
    notes: list[str] = field(default_factory=list)

    @property
    def netns(self) -> str:
        """The namespace in which the probe must run."""
        return self.link.netns if self.link else ""

    @property
    def mac(self) -> bytes:
        """The destination address of frames for the interface; empty: any."""
        return self.state.mac.to_bytes(8, "little")[:6] if self.state.mac else b""


def chosen(session: Controller, name: str, netns: str | None) -> tuple[Interface, Link]:
    """Return the attached interface of that name, or the only one when ``name`` is empty.

    Raise UsageError when none or several match, XdpguardError when no attached one is in reach.
    """
    links = {(link.name, link.netns): link for link in session.links()}
    attached = [it for it in session.interfaces() if (it.name, it.netns) in links]
    if not attached:
        raise nothing_attached(session.store)
    there = [(it.name, it.netns) for it in attached]
    where = None if netns is None else recorded_name(netns, {it.netns for it in attachments(session.store)})
    wanted = matching(there, name, where)
    fitting = [it for it in attached if (it.name, it.netns) in wanted]
    known = ", ".join(place_of(it.name, it.netns) for it in attached)
    if not fitting:
        raise UsageError(f"{place_of(name or 'an interface', netns or '')} is not attached", f"attached: {known}")
    if len(fitting) > 1:
        raise UsageError(
            "several interfaces match: " + ", ".join(place_of(it.name, it.netns) for it in fitting),
            "name one with --interface, and its network namespace with --netns",
        )
    return fitting[0], links[fitting[0].name, fitting[0].netns]


@contextmanager
def live(
    session: Controller, pins: Pins, policy: Policy, cache: Path, name: str, netns: str | None
) -> Iterator[Subject]:
    """Load a probe of an attached interface's program, with its guard in its current state.

    ``policy``: the one given last; ``cache``: the folder of compiled programs.
    """
    interface, link = chosen(session, name, netns)
    notes = []
    build = builds.recall(session.store, link.name, link.netns, interface.prog_id or 0)
    sanity = build.sanity() if build else policy.sanity
    if build is None:
        notes.append(f"no record says how {link.name}'s program was built; [sanity] is taken from the configuration")
    elif build.source != builds.source():
        notes.append(
            f"{link.name} still runs the program of another xdpguard version; attach it again to be sure of this"
        )
    target = Target(
        link.name, link.netns, link.mtu, link.loopback, interface.observe, link.kind == "veth", interface.any_mtu
    )
    built_for = Policy(policy.limits, sanity, policy.rules, policy.guard, policy.lists)
    with of_instance(pins, target, built_for, cache, link.ifindex) as probe:
        state = guard.read(pins, link.name, link.netns)
        probe.set_guard(state)
        yield Subject(
            label=place_of(link.name, link.netns),
            probe=probe,
            ruleset=session.ruleset,
            pins=pins,
            state=state,
            mode=guardpolicy.read(pins).mode,
            observe=interface.observe,
            link=link,
            own=of_link(link),
            notes=notes,
        )
