# SPDX-License-Identifier: GPL-2.0
"""The SYN guard's policy of an instance: the file's, what ``guard set`` put over it, and its way to the kernel."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from xdpguard.dataplane import guard
from xdpguard.dataplane.pins import Pins
from xdpguard.errors import UsageError
from xdpguard.lists.store import Store
from xdpguard.net import nat
from xdpguard.net.answers import Way, way_out
from xdpguard.net.links import Link
from xdpguard.policy.load import guard_faults
from xdpguard.policy.model import Guard

_FACT = "guard"
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

    def apply(self, policy: Guard, links: Iterable[Link], options: bool = True, scan: bool = False) -> None:
        """Puts a policy in force on interfaces, at once and without attaching again.

        ``options`` False: answers carry the MSS only for now; ``scan``: somebody waits for what a scan would prove.
        """
        guard.write_policy(self._pins, guard.encode(policy, options, scan))
        for link in links:
            guard.settle(self._pins, link.name, link.netns, policy.mode, surroundings(policy, link))


def surroundings(policy: Guard, link: Link) -> guard.Surroundings:
    """What the guard of an interface must know of its link and its host, as they are now."""
    return guard.Surroundings(
        link.mac,
        pass_unknown=anothers(policy, link),
        mute=way_of_answers(link).leaves is False,
    )


def way_of_answers(link: Link) -> Way:
    """Whether what the guard sends arrives, in the mode of the link's program, and why not."""
    return way_out(link)


def anothers(policy: Guard, link: Link) -> bool:
    """Whether segments without a socket may belong to somebody else: behind this host, or on a bond or a bridge."""
    if policy.translated == "auto":
        return link.enslaved or nat.translates(link.netns)
    return policy.translated == "yes"
