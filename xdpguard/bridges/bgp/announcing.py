# SPDX-License-Identifier: GPL-2.0
"""What is announced upstream, by choice: only for destinations of one's own, and never by a source that may be forged.

Pure: what there is, and the time, are arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from xdpguard.errors import UsageError
from xdpguard.policy.filter import Filter
from xdpguard.policy.flowspec import gobgp
from xdpguard.policy.flowspec.conversion import rules_of
from xdpguard.policy.flowspec.entries import does_of
from xdpguard.policy.flowspec.listing import meet
from xdpguard.policy.flowspec.rule import Actions, Component, Rule
from xdpguard.policy.flowspec.rule import Prefix as Bits
from xdpguard.policy.origins import is_foreign
from xdpguard.policy.rule import GUARD
from xdpguard.policy.rule import Rule as Block
from xdpguard.policy.target import Prefix, parse_prefix

What = Literal["bans", "filters"]
WHATS: tuple[What, ...] = ("bans", "filters")
_RECHECK = 5.0  # seconds for which a rule must have been unwanted, seen twice, before it is withdrawn


class Terms(NamedTuple):
    """``most``: rules at a time; ``least``: how long each is announced at least, in seconds."""

    what: What
    own: tuple[Prefix, ...]
    most: int = 100
    least: float = 600.0


class Steps(NamedTuple):
    """What to do now, and how many rules there is no room for."""

    announce: list[Rule]
    withdraw: list[Rule]
    over: int


class Announcing:
    """What is announced, each rule since when (Unix time). ``held``: what an earlier run has announced."""

    def __init__(self, terms: Terms, held: dict[str, float]) -> None:
        self._terms = terms
        self.held = held
        self._unwanted: dict[str, float] = {}

    def steps(self, wanted: Iterable[Rule], there: set[str] | None, now: float) -> Steps:
        """Return what to do. ``there``: the commands of what the daemon announces; None if it cannot be asked."""
        texts = {gobgp.written(it): it for it in wanted}
        self._unwanted = {text: self._unwanted.get(text, now) for text in self.held if text not in texts}
        gone = [
            text
            for text, since in self._unwanted.items()
            if not 0 <= now - self.held[text] < self._terms.least and now - since >= _RECHECK
        ]
        room = self._terms.most - len(self.held)
        new = [text for text in texts if text not in self.held]
        lost = [text for text in self.held if there is not None and text not in there and text not in gone]
        return Steps(
            [texts.get(text) or gobgp.read(text) for text in (*lost, *new[: max(0, room)])],
            [gobgp.read(text) for text in gone],
            max(0, len(new) - room),
        )

    def announced(self, rule: Rule, now: float) -> None:
        """Note that a rule is announced."""
        self.held.setdefault(gobgp.written(rule), now)

    def withdrawn(self, rule: Rule) -> None:
        """Note that a rule is withdrawn."""
        self.held.pop(gobgp.written(rule), None)


def of_bans(blocks: Iterable[Block], own: Sequence[Prefix], now: float) -> list[Rule]:
    """Return rules for what the SYN guard has banned: those sources have proved that they are not forged."""
    found = []
    for block in blocks:
        part = block.part(GUARD)
        if part is not None and (part.expires is None or part.expires > now) and isinstance(block.target, Prefix):
            found += [
                Rule(
                    it.version,
                    ((Component.DESTINATION, _bits(it)), (Component.SOURCE, _bits(block.target))),
                    Actions(rate=0),
                )
                for it in own
                if it.version == block.target.version
            ]
    return found


def of_filters(filters: Sequence[Filter], own: Sequence[Prefix], now: float) -> list[Rule]:
    """Return rules for what filters of this host drop or limit, whoever sends it, towards own destinations."""
    passing: list[Filter] = []
    found: list[Rule] = []
    for its in filters:
        if its.mode != "enforce" or not its.alive(now) or is_foreign(its.source):
            continue
        if its.action == "pass":
            passing.append(its)
        elif its.action in ("drop", "limit") and not any(meet(one.match, its.match) for one in passing):
            # Upstream, what passes here would be dropped.
            try:
                rules = rules_of(its.match, does_of(its))
                found += (narrow for rule in rules for narrow in _towards(rule, own) if gobgp.written(narrow))
            except UsageError:
                continue  # what FlowSpec, or GoBGP, cannot say
    return found


def _towards(rule: Rule, own: Sequence[Prefix]) -> Iterator[Rule]:
    """Yield a rule for each own destination that it is about; none if it names a source."""
    parts = dict(rule.components)
    if Component.SOURCE in parts:
        return
    asked = parts.get(Component.DESTINATION, Bits(0, 0))
    for its in own:
        mine = _bits(its)
        if its.version == rule.version and isinstance(asked, Bits) and not asked.offset:
            narrow, wide = (mine, asked) if mine.length >= asked.length else (asked, mine)
            shift = (32 if its.version == 4 else 128) - wide.length
            if narrow.number >> shift == wide.number >> shift:
                yield rule._replace(components=tuple(sorted({**parts, Component.DESTINATION: narrow}.items())))


def own_prefixes(texts: Iterable[str]) -> tuple[Prefix, ...]:
    """Parse prefixes of one's own. Raise UsageError if there is none, or one that cannot be anybody's."""
    found = tuple(parse_prefix(it)[0] for it in texts)
    if not found:
        raise UsageError("--announce without --own", "name the prefixes that are yours: --own 192.0.2.0/24")
    for its in found:
        if its.length < (8 if its.version == 4 else 16):
            raise UsageError(f"{its} cannot be your own", "name the prefixes that you announce")
    return found


def _bits(prefix: Prefix) -> Bits:
    return Bits(int.from_bytes(prefix.network, "big"), prefix.length)
