# SPDX-License-Identifier: GPL-2.0
"""The commands of a walk, drawn at random, each with what it does to the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from support.policy_model import FILTERS, Change, Entry, Key, Policy, later, live, restored

SPARE = "192.0.2.250"  # what is blocked to see that commands work again
TARGETS = (
    *("198.51.100.7", "198.51.100.0/24", "198.51.100.64/26", "203.0.113.9", "203.0.113.0/28"),
    *("2001:db8:66::7", "2001:db8:66::/64"),
)
LISTS = (("203.0.113.0/24",), ("198.51.100.64/26", "2001:db8:66::/48"), ("198.51.100.200",))
SHORT = 4  # seconds; of what ends during a walk

Effect = Callable[[Policy, float, float], dict[Key, Entry]]


class Step(NamedTuple):
    """A command; what there is after it, given what there was and when it began and ended; which change it undoes."""

    words: tuple[str, ...]
    effect: Effect
    stdin: str | None = None
    undoes: int | None = None


def undone(changes: Sequence[Change | None]) -> Step | None:
    """An undo of the last change, if there is one that the model knows."""
    known = [place for place, change in enumerate(changes) if change is not None]
    return _undoing(changes[known[-1]], known[-1]) if known else None


def _undoing(change: Change | None, place: int) -> Step:
    assert change is not None
    return Step(("undo", "--force"), lambda policy, *_: restored(policy, change), undoes=place)


def drawn(random: Random, policy: Policy) -> Step:
    """Draw a command."""
    kinds = (_block, _unblock, _allow, _port, _list, _filter, _promote)
    return random.choices(kinds, (25, 15, 15, 10, 15, 15, 5))[0](random, policy)


def _adding(key: Key, seconds: int = 0, over: Key | None = None) -> Effect:
    def effect(policy: Policy, began: float, ended: float) -> dict[Key, Entry]:
        new = Entry((began + seconds, ended + seconds) if seconds else None)
        made = {**policy, key: later(policy.get(key), new)}
        if over:
            made.pop(over, None)
        return live(made)

    return effect


def _removing(*keys: Key) -> Effect:
    return lambda policy, *_: live({key: it for key, it in policy.items() if key not in keys})


def _putting(key: Key, entry: Entry) -> Effect:
    return lambda policy, *_: live({**policy, key: entry})


def _block(random: Random, policy: Policy) -> Step:
    target = random.choice(TARGETS)
    shadow = random.random() < 0.2 and ("block", target) not in policy
    seconds = random.choice((0, 0, SHORT, 3600))
    words = ("block", target, *(["--shadow"] if shadow else []), *(["--for", f"{seconds}s"] if seconds else []))
    return Step(words, _adding(("shadow block" if shadow else "block", target), seconds))


def _unblock(random: Random, policy: Policy) -> Step:
    blocked = sorted(name for kind, name in policy if kind in ("block", "shadow block"))
    if len(blocked) > 1 and random.random() < 0.1:
        every = [it for it in policy if it[0] in ("block", "shadow block", "port")]
        return Step(("unblock", "--all", "--yes"), _removing(*every))
    target = random.choice(blocked or TARGETS)
    return Step(("unblock", target), _removing(("block", target), ("shadow block", target)))


def _allow(random: Random, policy: Policy) -> Step:
    allowed = sorted(name for kind, name in policy if kind == "allow")
    if allowed and random.random() < 0.5:
        target = random.choice(allowed)
        return Step(("disallow", target), _removing(("allow", target)))
    target, seconds = random.choice(TARGETS), random.choice((0, SHORT))
    words = ("allow", target, *(["--for", f"{seconds}s"] if seconds else []))
    return Step(words, _adding(("allow", target), seconds))


def _port(_: Random, policy: Policy) -> Step:
    if ("port", "99/udp") in policy:
        return Step(("unblock", "--port", "99/udp"), _removing(("port", "99/udp")))
    return Step(("block", "--port", "99/udp"), _adding(("port", "99/udp")))


def _list(random: Random, policy: Policy) -> Step:
    name = random.choice(("one", "two"))
    if ("list", name) in policy and random.random() < 0.4:
        return Step(("lists", "remove", name), _removing(("list", name)))
    holds = random.choice(LISTS)
    return Step(
        ("lists", "load", name, "-", "--force"),
        _putting(("list", name), Entry(holds=holds)),
        "".join(f"{it}\n" for it in holds),
    )


def _filter(random: Random, policy: Policy) -> Step:
    name = random.choice(sorted(FILTERS))
    if ("filter", name) in policy:
        return Step(("filter", "remove", name), _removing(("filter", name)))
    match, _, _, drop = FILTERS[name]
    last = max((it.place for (kind, _), it in policy.items() if kind == "filter"), default=0)
    words = ("filter", "add", name, match, "--drop" if drop else "--pass")
    return Step(words, _putting(("filter", name), Entry(place=last + 1)))


def _promote(random: Random, policy: Policy) -> Step:
    shadow = sorted(name for kind, name in policy if kind == "shadow block")
    if not shadow:
        return _block(random, policy)
    target = random.choice(shadow)

    def effect(policy: Policy, *_: float) -> dict[Key, Entry]:
        made = dict(policy)
        entry = made.pop(("shadow block", target), None)
        if entry is not None:
            made["block", target] = later(made.get(("block", target)), entry)
        return live(made)

    return Step(("promote", target), effect)
