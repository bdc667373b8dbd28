# SPDX-License-Identifier: GPL-2.0
"""Listening ports that the host's own firewall may drop, although the SYN guard, which runs earlier, answers for them.

Of the nftables rules (iptables-nft creates the same), it reads those in chains at the input hook and in chains they
jump to: their verdicts and the TCP ports they name. Other conditions are not interpreted; hence "may".
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from xdpguard.net import listening, netlink, ruleset
from xdpguard.net.netlink import attributes, text
from xdpguard.net.netns import entered
from xdpguard.net.portsets import Ports
from xdpguard.net.ruleset import DROP, Rule

_GET_CHAINS, _GET_RULES = 10 << 8 | 4, 10 << 8 | 7  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETCHAIN and NFT_MSG_GETRULE
_GENERAL = 4  # bytes of struct nfgenmsg, which begins with the family
_FAMILIES = {1: "inet", 2: "ip", 10: "ip6"}  # NFPROTO_*
_TABLE, _NAME, _HOOK, _POLICY = 1, 3, 4, 5  # NFTA_CHAIN_*
_HOOK_NUMBER = 1  # NFTA_HOOK_HOOKNUM
_INPUT = 1  # NF_INET_LOCAL_IN
_SHOWN = 10  # ports named in a sentence
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 4  # NFTA_RULE_*

REMEDY = "if it does, leave them to it: xdpguard guard set exempt_ports=PORT,..."

Place = tuple[int, str, str]  # family, table, chain


class Conflict(NamedTuple):
    """Listening ports that a chain may drop: which chain, and why, in words."""

    ports: tuple[int, ...]
    chain: str
    why: str


def conflicts(netns: str, listening: Iterable[int]) -> list[Conflict]:
    """Return which of these ports a chain at the input hook may drop. Raise OSError if the kernel does not answer.

    Rules of iptables-legacy are not read.
    """
    wanted = sorted(set(listening))
    if not wanted:
        return []
    with entered(netns):
        chains = dict(_chains())
        roots = {place: policy for place, policy in chains.items() if policy is not None}
        if not roots:
            return []
        rules: dict[Place, list[Rule]] = {}
        for place, rule in _rules({(family, table) for family, table, _ in roots}):
            rules.setdefault(place, []).append(rule)
    return [it for place, policy in roots.items() for it in conflicts_of(place, policy, rules, wanted)]


def conflicts_of(
    place: Place, policy: int, rules: Mapping[Place, list[Rule]], ports: Iterable[int]
) -> Iterator[Conflict]:
    """Yield the ports that a base chain with its policy, and the chains it leads to, may drop."""
    reached = [place]
    for at in reached:
        for rule in rules.get(at, ()):
            reached += [it for it in ((*place[:2], name) for name in sorted(rule.jumps)) if it not in reached]
    every = [rule for at in reached for rule in rules.get(at, ())]
    accepted = [it for rule in every for it in rule.accepts]
    own = rules.get(place, ())
    closing = not any(rule.accepts_all for rule in own) and (policy == DROP or any(rule.drops_all for rule in own))
    name = f"{_FAMILIES[place[0]]} {place[1]} {place[2]}"
    left = [port for port in ports if not any(port in it for it in accepted)]
    named = tuple(port for port in left if any(port in it for rule in every for it in rule.drops))
    rest = tuple(port for port in left if port not in named)
    if named:
        yield Conflict(named, name, f"a rule drops or rejects {_them(named)}")
    if closing and rest:
        end = "its policy is drop" if policy == DROP else "a rule drops or rejects the rest"
        yield Conflict(rest, name, f"no rule that can be read accepts {_them(rest)}, and {end}")


def _chains() -> Iterator[tuple[Place, int | None]]:
    """Yield every chain of the relevant families; with its policy if it is at the input hook, else with None."""
    for message in _asked(_GET_CHAINS, bytes(_GENERAL)):
        found = attributes(message, _GENERAL)
        hook = attributes(found.get(_HOOK, b"")).get(_HOOK_NUMBER, b"")
        at_input = int.from_bytes(hook, "big") == _INPUT and bool(hook)
        policy = int.from_bytes(found.get(_POLICY, b"\1"), "big")
        if message[0] in _FAMILIES:
            yield (message[0], text(found.get(_TABLE)), text(found.get(_NAME))), policy if at_input else None


def _rules(tables: Iterable[tuple[int, str]]) -> Iterator[tuple[Place, Rule]]:
    for family, table in sorted(tables):
        request = bytes([family, 0, 0, 0]) + netlink.attribute(_RULE_TABLE, os.fsencode(table) + b"\0")
        sets = _Sets(family, table)
        for message in _asked(_GET_RULES, request):
            found = attributes(message, _GENERAL)
            if message[0] == family and text(found.get(_RULE_TABLE)) == table:
                rule = ruleset.parse(found.get(_RULE_EXPRESSIONS, b""), sets.elements)
                yield (family, table, text(found.get(_RULE_CHAIN))), rule


class _Sets:
    """The sets of a table, each read when a rule first refers to it."""

    def __init__(self, family: int, table: str) -> None:
        self._place = family, table
        self._known: dict[str, list[tuple[Ports, int]]] = {}

    def elements(self, name: str) -> list[tuple[Ports, int]]:
        if name not in self._known:
            self._known[name] = ruleset.elements(_asked(*ruleset.elements_request(*self._place, name)))
        return self._known[name]


def _asked(kind: int, request: bytes) -> list[bytes]:
    try:
        return netlink.ask(netlink.NETFILTER, kind, request, dump=True)
    except OSError as error:
        if error.errno in netlink.MISSING or kind not in (_GET_CHAINS, _GET_RULES):
            return []  # no nftables in this kernel; or the set was deleted meanwhile
        raise


def warnings(netns: str, exempt: Iterable[int]) -> list[str]:
    """Return the warnings for a namespace's listening ports, except those exempt from the guard."""
    left = set(exempt)
    ports = {it.port for it in listening.read(netns) if not it.loopback} - left
    return [
        f"nftables chain {it.chain} may drop traffic to {_ports(it.ports)} ({it.why}), which"
        f" look{'s' if len(it.ports) == 1 else ''} open while the guard answers"
        for it in conflicts(netns, ports)
    ]


def _them(ports: tuple[int, ...]) -> str:
    return "it" if len(ports) == 1 else "them"


def _ports(ports: tuple[int, ...]) -> str:
    shown = ", ".join(str(port) for port in ports[:_SHOWN])
    more = f" and {len(ports) - _SHOWN} more" if len(ports) > _SHOWN else ""
    return f"port{'s' if len(ports) > 1 else ''} {shown}{more}"
