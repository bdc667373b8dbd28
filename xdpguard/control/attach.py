# SPDX-License-Identifier: GPL-2.0
"""Attach: from the check to the record, in one step for whoever sends packets.

Whatever moment it is killed at, the link carries either what it carried before or the new program with every rule in
place, and the next command finds its way from there.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from msgspec.structs import replace

from xdpguard.control import answering, builds, namespaces, needed, safety
from xdpguard.control.answering import Choice
from xdpguard.control.attachments import Attachments
from xdpguard.control.entries import CONFIG
from xdpguard.control.frames import mode_for_any_mtu
from xdpguard.control.guard import Seen
from xdpguard.control.interfaces import Interface
from xdpguard.control.lists import Lists
from xdpguard.control.loader import Circumstances, Loaded, Loader, Plan
from xdpguard.dataplane.build.program import Built, Target
from xdpguard.dataplane.sys import kernel
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.net import hidden, queues
from xdpguard.net.links import Link, Mode, NoSuchLink, WantedMode, Xdp
from xdpguard.net.netns import place_of
from xdpguard.net.refusals import AttachRefused
from xdpguard.policy.model import RULES, Policy
from xdpguard.policy.rule import NewRule
from xdpguard.policy.target import parse_ports, parse_prefix
from xdpguard.store.database import Attachment


@dataclass(frozen=True)
class Request:
    """What ``attach`` was asked for. ``name`` and ``netns`` as they are recorded: see `Attachments.place`.

    ``any_mtu``: the program shall take frames in several buffers, so that the MTU can be raised while it is attached.
    """

    name: str
    netns: str = ""
    mode: WantedMode = "auto"
    observe: bool = False
    replace: bool = False
    force: bool = False
    unattended: bool = False  # nobody is there to be refused: what the host needs is kept instead
    any_mtu: bool = False


@dataclass
class Outcome:
    """What was done, and what a person should be told about it."""

    interface: Interface
    notes: list[str] = field(default_factory=list)
    restored: list[str] = field(default_factory=list)  # sysctls put back
    lists: list[Loaded] = field(default_factory=list)  # those of the configuration that were new or changed
    moved: list[str] = field(default_factory=list)  # what had to be done to the devices above


@dataclass(frozen=True)
class _Job:
    """What is to be attached where, and how."""

    link: Link
    request: Request
    choice: Choice
    built: Built
    policy: Policy


class Attach:
    """How an interface comes into an instance."""

    def __init__(self, attachments: Attachments, loader: Loader, shadow_loader: Loader) -> None:
        self._its = attachments
        self._ruleset = attachments.ruleset
        self._store = attachments.store
        self._guard = attachments.ruleset.guard
        self._step = attachments.step
        self._loaders = loader, shadow_loader

    def __call__(self, request: Request, policy: Policy, taken: Callable[[], None]) -> Outcome:
        """Attaches, or swaps the program of an interface that is attached, in one step.

        ``taken`` is called within the change that puts the configuration in force.
        """
        its = self._its
        link = its.table.get(request.name, request.netns)
        before = its.interfaces.known(link.name, link.netns)
        request, frame_notes = self._checked(link, before, request)
        policy, wanted, plans, notes = self._planned(request, link, policy)
        choice = answering.choose(link, request.mode, self._guard.effective(policy.guard))
        self._step("prepare")
        if not its.dataplane.exists():
            with self._store.transaction():
                self._store.renumber()
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
                    done, more, moved = self._in_force(job, wanted, plans, seen, taken)
            except BaseException:
                self._undo(link, request, before, built)
                raise
            its.interfaces.note_on(link.name, link.netns)
        interface = Interface(
            link.name,
            link.netns,
            done,
            request.observe,
            built.prog_id,
            "attached",
            any_mtu=request.any_mtu,
            mtu=link.mtu,
        )
        carrying = _carrying(link, built, done)
        more += [
            *answering.notes(carrying, interface, choice),
            *queues.notes(link, done, kernel.possible_cpus()),
            *hidden.notes(link, its.table.all(link.netns)),
        ]
        return Outcome(
            interface,
            [*frame_notes, *notes, *more, *self._drop_other_versions()],
            lists=[it.loaded(in_force=True) for plan in plans for it in plan.puts],
            moved=moved,
        )

    def _fill(self) -> None:
        """Makes the maps, which are there by now, hold what the store holds."""
        with self._its.dataplane.tables() as tables:
            tables.seed()
        if not self._ruleset.changes.resync():
            raise XdpguardError(
                "the kernel has no room for the rules and lists that are stored",
                "free some memory; see xdpguard doctor",
            )

    def _in_force(
        self, job: _Job, wanted: Sequence[NewRule], plans: tuple[Plan, Plan], seen: Seen, taken: Callable[[], None]
    ) -> tuple[Mode, list[str], list[str]]:
        """Puts the configuration in force and attaches, all of it or nothing; the mode, and notes of two kinds.

        Who is interrupted behind the kernel's answer has attached: that is what is recorded then.
        """
        its, link, interrupted = self._its, job.link, None
        with self._ruleset.changes.begin():
            self._configure(job, wanted, plans)
            self._guard.put(job.choice.policy, seen)
            taken()
            self._step("attach")
            try:
                (done, more), moved = its.uppers.change(link, partial(self._swap, job, seen))
            except BaseException as error:
                now = self._mode_of(job)
                if now is None:
                    raise
                done, more, moved, interrupted = now, [], [], error
            job.built.in_force()
            self._step("confirm")
            its.record(link, done, job.request.observe, job.built.prog_id, job.request.any_mtu)
            builds.record(self._store, link.name, link.netns, job.built.prog_id, job.policy.sanity)
            if job.request.force:
                needed.accept(self._store)
        if interrupted is not None:
            raise interrupted
        return done, more, moved

    def _configure(self, job: _Job, wanted: Sequence[NewRule], plans: tuple[Plan, Plan]) -> None:
        """Rules and lists of the configuration, and of what the host needs."""
        if job.request.unattended:
            rules, entries = wanted, plans[0].unforced()
            needed.keep(self._ruleset.rules, needed.conflicts(self._store, {"", job.link.netns}, rules, entries))
        for lists, plan in zip((self._ruleset.lists, self._ruleset.shadow_lists), plans, strict=True):
            if plan.puts or plan.drops:
                lists.apply([(it.its, it.entries) for it in plan.puts], plan.drops)
        self._ruleset.purge()
        self._ruleset.rules.replace_source(CONFIG, wanted)

    def _mode_of(self, job: _Job) -> Mode | None:
        """The mode in which a link carries the program that was built for it; None: it does not."""
        try:
            now = self._its.table.get(job.link.name, job.link.netns).xdp
        except NoSuchLink:
            return None
        if now is None or now.mode == "offload" or now.prog_id != job.built.prog_id:
            return None
        return now.mode

    def _planned(
        self, request: Request, link: Link, policy: Policy
    ) -> tuple[Policy, list[NewRule], tuple[Plan, Plan], list[str]]:
        """What the policy comes to: itself with room for its rules, these, its lists (enforced, shadow), and notes."""
        wanted = list(config_rules(policy))
        if not (request.force or request.unattended):
            safety.check_attach(self._store, {link.netns}, wanted)
            safety.check_lists(self._store, {link.netns}, wanted)
        policy = self._with_room(policy, len(wanted))
        around = Circumstances({link.netns}, config=wanted, unattended=request.unattended)
        loader, shadow_loader = self._loaders
        plan = loader.plan(policy.lists, around, request.force)
        shadow_plan = shadow_loader.plan(policy.lists, around)
        notes = self._tolerated(plan, self._ruleset.lists, request)
        notes += self._tolerated(shadow_plan, self._ruleset.shadow_lists, request)
        return policy, wanted, (plan, shadow_plan), notes

    def _checked(self, link: Link, known: Attachment | None, request: Request) -> tuple[Request, list[str]]:
        """The request with the mode that its other wishes need, and notes. XdpguardError when it cannot be met."""
        if not link.ethernet:
            # A tunnel's packets begin with the IP header, which would be read as addresses of Ethernet.
            raise XdpguardError(
                f"{place_of(link.name, link.netns)} is no Ethernet interface ({link.kind or 'tunnel'})",
                "attach to the interface that its packets arrive on",
            )
        if link.xdp is not None:
            self._check_swap(link, known, request)
        moved = self._its.interfaces.renamed(known) if known and not self._its.interfaces.ours(link, known) else None
        if moved:
            raise XdpguardError(
                f"the {place_of(link.name, link.netns)} of before is now {place_of(moved.name, moved.netns)}, and"
                " carries the program still",
                f"detach it first: xdpguard detach {link.name}; then attach to either again",
            )
        if not request.any_mtu:
            return request, []
        mode, notes = mode_for_any_mtu(link, request.mode)
        if link.xdp is not None and link.xdp.mode == "native" and not (known and known.any_mtu):
            # veth, for one, sets the limit with the first program only (drivers/net/veth.c, veth_xdp_set).
            notes.append(
                "a driver may keep the MTU limit of the program before; where it does, detach and attach again"
            )
        return dataclasses.replace(request, mode=mode), notes

    def _check_swap(self, link: Link, known: Attachment | None, request: Request) -> None:
        assert link.xdp is not None
        if not self._its.interfaces.ours(link, known) and not request.replace:
            name = self._its.dataplane.name_of(link.xdp.prog_id) or "unnamed"
            raise XdpguardError(
                f"{place_of(link.name, link.netns)} already carries an XDP program: {name} (id {link.xdp.prog_id})",
                "it was left alone; --replace takes its place",
            )
        if link.xdp.mode == "offload" or request.mode not in ("auto", link.xdp.mode):
            raise XdpguardError(
                f"{place_of(link.name, link.netns)} is attached in {link.xdp.mode} mode, and modes cannot be swapped",
                "detach it first, or attach without --mode",
            )

    def _with_room(self, policy: Policy, more: int) -> Policy:
        """The policy with a capacity for the stored rules and ``more``; UsageError when it names one that is too small.

        Tables that are there keep their size; new ones are made large enough, unless a size was asked for.
        """
        slots = self._store.used_slots()
        made = self._its.dataplane.exists()
        highest = max(slots, default=0) + 1 if made else len(slots)
        capacity = policy.limits.rules
        if capacity is None and made:
            with self._its.dataplane.tables() as tables:
                capacity = tables.capacity
        elif capacity is None:
            capacity = max(RULES, 1 << (2 * (len(slots) + more)).bit_length())
        if highest > capacity:
            raise UsageError(
                f"{len(slots)} rules are stored, and the tables are to hold {capacity}",
                "raise limits.rules in the configuration, or leave it out; and detach --all before attaching again",
            )
        return replace(policy, limits=replace(policy.limits, rules=capacity))

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

    def _tolerated(self, plan: Plan, lists: Lists, request: Request) -> list[str]:
        """Notes on files that cannot be read now but whose entries of before go on. The error of one without any."""
        held = {it.name for it in lists.stored.all()}
        for name, error in plan.errors.items():
            if name not in held and not request.unattended:
                raise error
        stays = {name: "the list stays as it was" if name in held else "it is not loaded" for name in plan.errors}
        return [f"{error}; {stays[name]}; {error.remedy}" for name, error in plan.errors.items()]

    def _undo(self, link: Link, request: Request, before: Attachment | None, built: Built) -> None:
        """Forgets what was prepared. If the link carries the program all the same, that is what is recorded."""
        its = self._its
        try:
            now = its.table.get(link.name, link.netns).xdp
        except NoSuchLink:
            now = None
        if now is not None and now.prog_id == built.prog_id:
            its.record(link, now.mode, request.observe, built.prog_id, request.any_mtu)
            built.in_force()
            return
        with self._store.transaction():
            if before is None:
                self._store.remove_attachment(link.name, link.netns)
                namespaces.forget_namespace(self._store, link.netns)
            else:
                self._store.put_attachment(before, time.time())
        if before is None:
            self._guard.offloads.restore(link.name, link.netns)
        if self._store.attachments() or its.interfaces.orphans():
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
            return [f"{', '.join(old)} still runs the program of another version; attach it again as well"]
        pins.remove_versions(others)
        return [f"took over from another version of xdpguard ({', '.join(others)})"]


def config_rules(policy: Policy) -> Iterable[NewRule]:
    """The rules of a configuration."""
    now = time.time()
    for text in policy.rules.allow:
        yield NewRule("allow", parse_prefix(text)[0], "", CONFIG, now, None)
    for text in policy.rules.block:
        yield NewRule("block", parse_prefix(text)[0], "", CONFIG, now, None)
    for text in policy.rules.ports:
        for port in parse_ports(text):
            yield NewRule("port", port, "", CONFIG, now, None)


def _carrying(link: Link, built: Built, mode: Mode) -> Link:
    """A link as it is with the new program on it."""
    return link._replace(xdp=Xdp(built.prog_id, mode))
