# SPDX-License-Identifier: GPL-2.0
"""Attach an interface, from the checks to the record, atomically for the traffic.

Whenever it is killed, the link carries either what it carried before or the new program with every rule in place, and
the next command recovers from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from xdpguard.control import answering, builds, configuring, namespaces, needed
from xdpguard.control.answering import Choice
from xdpguard.control.attachments import Attachments
from xdpguard.control.configuring import Wanted
from xdpguard.control.hanging import take_off
from xdpguard.control.interfaces import Interface
from xdpguard.control.loader import Loader
from xdpguard.control.plan import Loaded
from xdpguard.control.planning import Planning, Request
from xdpguard.control.surroundings import Seen
from xdpguard.dataplane.build.program import Built, Target
from xdpguard.dataplane.sys import kernel
from xdpguard.errors import XdpguardError
from xdpguard.net import hidden, queues
from xdpguard.net.links import Link, Mode, NoSuchLink, Xdp
from xdpguard.net.netns import place_of
from xdpguard.net.refusals import AttachRefused
from xdpguard.policy.model import Policy
from xdpguard.store.attachments import Attachment, attachments, put_attachment, remove_attachment
from xdpguard.store.room import check_room


@dataclass
class Outcome:
    """The result of an attach or detach, with notes for the user."""

    interface: Interface
    notes: list[str] = field(default_factory=list)
    restored: list[str] = field(default_factory=list)  # sysctls and offloads that were restored
    lists: list[Loaded] = field(default_factory=list)  # lists of the configuration that were new or changed
    moved: list[str] = field(default_factory=list)  # what had to be done to devices above


@dataclass(frozen=True)
class _Job:
    """One attach: the link, the request, the chosen mode, the built program and the policy."""

    link: Link
    request: Request
    choice: Choice
    built: Built
    policy: Policy


class Attach:
    """Attaches interfaces to an instance."""

    def __init__(self, attachments: Attachments, loader: Loader, shadow_loader: Loader) -> None:
        self._its = attachments
        self._ruleset = attachments.ruleset
        self._store = attachments.store
        self._guard, self._default = attachments.ruleset.guard, attachments.ruleset.default
        self._step = attachments.step
        self._planning = Planning(attachments, loader, shadow_loader)

    def __call__(self, request: Request, policy: Policy, taken: Callable[[], None]) -> Outcome:
        """Attach an interface, or swap the program of an attached one atomically.

        ``taken`` is called within the change that puts the configuration in force.
        """
        its = self._its
        link = its.table.get(request.name, request.netns)
        sharing = queues.shared(link, kernel.possible_cpus())  # before attaching takes queues
        before = its.interfaces.known(link.name, link.netns)
        request, frame_notes = self._planning.checked(link, before, request)
        policy, wanted, notes = self._planning.plan(request, link, policy)
        choice = answering.choose(link, request.mode, self._guard.effective(policy.guard))
        self._step("prepare")
        with self._store.transaction():
            if not its.dataplane.exists():
                self._store.renumber()
            check_room(self._store)
        self._step("compile")
        target = Target(
            link.name, link.netns, link.mtu, link.loopback, request.observe, link.kind == "veth", request.any_mtu
        )
        with its.dataplane.build(target, policy) as built:
            try:
                self._step("fill")
                self._fill()
                carriers = [_carrying(link, built, choice.mode), *self._others(link)]
                seen, changed = self._guard.look(choice.policy, carriers)
                notes += changed
                self._step("record")
                its.record(link, choice.mode, request.observe, before.prog_id if before else 0, request.any_mtu)
                job = _Job(link, request, choice, built, policy)
                with its.uppers.announced(link):
                    done, more, moved = self._in_force(job, wanted, seen, taken)
            except BaseException:
                self._undo(link, request, before, built)
                raise
            its.interfaces.note_on(link.name, link.netns)
        interface = Interface(
            *(link.name, link.netns, done, request.observe, built.prog_id, "attached"),
            any_mtu=request.any_mtu,
            mtu=link.mtu,
        )
        carrying = _carrying(link, built, done)
        more += [
            *answering.notes(carrying, interface, choice),
            *queues.notes(link, done, sharing, kernel.possible_cpus()),
            *hidden.notes(link, its.table.all(link.netns)),
        ]
        return Outcome(
            interface,
            [*frame_notes, *notes, *more, *self._drop_other_versions()],
            lists=[it.loaded(in_force=True) for plan in wanted.plans for it in plan.puts],
            moved=moved,
        )

    def _fill(self) -> None:
        """Fill the maps, which exist by now, from the store."""
        with self._its.dataplane.tables() as tables:
            tables.seed()
        if not self._ruleset.changes.resync():
            raise XdpguardError(
                "the kernel has no room for the stored rules and lists",
                "free some memory; see xdpguard doctor",
            )

    def _in_force(
        self, job: _Job, wanted: Wanted, seen: Seen, taken: Callable[[], None]
    ) -> tuple[Mode, list[str], list[str]]:
        """Put the configuration in force and attach, as one change; return the mode, notes, and notes on devices above.

        An interruption after the kernel has attached the program is raised only after the attach was recorded.
        """
        its, link, interrupted = self._its, job.link, None
        with self._ruleset.changes.begin():
            unattended = job.request.unattended
            awaited = [name for it in wanted.filters for name in it.lists] if unattended else ()
            notes = configuring.put(self._ruleset, wanted, {link.netns} if unattended else None, awaited)
            self._guard.put(job.choice.policy, seen)
            carriers = [*(link for link, _ in seen), *its.renamed()]
            self._ruleset.put_default(self._default.effective(job.policy.default), carriers)
            taken()
            record = partial(its.record, link, observe=job.request.observe, any_mtu=job.request.any_mtu)
            record(mode=job.choice.mode, prog_id=job.built.prog_id)
            check_room(self._store)
            self._step("attach")
            try:
                (done, more), moved = its.uppers.change(link, partial(self._swap, job, seen))
            except BaseException as error:
                now = self._mode_of(link, job.built)
                if now is None:
                    raise
                done, more, moved, interrupted = now, [], [], error
            job.built.in_force()
            self._step("confirm")
            record(mode=done, prog_id=job.built.prog_id)
            builds.record(self._store, link.name, link.netns, job.built.prog_id, job.policy.sanity)
            if job.request.force:
                needed.accept(self._store)
        if interrupted is not None:
            raise interrupted
        return done, [*notes, *more], moved

    def _mode_of(self, link: Link, built: Built) -> Mode | None:
        """Return the mode in which the link carries the program built for it, or None if it does not."""
        try:
            now = self._its.table.get(link.name, link.netns).xdp
        except NoSuchLink:
            return None
        if now is None or now.mode == "offload" or now.prog_id != built.prog_id:
            return None
        return now.mode

    def _swap(self, job: _Job, seen: Seen) -> tuple[Mode, list[str]]:
        its, link, choice = self._its, job.link, job.choice
        if link.xdp is not None:
            with its.program(link.xdp.prog_id) as old:
                its.table.attach(link, job.built.fd, choice.mode, old)
            return choice.mode, []
        try:
            its.table.attach(link, job.built.fd, choice.mode, None)
        except AttachRefused as error:
            if choice.wanted != "auto" or choice.mode == "generic":
                raise
            its.table.attach(link, job.built.fd, "generic", None)
            self._guard.put(choice.policy, [(_carrying(link, job.built, "generic"), around) for _, around in seen[:1]])
            return "generic", [f"{error}: attached in generic mode, which is slower"]
        return choice.mode, []

    def _undo(self, link: Link, request: Request, before: Attachment | None, built: Built) -> None:
        """Discard what was prepared; if the link carries the new program anyway, record that instead."""
        its = self._its
        mode = self._mode_of(link, built)
        if mode is not None:
            its.record(link, mode, request.observe, built.prog_id, request.any_mtu)
            built.in_force()
            return
        with self._store.transaction():
            if before is None:
                remove_attachment(self._store, link.name, link.netns)
                namespaces.forget_namespace(self._store, link.netns)
            else:
                put_attachment(self._store, before, time.time())
        if before is None:
            self._guard.offloads.restore(link.name, link.netns)
            take_off(link)
        if attachments(self._store) or its.interfaces.orphans():
            built.discard()
            if before is None:
                its.dataplane.pins.remove_link(link.name, link.netns)
        else:
            its.retire()

    def _others(self, link: Link) -> list[Link]:
        return [it for it in self._its.links() if (it.name, it.netns) != (link.name, link.netns)]

    def _drop_other_versions(self) -> list[str]:
        pins = self._its.dataplane.pins
        others = pins.other_versions()
        if not others:
            return []
        waiting = [it for it in self._its.interfaces.all() if it.state == "attached" and it.prog_id is not None]
        old = [place_of(it.name, it.netns) for it in waiting if not pins.is_current(it.name, it.netns)]
        if old:
            return [f"the program of another version still runs on {', '.join(old)}; attach there again as well"]
        pins.remove_versions(others)
        return [f"took over from another version of xdpguard ({', '.join(others)})"]


def _carrying(link: Link, built: Built, mode: Mode) -> Link:
    """Return a link as it is with the new program attached."""
    return link._replace(xdp=Xdp(built.prog_id, mode))
