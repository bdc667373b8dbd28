# SPDX-License-Identifier: GPL-2.0
"""The SYN guard's policy of an instance: the file's, what ``guard set`` put over it, and its way to the kernel."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from xdpguard.control.sysctls import Offloads
from xdpguard.dataplane.sys import kernel
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
from xdpguard.store.database import Store

_FACT = "guard"
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


class Guardbook:
    """The guard's policy of one instance. Methods that change something want the instance's lock held."""

    def __init__(self, store: Store, pins: Pins) -> None:
        self._store = store
        self._pins = pins
        self.offloads = Offloads(store)

    def overrides(self) -> dict[str, Any]:
        """What ``guard set`` put over the file."""
        found: dict[str, Any] = json.loads(self._store.fact(_FACT) or "{}")
        return {key: value for key, value in found.items() if key in keys()}

    def set(self, changes: dict[str, Any]) -> None:
        """Remembers overrides; None takes one off."""
        held = self.overrides() | changes
        with self._store.transaction():
            self._store.put_fact(_FACT, json.dumps({key: value for key, value in held.items() if value is not None}))

    def effective(self, configured: Guard) -> Guard:
        """The policy in force."""
        try:
            return msgspec.convert(msgspec.to_builtins(configured) | self.overrides(), Guard, strict=False)
        except msgspec.ValidationError as error:
            remedy = "take it off: xdpguard guard set KEY=default"
            raise UsageError(f"a value of an earlier guard set is not valid any more: {error}", remedy) from error

    def apply(self, policy: Guard, links: Iterable[Link], options: bool = True, scan: bool = False) -> list[str]:
        """Puts a policy in force on interfaces, at once and without attaching again; what changed of their drivers.

        ``options`` False: answers carry the MSS only for now; ``scan``: somebody waits for what a scan would prove.
        """
        exempt = tuple(dict.fromkeys((*policy.exempt_ports, *(f"{port}/tcp" for port in self.published()))))
        guard.write_policy(self._pins, guard.encode(replace(policy, exempt_ports=exempt), options, scan))
        done = []
        for link in links:
            seen = around.look(link.ifindex, link.netns)
            tagged = seen.vlans and answers(policy.mode)
            done += self.offloads.settle(link.name, link.netns, [it.name for it in seen.receivers] if tagged else ())
            guard.settle(self._pins, link.name, link.netns, policy.mode, surroundings(policy, link, seen))
        return done

    def published(self) -> list[int]:
        """TCP ports that are exempt beside those of the policy, as `run` has found them to lead elsewhere."""
        found: list[int] = json.loads(self._store.fact(_PUBLISHED) or "[]")
        return found

    def publish(self, ports: Iterable[int]) -> None:
        """Remembers them, for the next time a policy is put in force."""
        with self._store.transaction():
            self._store.put_fact(_PUBLISHED, json.dumps(sorted(ports)))


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
