# SPDX-License-Identifier: GPL-2.0
"""The SYN guard's policy of an instance: the file's, what ``guard set`` put over it, and its way to the kernel."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any

import msgspec
from msgspec.structs import replace

from xdpguard.control.change import Changes
from xdpguard.control.sysctls import Offloads
from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import guard
from xdpguard.errors import UsageError
from xdpguard.net import around, offload
from xdpguard.net.answers import Way, way_out
from xdpguard.net.around import Around
from xdpguard.net.links import Link
from xdpguard.net.netns import entered
from xdpguard.policy.load import guard_faults
from xdpguard.policy.model import Guard

_FACT = "guard"
_IN_FORCE = "guard_in_force"  # fact: the policy that the kernel has, with the version of its layout
_PUBLISHED = "published"
_LISTS = {"exempt_ports", "bans"}
DEFAULT = "default"  # the value that takes an override off


def keys() -> list[str]:
    """The names that ``guard set`` knows."""
    return [field.encode_name for field in msgspec.structs.fields(Guard)]


def parse(words: Iterable[str]) -> dict[str, Any]:
    """Parses ``key=value`` words; lists are separated by commas. The value is None for ``default``.

    UsageError naming the key and what is allowed.
    """
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or key not in keys():
            what = f"unknown key {key!r}" if equals else f"not KEY=VALUE: {word!r}"
            raise UsageError(what, f"allowed: {', '.join(keys())}")
        found[key] = None if text == DEFAULT else _value(key, text)
    return found


def _value(key: str, text: str) -> Any:
    value: Any = [part for part in text.split(",") if part] if key in _LISTS else text
    try:
        converted = msgspec.convert({key: value}, Guard, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"{key}: {str(error).split(' - at')[0].lower()}", "see xdpguard guard show") from error
    for name, fault in guard_faults(converted):
        raise UsageError(f"{name}: {fault}", fault.remedy)
    return msgspec.to_builtins(getattr(converted, key))


Seen = list[tuple[Link, Around]]  # interfaces, and what was seen around them


class GuardPolicy:
    """The guard's policy of one instance. An image, see change.py. Methods that change something want the instance's
    lock held.
    """

    def __init__(self, changes: Changes, pins: Pins) -> None:
        self._changes = changes
        self._store = changes.store
        self._pins = pins
        self.offloads = Offloads(changes.store)
        changes.register(self)

    def overrides(self) -> dict[str, Any]:
        """What ``guard set`` put over the file."""
        found: dict[str, Any] = json.loads(self._store.fact(_FACT) or "{}")
        return {key: value for key, value in found.items() if key in keys()}

    def set(self, changes: dict[str, Any], configured: Guard, links: Sequence[Link]) -> tuple[Guard, list[str]]:
        """Remembers overrides, None takes one off, and puts them in force on ``links``: all of it, or nothing.

        Returns the policy with them, and what changed of the interfaces' drivers. UsageError when it is not valid.
        """
        held = {key: value for key, value in (self.overrides() | changes).items() if value is not None}
        policy = _combined(configured, held)
        seen, done = self.look(policy, links)
        with self._changes.begin():
            self._store.put_fact(_FACT, json.dumps(held))
            if seen:
                self.put(policy, seen)
        return policy, done

    def effective(self, configured: Guard) -> Guard:
        """The policy in force."""
        return _combined(configured, self.overrides())

    def apply(self, policy: Guard, links: Iterable[Link], options: bool = True, scan: bool = False) -> list[str]:
        """Puts a policy in force on interfaces, at once and without attaching again; what changed of their drivers.

        ``options`` False: answers carry the MSS only for now; ``scan``: somebody waits for what a scan would prove.
        """
        seen, done = self.look(policy, links)
        self.put(policy, seen, options, scan)
        return done

    def look(self, policy: Guard, links: Iterable[Link]) -> tuple[Seen, list[str]]:
        """Looks around interfaces, and keeps their drivers from taking off VLAN tags that answers need; what changed.

        Not within a change: what is changed of the host is remembered for good before.
        """
        assert not self._store.changing
        found, done = [], []
        for link in links:
            seen = around.look(link.ifindex, link.netns)
            tagged = seen.vlans and answers(policy.mode)
            done += self.offloads.settle(link.name, link.netns, [it.name for it in seen.receivers] if tagged else ())
            found.append((link, seen))
        return found, done

    def put(self, policy: Guard, found: Seen, options: bool = True, scan: bool = False) -> None:
        """Puts a policy in force on interfaces that were looked at. As it is remembered, it is only written again."""
        exempt = tuple(dict.fromkeys((*policy.exempt_ports, *(f"{port}/tcp" for port in self.published()))))
        wanted = guard.encode(replace(policy, exempt_ports=exempt), options, scan)
        with self._changes.begin() if self._remembered() != wanted else nullcontext():
            if self._remembered() != wanted:
                self._store.put_fact(_IN_FORCE, f"{abi.ABI}:{wanted.hex()}")
                self._changes.touch(self, "guard")
            guard.write_policy(self._pins, wanted)
            for link, seen in found:
                guard.settle(self._pins, link.name, link.netns, policy.mode, surroundings(policy, link, seen))

    def stale(self) -> bool:
        """Whether the kernel has another policy than the one that was put in force last."""
        wanted = self._remembered()
        return wanted is not None and guard.policy_in_force(self._pins) != wanted

    def resync(self) -> None:
        """Puts the policy in force that was put in force last, as far as it is known without the configuration."""
        wanted = self._remembered()
        if wanted is None:
            return
        guard.write_policy(self._pins, wanted)
        for it in self._store.attachments():
            if self._pins.is_current(it.name, it.netns):
                guard.follow_mode(self._pins, it.name, it.netns)

    def _remembered(self) -> bytes | None:
        """The policy that was put in force last; None: none was, or by another version."""
        version, _, text = self._store.fact(_IN_FORCE).partition(":")
        return bytes.fromhex(text) if version == str(abi.ABI) else None

    def published(self) -> list[int]:
        """TCP ports that are exempt beside those of the policy, as `run` has found them to lead elsewhere."""
        found: list[int] = json.loads(self._store.fact(_PUBLISHED) or "[]")
        return found

    def publish(self, ports: Iterable[int]) -> None:
        """Remembers them, for the next time a policy is put in force."""
        with self._store.transaction():
            self._store.put_fact(_PUBLISHED, json.dumps(sorted(ports)))


def _combined(configured: Guard, overrides: dict[str, Any]) -> Guard:
    try:
        return msgspec.convert(msgspec.to_builtins(configured) | overrides, Guard, strict=False)
    except msgspec.ValidationError as error:
        remedy = "take it off: xdpguard guard set KEY=default"
        raise UsageError(f"a value of an earlier guard set is not valid any more: {error}", remedy) from error


def answers(mode: str) -> bool:
    """Whether a guard in that mode answers SYNs at all."""
    return mode in ("auto", "always")


def surroundings(policy: Guard, link: Link, seen: Around | None = None) -> guard.Surroundings:
    """What the guard of an interface must know of its link and its host, as they are now or were seen."""
    seen = seen or around.look(link.ifindex, link.netns)
    return guard.Surroundings(
        link.mac,
        pass_unknown=bool(others(policy, link, seen)),
        mute=way_of_answers(link, seen).leaves is False,
        macs=seen.macs,
        locals=seen.locals,
    )


def way_of_answers(link: Link, seen: Around | None = None) -> Way:
    """Whether what the guard sends arrives, in the mode of the link's program, and why not."""
    way = way_out(link)
    if way.leaves is False or (link.xdp is not None and link.xdp.mode != "native"):
        return way
    seen = seen or around.look(link.ifindex, link.netns)
    tags = untagged(link, seen)
    if not tags:
        return way
    return Way(
        False,
        f"{', '.join(tags)} takes off the VLAN tags of {', '.join(seen.vlans)}, so an answer would leave untagged",
        "detach and attach with --mode generic, which keeps the tags",
    )


def others(policy: Guard, link: Link, seen: Around) -> list[str]:
    """Why segments without a socket pass, in words: they may belong to somebody else. Empty: they do not pass."""
    if policy.translated != "auto":
        return ["the policy says so (translated=yes)"] if policy.translated == "yes" else []
    found = list(seen.others)
    with entered(link.netns):
        if kernel.attached_programs(kernel.TCX_INGRESS, link.ifindex):
            found.append("tcx programs on its ingress")
    return found


def untagged(link: Link, seen: Around) -> list[str]:
    """Names of the devices whose VLAN tags an answer would lack; with any, none is sent."""
    mode = link.xdp.mode if link.xdp else "native"
    return offload.untagged(mode, seen.receivers, link.netns) if seen.vlans else []
