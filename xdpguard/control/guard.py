# SPDX-License-Identifier: GPL-2.0
"""The SYN guard's policy of an instance: the configured one, the overrides of ``guard set``, and its kernel image.

Every change of rules has this image; what looks around an interface is imported when a policy is put in force.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any

from xdpguard.control.change import Changes
from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import guard, guardpolicy
from xdpguard.errors import UsageError
from xdpguard.store.attachments import attachments

if TYPE_CHECKING:
    from xdpguard.control.surroundings import Seen
    from xdpguard.control.sysctls import Offloads
    from xdpguard.net.links import Link
    from xdpguard.policy.model import Guard

_FACT = "guard"
_IN_FORCE = "guard_in_force"  # fact: the policy in the kernel, with the version of its layout
_PUBLISHED = "published"
_LISTS = {"exempt_ports", "bans"}
DEFAULT = "default"  # the value that removes an override


def keys() -> list[str]:
    """Return the keys that ``guard set`` accepts."""
    import msgspec

    from xdpguard.policy.model import Guard

    return [field.encode_name for field in msgspec.structs.fields(Guard)]


def parse(words: Iterable[str]) -> dict[str, Any]:
    """Parse ``key=value`` words, or ``key value``; lists are separated by commas. The value is None for ``default``.

    Raises UsageError naming the key and what is allowed.
    """
    found: dict[str, Any] = {}
    for word in _joined(words):
        key, equals, text = word.partition("=")
        if not equals or key not in keys():
            what = f"unknown key {key!r}" if equals or key not in keys() else f"{key} has no value"
            raise UsageError(what, f"allowed: {', '.join(keys())}")
        found[key] = None if text == DEFAULT else _value(key, text)
    return found


def _joined(words: Iterable[str]) -> Iterator[str]:
    """Yield ``key=value`` for ``key value`` and ``key = value`` as well; other words as they are."""
    left = [it for word in words for it in ([word] if word != "=" else [])]
    while left:
        word = left.pop(0)
        key = word.removesuffix("=")
        if key in keys() and left:
            word = f"{key}={left.pop(0).removeprefix('=')}"
        yield word


def _value(key: str, text: str) -> Any:
    import msgspec

    from xdpguard.policy.guard_values import guard_faults
    from xdpguard.policy.model import Guard

    value: Any = [part for part in text.split(",") if part] if key in _LISTS else text
    try:
        converted = msgspec.convert({key: value}, Guard, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"{key}: {text!r} is not allowed", f"give {_allowed(key)}") from error
    for name, fault in guard_faults(converted):
        raise UsageError(f"{name}: {fault}", fault.remedy)
    return msgspec.to_builtins(getattr(converted, key))


def _allowed(key: str) -> str:
    """Return in words what a key takes."""
    import msgspec

    from xdpguard.policy.model import Guard

    (its,) = [it.type for it in msgspec.structs.fields(Guard) if it.encode_name == key]
    found = msgspec.inspect.type_info(its)
    if isinstance(found, msgspec.inspect.LiteralType):
        return f"one of {', '.join(map(str, found.values))}"
    if isinstance(found, msgspec.inspect.IntType):
        upper = f" to {found.le}" if found.le is not None else " or more"
        return f"a whole number, {found.ge}{upper}" if found.ge is not None else "a whole number"
    return "true or false" if isinstance(found, msgspec.inspect.BoolType) else "what xdpguard guard show shows"


class GuardPolicy:
    """The guard's policy of one instance. Implements Image (change.py). The caller of a method that changes anything
    holds the instance's lock.
    """

    def __init__(self, changes: Changes, pins: Pins) -> None:
        self._changes = changes
        self._store = changes.store
        self._pins = pins
        changes.register(self)

    @cached_property
    def offloads(self) -> Offloads:
        """The offloads that are switched off for the guard."""
        from xdpguard.control.sysctls import Offloads

        return Offloads(self._store)

    def overrides(self) -> dict[str, Any]:
        """Return the overrides of ``guard set``."""
        found: dict[str, Any] = json.loads(self._store.fact(_FACT) or "{}")
        return {key: value for key, value in found.items() if key in keys()}

    def set(self, changes: dict[str, Any], configured: Guard, links: Sequence[Link]) -> tuple[Guard, list[str]]:
        """Store overrides (None removes one) and put them in force on ``links``, all or nothing.

        Returns the resulting policy and what changed in the drivers. Raises UsageError if the policy is not valid.
        """
        policy, held = self.with_overrides(changes, configured), self._held(changes)
        seen, done = self.look(policy, links)
        with self._changes.begin():
            self._store.put_fact(_FACT, json.dumps(held))
            if seen:
                self.put(policy, seen)
        return policy, done

    def with_overrides(self, changes: dict[str, Any], configured: Guard) -> Guard:
        """Return what `set` would make of the policy. Raise UsageError if it is not valid."""
        return _combined(configured, self._held(changes))

    def _held(self, changes: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in (self.overrides() | changes).items() if value is not None}

    def effective(self, configured: Guard) -> Guard:
        """Return the configured policy with the overrides applied."""
        return _combined(configured, self.overrides())

    def combined(self, configured: Guard, overrides: dict[str, Any]) -> Guard:
        """Return the configured policy with these overrides applied, as far as this version knows them."""
        return _combined(configured, {key: value for key, value in overrides.items() if key in keys()})

    def apply(self, policy: Guard, links: Iterable[Link], options: bool = True, scan: bool = False) -> list[str]:
        """Put a policy in force on attached interfaces at once; return what changed in their drivers.

        ``options`` False: answers carry only the MSS for now; ``scan``: a consumer waits for proof of port scans.
        """
        seen, done = self.look(policy, links)
        self.put(policy, seen, options, scan)
        return done

    def look(self, policy: Guard, links: Iterable[Link]) -> tuple[Seen, list[str]]:
        """Look around interfaces, and stop their drivers from stripping VLAN tags that answers need.

        Returns what was seen and what changed in the drivers. Must not run within a change: what is changed on the host
        is recorded durably first.
        """
        from xdpguard.net import around

        assert not self._store.changing
        found, done = [], []
        for link in links:
            seen = around.read(link.ifindex, link.netns)
            tagged = seen.vlans and answers(policy.mode)
            done += self.offloads.settle(link.name, link.netns, [it.name for it in seen.receivers] if tagged else ())
            found.append((link, seen))
        return found, done

    def put(self, policy: Guard, found: Seen, options: bool = True, scan: bool = False) -> None:
        """Put a policy in force on interfaces that `look` has seen. A policy already recorded is only written again."""
        from msgspec.structs import replace

        exempt = tuple(dict.fromkeys((*policy.exempt_ports, *(f"{port}/tcp" for port in self.published()))))
        wanted = guardpolicy.encode(replace(policy, exempt_ports=exempt), options, scan)
        recorded = self._remembered() == wanted
        with nullcontext() if recorded else self._changes.begin():
            if not recorded:
                self._store.put_fact(_IN_FORCE, f"{abi.ABI}:{wanted.hex()}")
                self._changes.touch(self, "guard")
            guardpolicy.write(self._pins, wanted)
            self._surround(policy, found)

    def surround(self, policy: Guard, links: Iterable[Link]) -> None:
        """Bring what the kernel knows of the surroundings of interfaces up to date; the policy in force stays."""
        from msgspec.structs import replace

        from xdpguard.net import around

        its = replace(policy, mode=guardpolicy.read(self._pins).mode)
        self._surround(its, [(link, around.read(link.ifindex, link.netns)) for link in links])

    def _surround(self, policy: Guard, found: Seen) -> None:
        from xdpguard.control.surroundings import surroundings
        from xdpguard.net import sharing

        moved = sharing.moved() if found else []
        for link, seen in found:
            around = surroundings(policy, link, seen, moved)
            guard.settle(self._pins, link.name, link.netns, policy.mode, around)

    def stale(self) -> bool:
        """Return whether the kernel's policy differs from the one put in force last."""
        wanted = self._remembered()
        return wanted is not None and guardpolicy.in_force(self._pins) != wanted

    def resync(self) -> None:
        """Restore the policy put in force last, as far as it is known without the configuration."""
        wanted = self._remembered()
        if wanted is None:
            return
        guardpolicy.write(self._pins, wanted)
        for it in attachments(self._store):
            if self._pins.is_current(it.name, it.netns):
                guard.follow_mode(self._pins, it.name, it.netns)

    def _remembered(self) -> bytes | None:
        """Return the policy put in force last, encoded; None if there is none or another version wrote it."""
        version, _, text = self._store.fact(_IN_FORCE).partition(":")
        return bytes.fromhex(text) if version == str(abi.ABI) else None

    def published(self) -> list[int]:
        """Return the TCP ports exempt in addition to the policy's: those that `run` has found published by NAT."""
        found: list[int] = json.loads(self._store.fact(_PUBLISHED) or "[]")
        return found

    def publish(self, ports: Iterable[int]) -> None:
        """Record the published ports; they are exempt when a policy is next put in force."""
        with self._store.transaction():
            self._store.put_fact(_PUBLISHED, json.dumps(sorted(ports)))


def _combined(configured: Guard, overrides: dict[str, Any]) -> Guard:
    import msgspec

    from xdpguard.policy.model import Guard

    try:
        return msgspec.convert(msgspec.to_builtins(configured) | overrides, Guard, strict=False)
    except msgspec.ValidationError as error:
        remedy = "reset it: xdpguard guard set KEY=default"
        raise UsageError(f"a value from an earlier guard set is no longer valid: {error}", remedy) from error


def answers(mode: str) -> bool:
    """Return whether a guard in this mode answers SYNs at all."""
    return mode in ("auto", "always")
