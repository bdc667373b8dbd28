# SPDX-License-Identifier: GPL-2.0
"""Plan an attach before anything is changed: whether it is possible, and what it puts in force."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from dataclasses import dataclass

from msgspec.structs import replace

from xdpguard.control import needs, safety, starving
from xdpguard.control.attachments import Attachments
from xdpguard.control.configuring import Wanted
from xdpguard.control.default import wanted_in_force
from xdpguard.control.filter_order import with_source
from xdpguard.control.filters import Filters
from xdpguard.control.frames import mode_for_any_mtu
from xdpguard.control.lists import Lists
from xdpguard.control.loader import Loader
from xdpguard.control.plan import Circumstances, Plan, asked
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.net.links import Link, WantedMode
from xdpguard.net.netns import place_of
from xdpguard.policy.filter import Filter
from xdpguard.policy.model import RULES, Guard, Policy
from xdpguard.policy.rule import CONFIG, NewRule
from xdpguard.policy.sources import parse_sources
from xdpguard.policy.target import parse_ports
from xdpguard.store.attachments import Attachment
from xdpguard.units import counted


@dataclass(frozen=True)
class Request:
    """A request to attach. ``name`` and ``netns`` are as recorded: see `Attachments.place`.

    ``any_mtu``: the program must accept frames in several buffers, so that the MTU can be raised while it is attached.
    """

    name: str
    netns: str = ""
    mode: WantedMode = "auto"
    observe: bool = False
    replace: bool = False
    force: bool = False
    tried: bool = False  # undone by itself unless it is confirmed
    unattended: bool = False  # nobody is there to see a refusal: let through what the host needs instead
    any_mtu: bool = False


class Planning:
    """Plans the attaches of one instance. Changes nothing."""

    def __init__(self, attachments: Attachments, loader: Loader, shadow_loader: Loader) -> None:
        self._its = attachments
        self._ruleset = attachments.ruleset
        self._store = attachments.store
        self._loaders = loader, shadow_loader

    def plan(self, request: Request, link: Link, policy: Policy) -> tuple[Policy, Wanted, list[str]]:
        """Return the policy with room for its rules, what there will be, and notes."""
        wanted = list(config_rules(policy))
        filters = config_filters(policy, self._ruleset.filters)
        default = wanted_in_force(self._ruleset.default.effective(policy.default))
        loopback = {link.netns} if link.loopback else set()
        around = Circumstances({link.netns}, config=wanted, unattended=request.unattended, loopback=loopback)
        loader, shadow_loader = self._loaders
        plan, shadow_plan = loader.plan(policy.lists, around, request.force), shadow_loader.plan(policy.lists, around)
        if not (request.force or request.unattended):
            found = asked(self._store, plan, shadow_plan)
            safety.check_attach(self._store, {link.netns}, wanted, loopback, filters, default, found)
            safety.check_lists(self._store, {link.netns}, wanted, loopback)
            if not request.tried:
                starving.check(policy.guard, Guard(), needs.ssh_ports(self._store))
        policy = self._with_room(policy, len(wanted))
        blocks = [it.target for it in wanted if it.kind == "block"]
        notes = needs.dhcp_notes(self._store, needs.holder_of(blocks), wanted)
        notes += self._tolerated(plan, self._ruleset.lists, request)
        notes += self._tolerated(shadow_plan, self._ruleset.shadow_lists, request)
        return policy, Wanted(wanted, filters, default, (plan, shadow_plan)), notes

    def checked(self, link: Link, known: Attachment | None, request: Request) -> tuple[Request, list[str]]:
        """Return the request in the mode that its options need, and notes. Raise XdpguardError if impossible."""
        if not link.ethernet:
            # A tunnel's packets begin with the IP header, which would be parsed as an Ethernet header.
            raise XdpguardError(
                f"{place_of(link.name, link.netns)} is not an Ethernet interface ({link.kind or 'tunnel'})",
                "attach to the interface that its packets arrive on",
            )
        if link.xdp is not None:
            self._check_swap(link, known, request)
        moved = self._its.interfaces.renamed(known) if known and not self._its.interfaces.ours(link, known) else None
        if moved:
            raise XdpguardError(
                f"the former {place_of(link.name, link.netns)} is now {place_of(moved.name, moved.netns)}, and"
                " still carries the program",
                f"detach it first: xdpguard detach {link.name}; then attach to either of them",
            )
        if not request.any_mtu:
            return request, []
        mode, notes = mode_for_any_mtu(link, request.mode)
        if link.xdp is not None and link.xdp.mode == "native" and not (known and known.any_mtu):
            # veth, for example, sets the limit only with the first program (drivers/net/veth.c, veth_xdp_set).
            notes.append("a driver may keep the MTU limit of the previous program; if it does, detach and attach again")
        return dataclasses.replace(request, mode=mode), notes

    def _check_swap(self, link: Link, known: Attachment | None, request: Request) -> None:
        assert link.xdp is not None
        if not self._its.interfaces.ours(link, known) and not request.replace:
            name = self._its.dataplane.name_of(link.xdp.prog_id) or "unnamed"
            raise XdpguardError(
                f"{place_of(link.name, link.netns)} already carries an XDP program: {name} (id {link.xdp.prog_id})",
                "it was left alone; use --replace to replace it",
            )
        if link.xdp.mode == "offload" or request.mode not in ("auto", link.xdp.mode):
            raise XdpguardError(
                f"{place_of(link.name, link.netns)} is attached in {link.xdp.mode} mode, and modes cannot be swapped",
                "detach it first, or attach without --mode",
            )

    def _with_room(self, policy: Policy, more: int) -> Policy:
        """Return the policy with capacity for the stored rules and ``more``; raise UsageError if it sets one too small.

        Existing tables keep their size; new ones are made large enough unless a size is configured.
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
                f"{counted(len(slots), 'rule is', 'rules are')} stored, but the tables would hold only {capacity}",
                "raise limits.rules in the configuration or remove it, and detach --all before attaching again",
            )
        return replace(policy, limits=replace(policy.limits, rules=capacity))

    def _tolerated(self, plan: Plan, lists: Lists, request: Request) -> list[str]:
        """Return notes on files that cannot be read, whose old entries stay; raise the error of one without any."""
        held = {it.name for it in lists.stored.all()}
        for name, error in plan.errors.items():
            if name not in held and not request.unattended:
                raise error
        stays = {name: "the list is unchanged" if name in held else "it is not loaded" for name in plan.errors}
        return [f"{error}; {stays[name]}; {error.remedy}" for name, error in plan.errors.items()]


def config_filters(policy: Policy, filters: Filters) -> list[Filter]:
    """Return the filters there are once those of a configuration are in force, in order. Raise XdpguardError."""
    wanted = [its.filter(CONFIG, time.time()) for its in policy.filters]
    return with_source(filters.stored.all(), CONFIG, wanted)


def config_rules(policy: Policy) -> Iterable[NewRule]:
    """Yield the rules of a configuration."""
    now = time.time()
    for text in policy.rules.allow:
        yield from (NewRule("allow", it, "", CONFIG, now, None) for it, _ in parse_sources(text))
    for text in policy.rules.block:
        yield from (NewRule("block", it, "", CONFIG, now, None) for it, _ in parse_sources(text))
    for text in policy.rules.ports:
        for port in parse_ports(text):
            yield NewRule("port", port, "", CONFIG, now, None)
