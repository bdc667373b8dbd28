# SPDX-License-Identifier: GPL-2.0
"""Rules, lists and filters drawn at random, and in plain Python what a packet meets among them."""

from __future__ import annotations

import math
import random
import socket
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from support.expressions import texts
from support.filters import Pools, matches
from support.matching import ADDRESSES4, ADDRESSES6, PORTS
from support.oracle import Sound, sanity, unasked
from xdpguard.dataplane.tables.classifier import ClassifierFilter
from xdpguard.dataplane.tables.filterentries import Action
from xdpguard.lists.addresses import AddressSet, aggregate
from xdpguard.lists.timed import Given
from xdpguard.policy.limit import Limit
from xdpguard.policy.matching.model import Base, Bytes, Match
from xdpguard.policy.matching.parsing import parse
from xdpguard.policy.rule import SAFETY, Mode, Rule
from xdpguard.policy.target import Kind, Port, Prefix

WIDTHS = {4: 32, 6: 128}
LENGTHS6 = 16  # of IPv6 prefixes in an index: others are split, and a part may be named as another list's
ALLOWED, BLOCKED, LISTED, PORT = "allow", "block", "list", "port"
Net = tuple[int, int, int]  # IP version, network, bits
Entry = tuple[str, int]  # its kind, and its slot or number


class Verdict(NamedTuple):
    """What a packet meets: its reason, the entry that takes the hit, the filters that do."""

    reason: str
    entry: Entry | None
    filters: tuple[int, ...]
    over: tuple[int, ...]  # those of them whose limit it is over


class Policy:
    """Rules, lists and filters, some of them ended, and how often each limit has been taken from."""

    def __init__(self, chance: random.Random, now: float, now_ns: int, bare: bool = False) -> None:
        """``now``: Unix time; ``now_ns``: the same instant of the program's clock; ``bare``: nothing is in force."""
        self._chance, self._now, self._now_ns = chance, now, now_ns
        self.rules: list[Rule] = []
        self.lists: dict[int, AddressSet] = {}
        self.filters: list[ClassifierFilter] = []
        self._tables: dict[tuple[int, str], dict[int, dict[int, int]]] = {}
        self._needed: set[int] = set()
        self._ports: dict[tuple[str, int], int] = {}
        self._decided: dict[tuple[int, int], Entry | None] = {}
        self.taken: Counter[int] = Counter()
        if bare:
            return
        for _ in range(chance.choice((0, 1, 3, 10, 30))):
            self._add_rule()
        for number in chance.sample(range(6), chance.choice((0, 0, 1, 3))):
            self._add_list(number)
        self._add_filters(chance.choice((0, 0, 1, 3, 12, 12, 70)))

    def describe(self) -> str:
        """What is in force, for a message."""
        lists = [f"list {number}: {list(map(str, _held(its)))}" for number, its in self.lists.items()]
        return "\n".join([*map(str, self.rules), *lists, *map(str, self.filters)])

    def judge(self, frame: bytes, packet: Sound, check: bool) -> Verdict:
        """What becomes of a packet. ``check``: whether impossible flags and sources are looked for."""
        entry = self._decide(packet.version, packet.source)
        needed = entry is not None and entry[0] == ALLOWED and entry[1] in self._needed
        if entry is not None and not needed:
            return Verdict("allow" if entry[0] == ALLOWED else "deny", entry, (), ())
        if packet.ports is not None and not needed:
            slot = self._ports.get((packet.protocol, packet.ports[1]))
            if slot is not None:
                return Verdict("closed_port", (PORT, slot), (), ())
        if check and (reason := sanity(packet)):
            return Verdict(reason, entry, (), ())
        return self._filtered(frame, packet, entry, needed)

    def _filtered(self, frame: bytes, packet: Sound, entry: Entry | None, needed: bool) -> Verdict:
        matched: list[int] = []
        over: list[int] = []
        for place, its in enumerate(self.filters):
            if its.expires_ns and its.expires_ns <= self._now_ns:
                continue
            if (needed and its.action in ("drop", "limit")) or not matches(its.match, frame, packet.seen):
                continue
            matched.append(place)
            if its.limit is not None:
                self.taken[place] += 1
                if self.taken[place] <= its.limit.burst:
                    continue
                over.append(place)
            if its.action == "count" or its.mode == "shadow":
                continue
            reason = {"drop": "filter", "limit": "filter_limit", "pass": unasked(packet)}[its.action]
            return Verdict(reason, entry, tuple(matched), tuple(over))
        return Verdict(unasked(packet), entry, tuple(matched), tuple(over))

    def _decide(self, version: int, source: int) -> Entry | None:
        """The entry that decides about a source: allow before block before lists, of each the longest prefix."""
        key = version, source
        if key not in self._decided:
            self._decided[key] = next(self._matching(version, source), None)
        return self._decided[key]

    def _matching(self, version: int, source: int) -> Iterator[Entry]:
        for kind in (ALLOWED, BLOCKED, LISTED):
            for drop, table in sorted(self._tables.get((version, kind), {}).items()):
                if source >> drop in table:
                    yield kind, table[source >> drop]

    def _put(self, net: Net, kind: str, number: int) -> None:
        version, network, length = net
        drop = WIDTHS[version] - length
        self._tables.setdefault((version, kind), {}).setdefault(drop, {})[network >> drop] = number

    def _net(self) -> Net:
        """A prefix that sources of packets are in, or near."""
        version = self._chance.choice((4, 6))
        family, texts = (socket.AF_INET, ADDRESSES4) if version == 4 else (socket.AF_INET6, ADDRESSES6)
        source = int.from_bytes(socket.inet_pton(family, self._chance.choice(texts)), "big")
        width = WIDTHS[version]
        length = self._chance.choice((width, width, width, width - 1, width - 8, width // 2, width // 4 * 3, width - 9))
        length = self._chance.choice((0, 1, 3)) if self._chance.random() < 0.04 else length
        source ^= self._chance.choice((0, 0, 0, 1, 1 << width - length if length else 0))
        return version, source >> (width - length) << (width - length), length

    def _add_rule(self) -> None:
        chance, slot = self._chance, len(self.rules)
        kind: Kind = chance.choice(("allow", "block", "block", "block", "port"))
        end = chance.choice((None, None, None, self._now + 50, self._now - 50))
        source = SAFETY if kind == "allow" and chance.random() < 0.5 else "test"
        net, port = self._net(), Port(chance.choice(PORTS[1:]), chance.choice(("tcp", "udp")))
        version, network, length = net
        prefix = Prefix(network.to_bytes(WIDTHS[version] // 8, "big"), length)
        target = port if kind == "port" else prefix
        if any(rule.kind == kind and rule.target == target for rule in self.rules):
            return
        self.rules.append(Rule(slot + 1, kind, target, "", source, 0.0, end, slot, 0, 0))
        if source == SAFETY:
            self._needed.add(slot)
        if end is not None and end < self._now:
            return
        if kind == "port":
            self._ports[port.protocol, port.number] = slot
        else:
            self._put(net, kind, slot)

    def _add_list(self, number: int) -> None:
        chance = self._chance
        nets = [self._net() for _ in range(chance.choice((1, 3, 12)))]
        ends = [chance.choice((0, 0, int(self._now) + 50, int(self._now) - 50)) for _ in nets]
        self.lists[number] = _set(nets, ends)
        # The one that lasts longest, of these that of the first list.
        longest: dict[Net, tuple[float, int]] = {}
        for its, entries in self.lists.items():
            for net, end in _held(entries):
                longest[net] = max(longest.get(net, (0.0, 0)), (end or math.inf, -its))
        if len({length for version, _, length in longest if version == 6}) > LENGTHS6:
            del self.lists[number]
            return
        self._tables = {key: table for key, table in self._tables.items() if key[1] != LISTED}
        for net, (until, negative) in longest.items():
            if until > self._now:
                self._put(net, LISTED, -negative)

    def _add_filters(self, count: int) -> None:
        pools = Pools(self._chance.getrandbits(32), self._chance.choice((3, 10, 40)))
        for slot in range(count):
            its = self._match(pools)
            action: Action = self._chance.choice(("drop", "drop", "pass", "count", "limit"))
            mode: Mode = self._chance.choice(("enforce", "enforce", "shadow"))
            ends = self._chance.choice((0, 0, 0, 1, self._now_ns + 10**12))
            limit = Limit("packets", 1, 3600, self._chance.choice((1, 5, 40))) if action == "limit" else None
            self.filters.append(ClassifierFilter(its, action, mode, ends, slot, limit))

    def _match(self, pools: Pools) -> Match:
        """A match in the words of the language, or of any fields, or of bytes."""
        how = self._chance.randrange(8)
        if how < 5:
            return self._chance.choice(_MATCHES)
        its = pools.match()
        if how == 7:
            size = self._chance.choice((1, 1, 2, 4, 16))
            mask = self._chance.getrandbits(8 * size) & self._chance.getrandbits(8 * size)
            value = mask & self._chance.choice((0, self._chance.getrandbits(8 * size), 0x45 << 8 * (size - 1)))
            place = self._chance.choice((0, 0, 1, 9, 12, 40, 60))
            test = Bytes(self._chance.choice(list(Base)), place, size, mask, value, self._chance.random() < 0.4)
            its = Match(its.tests[:1], (), (test,))
        return its


def _set(nets: list[Net], ends: list[int]) -> AddressSet:
    four, six = ([place for place, net in enumerate(nets) if net[0] == version] for version in (4, 6))
    low = (1 << 64) - 1
    given = Given(*(np.array([ends[place] for place in places], np.uint32) for places in (four, six)))
    return aggregate(
        np.array([nets[place][1] for place in four], np.uint32),
        np.array([nets[place][1] | (1 << 32 - nets[place][2]) - 1 for place in four], np.uint32),
        np.array([nets[place][1] >> 64 for place in six], np.uint64),
        np.array([nets[place][1] & low for place in six], np.uint64),
        np.array([nets[place][2] for place in six], np.uint8),
        ends=given,
    )[0]


def _held(its: AddressSet) -> Iterator[tuple[Net, int]]:
    """The prefixes that an index has of a list, and their ends."""
    for version, ends in ((4, its.ends4), (6, its.ends6)):
        for place, end in enumerate(ends.tolist()):
            found = its.prefix(version, place)
            network = int.from_bytes(found.network, "big")
            yield (version, network, max(found.length, 1)), end
            if not found.length:  # an index holds everything as two halves
                yield (version, 1 << WIDTHS[version] - 1, 1), end


_MATCHES = [parse(text) for text in texts()]
