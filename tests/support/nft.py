# SPDX-License-Identifier: GPL-2.0
"""nftables as the oracle of the match language: what it accepts in the same words, it matches on the same packets."""

from __future__ import annotations

import json
import random
import re
import socket
import subprocess
from collections.abc import Sequence
from typing import Any

from topology import Lab

from support.matching import Sample, matches, sample
from support.traffic import eventually
from xdpguard.net.netns import entered
from xdpguard.policy.matching.error import MatchError
from xdpguard.policy.matching.model import Field
from xdpguard.policy.matching.parsing import parse
from xdpguard.policy.matching.writing import written

PACKETS = 400
_TRANSPORT = r"port|flags|@th|@ih|icmp(v6)? (type|code)"


class Oracle:
    """The lab's server with a table at the ingress of its interface: a set for each rule, of the packets that match."""

    def __init__(self, lab: Lab, seed: int = 7) -> None:
        """``seed``: of the packets."""
        self._lab = lab
        chosen = random.Random(seed)
        self.samples = [sample(chosen, number) for number in range(PACKETS)]

    def matched(self, texts: Sequence[str]) -> list[set[int]]:
        """Return, for each text, the numbers of the packets that nft's rule of it matches."""
        kind = f"type ether_addr; flags dynamic; size {PACKETS};"
        sets = "".join(f"set s{at} {{ {kind} }}\n" for at in range(len(texts) + 1))
        rules = "".join(f"{text} add @s{at} {{ ether daddr }}\n" for at, text in enumerate(texts))
        hook = f"type filter hook ingress device {self._lab.interface} priority 0;"
        # The last rule takes every packet: when all are in its set, all have passed those before it.
        chain = f"chain c {{\n{hook}\n{rules}add @s{len(texts)} {{ ether daddr }}\n}}"
        self._nft("-f", "-", input=f"table netdev oracle {{\n{sets}{chain}\n}}\n")
        try:
            self._send()
            assert eventually(lambda: len(self._members(len(texts))) == PACKETS), "packets got lost"
            return [self._members(at) for at in range(len(texts))]
        finally:
            self._nft("delete", "table", "netdev", "oracle")

    def _send(self) -> None:
        with entered(self._lab.outside), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind((self._lab.interface, 0))
            for it in self.samples:
                wire.send(it.frame)

    def _members(self, at: int) -> set[int]:
        listed: Any = json.loads(self._nft("-j", "list", "set", "netdev", "oracle", f"s{at}"))
        elements = next(it["set"].get("elem", []) for it in listed["nftables"] if "set" in it)
        # The kernel's own packets, to multicast addresses, pass as well.
        return {int(it.replace(":", ""), 16) & 0xFFFFFFFF for it in elements if it.startswith("02:00:")}

    def _nft(self, *arguments: str, input: str = "") -> str:
        try:
            return self._lab.run(self._lab.server, ["nft", *arguments], input=input).stdout
        except subprocess.CalledProcessError as error:
            raise AssertionError(f"nft: {error.stderr}") from error


def _ours(text: str, samples: Sequence[Sample]) -> set[int]:
    match = parse(text)
    return {at for at, it in enumerate(samples) if matches(match, it)}


def compare(oracle: Oracle, texts: Sequence[str]) -> int:
    """Assert that each text, as it is and as we write it, matches what it does in nft; return how often any does."""
    canonical = [_nft_words(written(parse(it))) for it in texts]
    found = oracle.matched([*texts, *canonical])
    total = 0
    for text, own, as_is, as_written in zip(texts, canonical, found, found[len(texts) :], strict=False):
        expected = _ours(text, oracle.samples)
        aside = {at for at, it in enumerate(oracle.samples) if _differs(text + own, it)}
        for theirs, words in ((as_is, text), (as_written, own)):
            differing = (expected ^ theirs) - aside
            shown = [oracle.samples[it] for it in sorted(differing)[:2]]
            assert not differing, f"{words}: ours {len(expected)}, nft {len(theirs)}: {shown}"
        total += len(expected)
    return total


def _differs(texts: str, sample: Sample) -> bool:
    """Whether nftables knowingly means something else.

    It compares the first next header of IPv6, we the last. In a later fragment its reads of 1, 2 and 4 bytes take what
    stands there for a transport header (nft_payload_fast_eval, Linux 6.18); its other reads and we do not.
    """
    later = sample.fields[Field.FRAGMENT] == 2
    return (sample.extended and "nexthdr" in texts) or (later and re.search(_TRANSPORT, texts) is not None)


def _nft_words(text: str) -> str:
    """`meta nfproto` is of other families than netdev, where `meta protocol` says the same."""
    for ours, theirs in (("ipv4", "ip"), ("ipv6", "ip6"), ("{ ipv4, ipv6 }", "{ ip, ip6 }")):
        text = text.replace(f"meta nfproto {ours}", f"meta protocol {theirs}")
    return text


def usable(text: str) -> bool:
    """Whether a packet can match, and nft 1.0.6 means what it says: it makes one comparison of `a != 1 b != 2`."""
    try:
        return max(it.count("!=") for it in (text, written(parse(text)))) < 2
    except MatchError as error:
        assert "no packet can match" in str(error), text
        return False
