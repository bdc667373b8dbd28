# SPDX-License-Identifier: GPL-2.0
"""One instance: attach, detach, configure, audit. The only place that brings store, maps and links together.

Methods that change something want the instance's lock held.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from xdpguard.control import builds, namespaces
from xdpguard.control.attach import Attaching, Outcome, config_rules
from xdpguard.control.audit import Audit
from xdpguard.control.entries import CONFIG, INTERRUPTED
from xdpguard.control.interfaces import Interface
from xdpguard.control.lists import Share
from xdpguard.control.loader import ListsFailed, Loaded
from xdpguard.errors import XdpguardError
from xdpguard.net.links import Link, NoSuchLink
from xdpguard.net.netns import place_of
from xdpguard.policy.model import Policy

CONFIG_FACT = "config"  # fact: path of the configuration last given


class Controller(Attaching):
    """One instance."""

    def detach(self, name: str, netns: str = "") -> Outcome:
        """Detaches our program, and only ours. The last one takes the maps with it; the store keeps rules and hits."""
        known = self._inventory.known(name, netns)
        notes: list[str] = []
        moved: list[str] = []
        try:
            link: Link | None = self._links.get(name, netns)
        except NoSuchLink:
            if known is None:
                raise
            link = None
        if known and not (link and self._inventory.ours(link, known)):
            # Another interface may have its name by now.
            there = self._inventory.renamed(known)
            if there:
                notes.append(f"{place_of(name, netns)} is now {place_of(there.name, there.netns)}; detached there")
            elif link is None:
                notes.append(f"{place_of(name, netns)} has gone; forgotten")
            link = there or link
        found = link.xdp if link else None
        if link and found and found.mode != "offload" and self._inventory.ours(link, known):
            self._step("detach")
            with self._program(found.prog_id) as program:
                _, moved = self._uppers.change(link, partial(self._links.detach, link, found.mode, program))
        elif known is None:
            raise XdpguardError(f"{place_of(name, netns)} carries no program of this instance", "see xdpguard status")
        elif found:
            other = self._dataplane.name_of(found.prog_id)
            notes.append(
                f"{place_of(name, netns)} carries program {found.prog_id} ({other}) of somebody else; left alone"
            )
        elif link:
            notes.append(f"{place_of(name, netns)} carried no program any more")
        self._step("forget")
        with self.store.transaction():
            self.store.remove_attachment(name, netns)
            builds.forget(self.store, name, netns)
            namespaces.forget_namespace(self.store, netns)
        self._dataplane.pins.remove_link(name, netns)
        restored = self.guard.offloads.restore(name, netns, link.name if link else "")
        if not self.store.attachments() and not self._inventory.orphans():
            self._step("harvest")
            self._retire()
        last = not any(it.netns == netns for it in self.store.attachments())
        restored += self.loans.restore(netns) if last else []
        mode = known.mode if known else (found.mode if found else "")
        interface = Interface(name, netns, mode, bool(known and known.observe), None, "detached")
        return Outcome(interface, notes, restored, moved=moved)

    def detach_all(self) -> tuple[list[Outcome], list[XdpguardError]]:
        """Detaches every interface of the instance, from the top down, and removes what is left of it in the kernel.

        One that cannot be detached keeps none of the others: its error is in what is returned.
        """
        done, errors = [], []
        interfaces = self._uppers.from_top(self._inventory.interfaces())
        for it in interfaces:
            try:
                done.append(self.detach(it.name, it.netns))
            except XdpguardError as error:
                errors.append(error)
        if not interfaces:
            self._retire()
        if not errors:
            self.loans.restore()
        return done, errors

    def config(self) -> Path | None:
        """The configuration file remembered from an attach before."""
        held = self.store.fact(CONFIG_FACT)
        return Path(held) if held else None

    def remember_config(self, path: Path | None) -> None:
        """Remembers the configuration file for the next attach; None forgets it."""
        with self.store.transaction():
            self.store.put_fact(CONFIG_FACT, str(path.absolute()) if path else "")

    def audit(self, repair: bool = False) -> Audit | None:
        """What the kernel holds of what the store holds; ``repair`` puts back what is missing. None: not attached."""
        if not self._dataplane.exists():
            return None
        now = time.time()
        rules = [rule for rule in self.store.rules() if rule.expires is None or rule.expires > now]
        with self._dataplane.tables() as tables:
            held = tables.held(rules)
            shares = self.lists.shares()
            behind = self.lists.behind() or bool(self.store.fact(INTERRUPTED))
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
                yield from loader.follow(policy.lists, due, lambda lists: self.keep_needed(lists=lists))
            except ListsFailed as failed:
                errors |= failed.errors
        if errors:
            raise ListsFailed(errors)

    def configure(self, policy: Policy) -> None:
        """Puts the rules of another configuration in force without attaching anew; its limits wait for that.

        Unattended: what the host needs is kept, whatever they block.
        """
        wanted = list(config_rules(policy))
        self.keep_needed(rules=wanted)
        self.rules.replace_source(CONFIG, wanted)
        self._policy_changed()
