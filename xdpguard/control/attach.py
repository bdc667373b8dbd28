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
from xdpguard.control.interfaces import Interface
from xdpguard.control.lists import Listbook
from xdpguard.control.loader import Circumstances, Loaded, Plan
from xdpguard.dataplane.build.program import Built, Target
from xdpguard.dataplane.sys import kernel
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.net import hidden, queues
from xdpguard.net.links import Link, Mode, NoSuchLink, WantedMode, Xdp
from xdpguard.net.netns import place_of
from xdpguard.net.refusals import AttachRefused
from xdpguard.policy.model import RULES, Policy
from xdpguard.policy.rule import NewRule, Rule
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


class Attaching(Attachments):
    """One instance, and how an interface comes into it."""

    def attach(self, request: Request, policy: Policy) -> Outcome:
        """Attaches, or swaps the program of an interface that is attached, in one step."""
        link = self._links.get(request.name, request.netns)
        before = self._inventory.known(link.name, link.netns)
        request, frame_notes = self._checked(link, before, request)
        policy, wanted, plans, notes = self._planned(request, link, policy)
        choice = answering.choose(link, request.mode, self.guard.effective(policy.guard))
        self._step("prepare")
        held = [rule for rule in self.store.rules() if rule.source == CONFIG]
        if not self._dataplane.exists():
            with self.store.transaction():
                self.store.renumber()
        self._step("compile")
        target = Target(
            link.name, link.netns, link.mtu, link.loopback, request.observe, link.kind == "veth", request.any_mtu
        )
        with self._dataplane.build(target, policy) as built:
            undo: list[Callable[[], None]] = []
            try:
                self._step("fill")
                with self._dataplane.tables() as tables:
                    tables.seed()
                    self.rules.fill(tables)
                    listed = tables.lists_in_force()
                self.lists.settle(listed)
                self.shadow.fill()
                if request.unattended:
                    self.keep_needed({link.netns}, wanted, plans[0].unforced())
                _apply(zip((self.lists, self.shadow.lists), plans, strict=True), undo)
                self.rules.purge()
                self.shadow.rules.purge()
                self.rules.replace_source(CONFIG, wanted)
                notes += self.guard.apply(choice.policy, [_carrying(link, built, choice.mode), *self._others(link)])
                self._step("record")
                self._record(link, choice.mode, request.observe, before.prog_id if before else 0, request.any_mtu)
                self._step("attach")
                (done, more), moved = self._uppers.change(link, partial(self._swap, link, choice, built))
                built.in_force()
            except BaseException:
                self._undo(link, request, before, built, held, undo)
                raise
            self._step("confirm")
            with self.store.transaction():
                self._record(link, done, request.observe, built.prog_id, request.any_mtu)
                self._policy_changed()
                builds.record(self.store, link.name, link.netns, built.prog_id, policy.sanity)
            if request.force:
                needed.accept(self.store)
            self._inventory.note_on(link.name, link.netns)
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
            *hidden.notes(link, self._links.all(link.netns)),
        ]
        return Outcome(
            interface,
            [*frame_notes, *notes, *more, *self._drop_other_versions()],
            lists=[it.loaded(in_force=True) for plan in plans for it in plan.puts],
            moved=moved,
        )

    def _planned(
        self, request: Request, link: Link, policy: Policy
    ) -> tuple[Policy, list[NewRule], tuple[Plan, Plan], list[str]]:
        """What the policy comes to: itself with room for its rules, these, its lists (enforced, shadow), and notes."""
        wanted = list(config_rules(policy))
        if not (request.force or request.unattended):
            safety.check_attach(self.store, {link.netns}, wanted)
            safety.check_lists(self.store, {link.netns}, wanted)
        policy = self._with_room(policy, len(wanted))
        around = Circumstances({link.netns}, config=wanted, unattended=request.unattended)
        plan = self.loader.plan(policy.lists, around, request.force)
        shadow_plan = self.shadow.loader.plan(policy.lists, around)
        notes = self._tolerated(plan, self.lists, request) + self._tolerated(shadow_plan, self.shadow.lists, request)
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
        moved = self._inventory.renamed(known) if known and not self._inventory.ours(link, known) else None
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
        if not self._inventory.ours(link, known) and not request.replace:
            name = self._dataplane.name_of(link.xdp.prog_id) or "unnamed"
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
        slots = self.store.used_slots()
        made = self._dataplane.exists()
        highest = max(slots, default=0) + 1 if made else len(slots)
        capacity = policy.limits.rules
        if capacity is None and made:
            with self._dataplane.tables() as tables:
                capacity = tables.capacity
        elif capacity is None:
            capacity = max(RULES, 1 << (2 * (len(slots) + more)).bit_length())
        if highest > capacity:
            raise UsageError(
                f"{len(slots)} rules are stored, and the tables are to hold {capacity}",
                "raise limits.rules in the configuration, or leave it out; and detach --all before attaching again",
            )
        return replace(policy, limits=replace(policy.limits, rules=capacity))

    def _swap(self, link: Link, choice: Choice, built: Built) -> tuple[Mode, list[str]]:
        if link.xdp is not None:
            with self._program(link.xdp.prog_id) as old:
                self._links.attach(link, built.fd, choice.mode, old)
            return choice.mode, []
        try:
            self._links.attach(link, built.fd, choice.mode, None)
        except AttachRefused as error:
            if choice.wanted != "auto" or choice.mode == "generic":
                raise
            self._links.attach(link, built.fd, "generic", None)
            self.guard.apply(choice.policy, [_carrying(link, built, "generic")])
            return "generic", [f"{error}: attached in generic mode, which is slower"]
        return choice.mode, []

    def _tolerated(self, plan: Plan, book: Listbook, request: Request) -> list[str]:
        """Notes on files that cannot be read now but whose entries of before go on. The error of one without any."""
        held = {it.name for it in book.shelf.all()}
        for name, error in plan.errors.items():
            if name not in held and not request.unattended:
                raise error
        stays = {name: "the list stays as it was" if name in held else "it is not loaded" for name in plan.errors}
        return [f"{error}; {stays[name]}; {error.remedy}" for name, error in plan.errors.items()]

    def _undo(
        self,
        link: Link,
        request: Request,
        before: Attachment | None,
        built: Built,
        config: Sequence[Rule],
        undo: Sequence[Callable[[], None]],
    ) -> None:
        try:
            now = self._links.get(link.name, link.netns).xdp
        except NoSuchLink:
            now = None
        if now is not None and now.prog_id == built.prog_id:
            # Interrupted behind the kernel's answer: it is attached, so that is what is recorded.
            self._record(link, now.mode, request.observe, built.prog_id, request.any_mtu)
            built.in_force()
            return
        for step in reversed(undo):
            step()
        self.rules.replace_source(
            CONFIG, [NewRule(it.kind, it.target, it.reason, it.source, it.created, it.expires) for it in config]
        )
        with self.store.transaction():
            if before is None:
                self.store.remove_attachment(link.name, link.netns)
                namespaces.forget_namespace(self.store, link.netns)
            else:
                self.store.put_attachment(before, time.time())
        if before is None:
            self.guard.offloads.restore(link.name, link.netns)
        if self.store.attachments() or self._inventory.orphans():
            built.discard()
            if before is None:
                self._dataplane.pins.remove_link(link.name, link.netns)
        else:
            self._retire()

    def _others(self, link: Link) -> list[Link]:
        return [it for it in self.links() if (it.name, it.netns) != (link.name, link.netns)]

    def _drop_other_versions(self) -> list[str]:
        others = self._dataplane.pins.other_versions()
        if not others:
            return []
        waiting = [it for it in self._inventory.interfaces() if it.state == "attached" and it.prog_id is not None]
        old = [place_of(it.name, it.netns) for it in waiting if not self._dataplane.pins.is_current(it.name, it.netns)]
        if old:
            return [f"{', '.join(old)} still runs the program of another version; attach it again as well"]
        self._dataplane.pins.remove_versions(others)
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


def _apply(plans: Iterable[tuple[Listbook, Plan]], undo: list[Callable[[], None]]) -> None:
    for book, plan in plans:
        if plan.puts or plan.drops:
            undo.append(book.apply([(it.its, it.entries) for it in plan.puts], plan.drops))
