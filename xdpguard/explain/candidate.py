# SPDX-License-Identifier: GPL-2.0
"""A policy that is not in force, loaded as a program with maps of its own, all of it removed afterwards."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec

from xdpguard.control.controller import Controller
from xdpguard.control.default import wanted_in_force
from xdpguard.control.filter_order import NEW, with_source
from xdpguard.control.loader import Loader
from xdpguard.control.planning import config_rules
from xdpguard.control.ruleset import Ruleset
from xdpguard.control.surroundings import surroundings
from xdpguard.dataplane.build.probe import Probe
from xdpguard.dataplane.build.program import KernelDataplane, Target, switches
from xdpguard.dataplane.sys.bpffs import ensure_bpffs
from xdpguard.dataplane.sys.pins import Pins, orphaned, remove_orphans
from xdpguard.dataplane.tables import default, guard, guardpolicy
from xdpguard.explain.own import of_host
from xdpguard.explain.subject import NO_GUARD, Subject
from xdpguard.policy.filter import Filter
from xdpguard.policy.model import Guard, Policy
from xdpguard.policy.rule import CONFIG, NewRule
from xdpguard.store.database import Store

_OURS = re.compile(r"xgprobe-(\d+)$")
_FOLDER = re.compile(r"xdpguard-probe-(\d+)-")
_SOCKETS = "the default is judged by the sockets of this moment; what was sent before a packet is not known"
_TRACKED = 1024  # rows of the tracking tables, which a probe never fills


@contextmanager
def candidate(
    policy: Policy, label: str, bpffs: Path, cache: Path, beside: tuple[Controller, Subject] | None = None
) -> Iterator[Subject]:
    """Load a policy's rules, checks, lists, filters and guard into a probe of their own.

    ``cache``: the folder of compiled programs. ``beside``: an attached interface; the probe then matches what attaching
    it with this policy would give: with the rules, lists and filters that are not from the configuration, the settings
    of ``guard set``, and the guard's current state.
    """
    ensure_bpffs(bpffs)
    remove_orphans(bpffs, _OURS)
    _remove_orphaned_folders()
    pins = Pins(bpffs, f"xgprobe-{os.getpid()}")
    session, other = beside if beside else (None, None)
    link = other.link if other else None
    observe = bool(other and other.observe)
    target = Target("candidate", "", link.mtu if link else 1500, bool(link and link.loopback), observe)
    try:
        pins.prepare(target.name, target.netns)
        sized = replace(switches(pins, target, policy), sources=_TRACKED, tuples=_TRACKED)
        with (
            tempfile.TemporaryDirectory(prefix=f"xdpguard-probe-{os.getpid()}-") as folder,
            Probe(sized, pins, (target.name, target.netns), cache, link.ifindex if link else 0) as probe,
            Store(Path(folder) / "store.db") as store,
        ):
            ruleset = Ruleset(store, KernelDataplane(pins))
            notes = _fill(pins, ruleset, policy, session)
            chosen = session.guard.effective(policy.guard) if session else policy.guard
            state = _guard(pins, chosen, other, target)
            its = session.default.effective(policy.default) if session else policy.default
            default.write(pins, wanted_in_force(its))
            if its.policy == "drop":
                notes.append(_SOCKETS)
            probe.set_guard(state)
            own = other.own if other else of_host()
            yield Subject(label, probe, ruleset, pins, state, chosen.mode, observe, link, own, notes)
    finally:
        pins.remove_all()


def _fill(pins: Pins, ruleset: Ruleset, policy: Policy, session: Controller | None) -> list[str]:
    with KernelDataplane(pins).tables() as tables:
        tables.seed()
    if session:
        for kind in ("allow", "block", "port"):
            others = [
                NewRule(kind, rule.target, part.reason, part.source, rule.created, part.expires)
                for rule in session.store.rules(kind)
                for part in rule.parts
                if part.source != CONFIG
            ]
            if others:
                ruleset.rules.add_rules(others)
        for its in session.lists.stored.all():
            if its.source != CONFIG:
                ruleset.lists.put(its, session.lists.stored.entries(its.name))
    ruleset.rules.replace_source(CONFIG, list(config_rules(policy)))
    wanted = _filters(policy, session)
    _filters_lists(ruleset, {name for it in wanted for name in it.lists}, policy, session)
    # A probe drops no traffic, so nothing can be cut off.
    files = {name: msgspec.structs.replace(its, force=True) for name, its in policy.lists.items()}
    notes = []
    for done in Loader(ruleset.lists).follow(files):
        if done.its.skipped:
            what = "line, which is not an entry" if done.its.skipped == 1 else "lines, which are not entries"
            notes.append(f"{done.its.file}: skipped {done.its.skipped:,} {what}")
    ruleset.filters.apply(wanted)
    return notes


def _filters(policy: Policy, session: Controller | None) -> list[Filter]:
    """Return the filters there would be, in order."""
    held = session.filters.stored.all() if session else []
    configured = [its.filter(CONFIG, time.time()) for its in policy.filters]
    return [it._replace(slot=NEW) for it in with_source(held, CONFIG, configured)]


def _filters_lists(ruleset: Ruleset, names: set[str], policy: Policy, session: Controller | None) -> None:
    """Put the shadow lists in force that filters ask."""
    for its in session.shadow_lists.stored.all() if session else ():
        if its.source != CONFIG and its.name in names:
            assert session is not None
            ruleset.shadow_lists.put(its, session.shadow_lists.stored.entries(its.name))
    files = {name: its for name, its in policy.lists.items() if its.shadow and name in names}
    list(Loader(ruleset.shadow_lists).follow(files))


def _guard(pins: Pins, policy: Guard, other: Subject | None, target: Target) -> guard.State:
    in_force = guardpolicy.read(other.pins) if other else guardpolicy.InForce("", options=True, scan=False)
    guardpolicy.write(pins, guardpolicy.encode(policy, in_force.options, in_force.scan))
    state, link = (other.state, other.link) if other else (NO_GUARD, None)
    around = surroundings(policy, link) if link else guard.Surroundings(b"")
    guard.surround(pins, target.name, target.netns, around)
    return guard.settled(state, policy.mode, around)._replace(locals=int(bool(around.locals)))


def _remove_orphaned_folders() -> None:
    for path in Path(tempfile.gettempdir()).iterdir():
        # Any user may create a folder of that name there.
        if orphaned(_FOLDER, path.name) and path.lstat().st_uid == os.geteuid():
            shutil.rmtree(path, ignore_errors=True)
