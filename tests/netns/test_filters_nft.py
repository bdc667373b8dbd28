# SPDX-License-Identifier: GPL-2.0
"""nftables as the oracle of the match language: what it accepts in the same words, it matches on the same packets."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.expressions import conjunctions, texts
from support.nft import Oracle, compare, usable
from topology import Lab

from xdpguard.policy.matching.parsing import parse


@pytest.fixture(scope="module")
def oracle(lab: Lab) -> Iterator[Oracle]:
    yield Oracle(lab)


def test_expressions_match_the_packets_that_nft_matches_them_on(oracle: Oracle) -> None:
    written_down = texts()
    assert compare(oracle, written_down) > 20 * len(written_down)  # packets that match, of 400 for each


def test_words_of_other_hooks_are_nft_s() -> None:
    """At ingress nft has no ct and no nfproto; elsewhere it accepts what we do."""
    for text in ("ct state established", "meta nfproto ipv4 tcp dport 80", "meta nfproto { ipv4, ipv6 }"):
        table = f"table inet xg {{\nchain c {{\ntype filter hook input priority 0;\n{text}\n}}\n}}\n"
        subprocess.run(["nft", "-c", "-f", "-"], input=table, text=True, check=True, timeout=60)
        parse(text)


@settings(max_examples=8, phases=(Phase.generate,), suppress_health_check=list(HealthCheck))
@given(st.lists(conjunctions().filter(usable), min_size=60, max_size=60))
def test_random_conjunctions_match_the_packets_that_nft_matches_them_on(oracle: Oracle, texts: list[str]) -> None:
    compare(oracle, texts)
