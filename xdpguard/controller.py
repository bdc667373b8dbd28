# SPDX-License-Identifier: GPL-2.0
"""Attach, detach, replace, restore: the only place that brings store, maps and links together.

Whatever moment it is killed at, the link carries either what it carried before or the new program with every rule in
place, and the next command finds its way from there. Methods that change something want the instance's lock held.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from msgspec.structs import replace

from xdpguard import builds, safety
from xdpguard.dataplane.pins import Pins
from xdpguard.dataplane.program import Built, Target
from xdpguard.dataplane.shadowmaps import ShadowTables
from xdpguard.dataplane.tables import Tables
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.guardbook import Guardbook
from xdpguard.inventory import BOOT, Interface, Inventory, LinkList, Programs, boot_id
from xdpguard.listbook import Listbook, Share
from xdpguard.listloader import ListsFailed, Loaded, Loader, Plan
from xdpguard.lists.store import Attachment, Store
from xdpguard.loans import Loans
from xdpguard.net.links import AttachRefused, Link, Mode, NoSuchLink
from xdpguard.policy.model import RULES, Policy
from xdpguard.policy.rule import NewRule, Rule
from xdpguard.policy.target import parse_ports, parse_prefix
from xdpguard.rulebook import CONFIG, INTERRUPTED, Rulebook
from xdpguard.shadowing import ShadowAudit, Shadowing, mend_all

WantedMode = Literal["auto", "native", "generic"]

_POLICY = "policy"  # fact: when a configuration was last put in force
_CONFIG = "config"  # fact: path of the configuration last given


class Dataplane(Programs, Protocol):
    """What the controller needs of the kernel; KernelDataplane is the real one."""

    pins: Pins

    def build(self, target: Target, policy: Policy) -> Built: ...
    def tables(self) -> AbstractContextManager[Tables]: ...
    def shadow_tables(self) -> AbstractContextManager[ShadowTables]: ...
    def open_program(self, prog_id: int) -> int: ...


class LinkTable(LinkList, Protocol):
    """What the controller needs of rtnetlink; net.links.Links is the real one."""

    def attach(self, link: Link, program: int, mode: Mode, expected: int | None) -> None: ...
    def detach(self, link: Link, mode: Mode, expected: int) -> None: ...


@dataclass(frozen=True)
class Request:
    """What ``attach`` was asked for."""

    name: str
    netns: str = ""
    mode: WantedMode = "auto"
    observe: bool = False
    replace: bool = False
    force: bool = False


@dataclass
class Outcome:
    """What was done, and what a person should be told about it."""

    interface: Interface
    notes: list[str] = field(default_factory=list)
    restored: list[str] = field(default_factory=list)  # sysctls put back
    lists: list[Loaded] = field(default_factory=list)  # those of the configuration that were new or changed


class Audit(NamedTuple):
    """What is stored and what the kernel holds of it: rules in force, entries of each list.

    ``behind``: a change of the lists was interrupted before it was in force. ``shadow``: of what only counts.
    """

    rules: Share
    lists: dict[str, Share]
    behind: bool = False
    shadow: ShadowAudit | None = None

    @property
    def ratio(self) -> float:
        """Entries held of those stored, 0 to 1."""
        shares = [self.rules, *self.lists.values()]
        stored = sum(share.stored for share in shares)
        return sum(share.held for share in shares) / stored if stored else 1.0 - self.behind


class Controller:
    """One instance."""

    def __init__(
        self,
        store: Store,
        dataplane: Dataplane,
        links: LinkTable,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        """``on_step`` hears the name of each step before it is taken; tests interrupt there."""
        self.store = store
        self._store = store
        self._dataplane = dataplane
        self._links = links
        self._step = on_step
        self._inventory = Inventory(store, dataplane, links)
        self.guard = Guardbook(store, dataplane.pins)
        self.lists = Listbook(store, dataplane.pins)
        self.shadow = Shadowing(store, dataplane)
        self.rules = Rulebook(store, dataplane, also=lambda: mend_all(store, self.lists, self.shadow))
        self.loader = Loader(store, self.lists)
        self.loans = Loans(store)

    def attach(self, request: Request, policy: Policy) -> Outcome:
        """Attaches, or swaps the program of an interface that is attached, in one step."""
        link = self._links.get(request.name, request.netns)
        before = self._inventory.known(link.name, link.netns)
        self._check(link, before, request)
        wanted = list(config_rules(policy))
        if not request.netns and not request.force:
            safety.check_attach(self._store, wanted)
        if not request.force:
            safety.check_lists(self._store, {link.netns}, wanted)
        policy = self._with_room(policy, len(wanted))
        plan = self.loader.plan(policy.lists, {link.netns}, wanted, request.force)
        shadow_plan = self.shadow.loader.plan(policy.lists, ())
        notes = self._tolerated(plan, self.lists) + self._tolerated(shadow_plan, self.shadow.lists)
        self._step("prepare")
        held = [rule for rule in self._store.rules() if rule.source == CONFIG]
        if not self._dataplane.exists():
            with self._store.transaction():
                self._store.renumber()
        self._step("compile")
        target = Target(link.name, link.netns, link.mtu, link.loopback, request.observe)
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
                _apply(((self.lists, plan), (self.shadow.lists, shadow_plan)), undo)
                self.rules.purge()
                self.shadow.rules.purge()
                self.rules.replace_source(CONFIG, wanted)
                self.guard.apply(self.guard.effective(policy.guard), [link, *self._others(link)])
                self._step("record")
                mode = request.mode if request.mode != "auto" else (link.xdp.mode if link.xdp else "native")
                self._record(link, mode, request, before.prog_id if before else 0)
                self._step("attach")
                done, more = self._swap(link, request, built)
            except BaseException:
                self._undo(link, request, before, built, held, undo)
                raise
            self._step("confirm")
            self._record(link, done, request, built.prog_id)
            self._policy_changed()
            with self._store.transaction():
                builds.record(self._store, link.name, link.netns, built.prog_id, policy.sanity)
        interface = Interface(link.name, link.netns, done, request.observe, built.prog_id, "attached")
        loaded = [it.loaded(in_force=True) for it in (*plan.puts, *shadow_plan.puts)]
        return Outcome(interface, notes + more + self._drop_other_versions(), lists=loaded)

    def detach(self, name: str, netns: str = "") -> Outcome:
        """Detaches our program, and only ours. The last one takes the maps with it; the store keeps rules and hits."""
        known = self._inventory.known(name, netns)
        notes = []
        try:
            link: Link | None = self._links.get(name, netns)
        except NoSuchLink:
            link = self._inventory.renamed(known) if known else None
            if known is None:
                raise
            notes.append(
                f"{_place(name, netns)} is now {_place(link.name, link.netns)}; detached there"
                if link
                else f"{_place(name, netns)} has gone; forgotten"
            )
        found = link.xdp if link else None
        if link and found and found.mode != "offload" and self._inventory.ours(link, known):
            self._step("detach")
            with self._program(found.prog_id) as program:
                self._links.detach(link, found.mode, program)
        elif known is None:
            raise XdpguardError(f"{_place(name, netns)} carries no program of this instance", "see xdpguard status")
        elif found:
            other = self._dataplane.name_of(found.prog_id)
            notes.append(
                f"{_place(name, netns)} carries program {found.prog_id} ({other}) of somebody else; left alone"
            )
        elif link:
            notes.append(f"{_place(name, netns)} carried no program any more")
        self._step("forget")
        with self._store.transaction():
            self._store.remove_attachment(name, netns)
            builds.forget(self._store, name, netns)
        self._dataplane.pins.remove_link(name, netns)
        if not self._store.attachments() and not self._inventory.orphans():
            self._step("harvest")
            self._retire()
        last = not any(it.netns == netns for it in self._store.attachments())
        restored = self.loans.restore(netns) if last else []
        mode = known.mode if known else (found.mode if found else "")
        return Outcome(Interface(name, netns, mode, bool(known and known.observe), None, "detached"), notes, restored)

    def detach_all(self) -> list[Outcome]:
        """Detaches every interface of the instance and removes what is left of it in the kernel."""
        done = [self.detach(it.name, it.netns) for it in self._inventory.interfaces()]
        if not done:
            self._retire()
        self.loans.restore()
        return done

    def interfaces(self) -> list[Interface]:
        """Every interface that carries our program or should, as it is now."""
        return self._inventory.interfaces()

    def config(self) -> Path | None:
        """The configuration file remembered from an attach before."""
        held = self._store.fact(_CONFIG)
        return Path(held) if held else None

    def remember_config(self, path: Path | None) -> None:
        """Remembers the configuration file for the next attach; None forgets it."""
        with self._store.transaction():
            self._store.put_fact(_CONFIG, str(path.absolute()) if path else "")

    def tables(self) -> AbstractContextManager[Tables]:
        """The rule tables in the kernel."""
        return self._dataplane.tables()

    def audit(self, repair: bool = False) -> Audit | None:
        """What the kernel holds of what the store holds; ``repair`` puts back what is missing. None: not attached."""
        if not self._dataplane.exists():
            return None
        now = time.time()
        rules = [rule for rule in self._store.rules() if rule.expires is None or rule.expires > now]
        with self._dataplane.tables() as tables:
            held = tables.held(rules)
            shares = self.lists.shares()
            behind = self.lists.behind() or bool(self._store.fact(INTERRUPTED))
            if repair:
                if held < len(rules) or self.rules.behind():
                    self.rules.fill(tables)
                if behind or any(share.held < share.stored for share in shares.values()):
                    self.lists.fill()
        return Audit(Share(len(rules), held), shares, behind, self.shadow.audit(repair))

    def follow_lists(self, policy: Policy, due: Callable[[str], bool] = lambda name: True) -> Iterator[Loaded]:
        """Loads the configuration's lists whose files are new or have changed; see Loader.follow."""
        errors: dict[str, XdpguardError] = {}
        for loader in (self.loader, self.shadow.loader):
            try:
                yield from loader.follow(policy.lists, due)
            except ListsFailed as failed:
                errors |= failed.errors
        if errors:
            raise ListsFailed(errors)

    def configure(self, policy: Policy) -> None:
        """Puts the rules of another configuration in force without attaching anew; its limits wait for that."""
        wanted = list(config_rules(policy))
        if any(not it.netns for it in self._store.attachments()):
            safety.check_attach(self._store, wanted)
        safety.check_lists(self._store, (), wanted)
        self.rules.replace_source(CONFIG, wanted)
        self._policy_changed()

    def policy_mark(self) -> str:
        """Another text whenever a configuration was put in force."""
        return self._store.fact(_POLICY)

    def _policy_changed(self) -> None:
        with self._store.transaction():
            self._store.put_fact(_POLICY, str(time.time_ns()))

    def links(self) -> list[Link]:
        """The links that carry our program."""
        found = []
        for it in self.interfaces():
            if it.state == "attached" and self._dataplane.pins.is_current(it.name, it.netns):
                try:
                    found.append(self._links.get(it.name, it.netns))
                except NoSuchLink:
                    continue
        return found

    def _others(self, link: Link) -> list[Link]:
        return [it for it in self.links() if (it.name, it.netns) != (link.name, link.netns)]

    @contextmanager
    def _program(self, prog_id: int) -> Iterator[int]:
        try:
            descriptor = self._dataplane.open_program(prog_id)
        except FileNotFoundError as error:
            raise XdpguardError("the attached program changed meanwhile", "try again") from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _check(self, link: Link, known: Attachment | None, request: Request) -> None:
        if not link.ethernet:
            # A tunnel's packets begin with the IP header, which would be read as addresses of Ethernet.
            raise XdpguardError(
                f"{_place(link.name, link.netns)} is no Ethernet interface ({link.kind or 'tunnel'})",
                "attach to the interface that its packets arrive on",
            )
        if link.xdp is None:
            return
        if not self._inventory.ours(link, known) and not request.replace:
            name = self._dataplane.name_of(link.xdp.prog_id) or "unnamed"
            raise XdpguardError(
                f"{_place(link.name, link.netns)} already carries an XDP program: {name} (id {link.xdp.prog_id})",
                "it was left alone; --replace takes its place",
            )
        if link.xdp.mode == "offload" or request.mode not in ("auto", link.xdp.mode):
            raise XdpguardError(
                f"{_place(link.name, link.netns)} is attached in {link.xdp.mode} mode, and modes cannot be swapped",
                "detach it first, or attach without --mode",
            )

    def _with_room(self, policy: Policy, more: int) -> Policy:
        """The policy with a capacity for the stored rules and ``more``; UsageError when it names one that is too small.

        Tables that are there keep their size; new ones are made large enough, unless a size was asked for.
        """
        slots = self._store.used_slots()
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

    def _record(self, link: Link, mode: str, request: Request, prog_id: int) -> None:
        with self._store.transaction():
            self._store.put_attachment(Attachment(link.name, link.netns, mode, request.observe, prog_id), time.time())
            self._store.put_fact(BOOT, boot_id())

    def _swap(self, link: Link, request: Request, built: Built) -> tuple[Mode, list[str]]:
        if link.xdp is not None:
            assert link.xdp.mode != "offload"
            with self._program(link.xdp.prog_id) as old:
                self._links.attach(link, built.fd, link.xdp.mode, old)
            return link.xdp.mode, []
        if request.mode == "generic":
            self._links.attach(link, built.fd, "generic", None)
            return "generic", []
        try:
            self._links.attach(link, built.fd, "native", None)
        except AttachRefused as error:
            if request.mode == "native":
                raise
            self._links.attach(link, built.fd, "generic", None)
            return "generic", [f"{error}: attached in generic mode, which is slower"]
        return "native", []

    def _tolerated(self, plan: Plan, book: Listbook) -> list[str]:
        """Notes on files that cannot be read now but whose entries of before go on. The error of one without any."""
        held = {it.name for it in book.shelf.all()}
        for name, error in plan.errors.items():
            if name not in held:
                raise error
        return [f"{error}; the list stays as it was; {error.remedy}" for error in plan.errors.values()]

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
            self._record(link, now.mode, request, built.prog_id)
            return
        for step in reversed(undo):
            step()
        self.rules.replace_source(
            CONFIG, [NewRule(it.kind, it.target, it.reason, it.source, it.created, it.expires) for it in config]
        )
        with self._store.transaction():
            if before is None:
                self._store.remove_attachment(link.name, link.netns)
            else:
                self._store.put_attachment(before, time.time())
        if self._store.attachments() or self._inventory.orphans():
            built.discard()
            if before is None:
                self._dataplane.pins.remove_link(link.name, link.netns)
        else:
            self._retire()

    def _retire(self) -> None:
        """Takes the hits into the store and removes every pin."""
        if self._dataplane.exists():
            with self._dataplane.tables() as tables:
                self.rules.harvest(tables)
            self.lists.harvest()
            self.shadow.harvest()
        self._step("unpin")
        self._dataplane.pins.remove_all()

    def _drop_other_versions(self) -> list[str]:
        others = self._dataplane.pins.other_versions()
        if not others:
            return []
        waiting = [it for it in self._inventory.interfaces() if it.state == "attached" and it.prog_id is not None]
        old = [_place(it.name, it.netns) for it in waiting if not self._dataplane.pins.is_current(it.name, it.netns)]
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


def _apply(plans: Iterable[tuple[Listbook, Plan]], undo: list[Callable[[], None]]) -> None:
    for book, plan in plans:
        if plan.puts or plan.drops:
            undo.append(book.apply([(it.its, it.entries) for it in plan.puts], plan.drops))


def _place(name: str, netns: str) -> str:
    return f"{name} (in {netns})" if netns else name
