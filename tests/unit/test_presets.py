# SPDX-License-Identifier: GPL-2.0
"""The ready-made filters: each matches the packets that it is for, and not those that are honest."""

from __future__ import annotations

import re

import pytest
from support.matching import matches
from support.presets import CASES

from xdpguard.errors import UsageError
from xdpguard.policy.flowspec.rule import Does
from xdpguard.policy.flowspec.text import written as flowspec
from xdpguard.policy.matching.parsing import parse
from xdpguard.policy.presets.catalogue import GROUPS, PRESETS, group_of, presets
from xdpguard.policy.presets.preset import Preset

# What stays where it is: numbers before addresses.
SOURCES = (
    r"RFC \d+(, \d+(\.\d+)*)?", r"CVE-\d{4}-\d{4,}", r"CISA alert TA\d\d-\d{3}A", r"CERT/CC VU#\d+",
    r"CERT-EU security advisory \d{4}-\d{3}", r"OASIS [\w-]+ \d\.\d", r"Microsoft Open Specifications", r"MC-\w+",
    r"https://\S+",
)  # fmt: skip


def preset(name: str) -> Preset:
    (found,) = presets([name])
    return found


def test_each_has_a_case() -> None:
    assert set(CASES) == {it.name for it in PRESETS}
    assert len(PRESETS) == len(CASES)


@pytest.mark.parametrize("name", CASES)
def test_it_matches_what_it_is_for_and_nothing_honest(name: str) -> None:
    match = parse(preset(name).text)
    for_it, honest = CASES[name]
    assert [matches(match, it) for it in for_it] == [True] * len(for_it)
    assert [matches(match, it) for it in honest] == [False] * len(honest)


@pytest.mark.parametrize("name", CASES)
def test_it_has_an_action_a_source_and_words(name: str) -> None:
    found = preset(name)
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", found.name)
    assert all(any(re.fullmatch(kind, it) for kind in SOURCES) for it in re.split(r", (?=[A-Z])", found.source))
    assert found.summary
    assert (found.action == "limit") == bool(re.fullmatch(r"[1-9][0-9]*/s", found.rate))
    assert found.per in ("filter", "source")


def test_a_name_that_there_is_not() -> None:
    with pytest.raises(UsageError, match="no preset or group 'memcache'") as caught:
        preset("memcache")
    assert caught.value.remedy == "did you mean memcached?"


def test_groups_stand_for_their_presets_and_none_is_there_twice() -> None:
    assert presets(["icmp", "icmp-echo", "dns", "dns"]) == [*GROUPS["icmp"], preset("dns")]
    assert presets(GROUPS) == list(PRESETS)
    assert not set(GROUPS) & {it.name for it in PRESETS}
    assert group_of(preset("gre")) == "stray"
    with pytest.raises(UsageError, match="no preset or group 'x1'") as caught:
        presets(["dns", "x1"])
    assert "xdpguard filter presets" in caught.value.remedy


def test_those_that_compare_ports_and_lengths_can_be_announced() -> None:
    """What the network in front is asked to do as well: the filters on volume that FlowSpec has words for."""
    announced = {"dns", "ntp-length", "ssdp", "memcached", "cldap", "chargen", "snmp", "fragments-tcp", "ws-discovery"}
    for name in announced:
        rules = flowspec(parse(preset(name).text), Does("drop"), "gobgp").splitlines()
        assert [it.split(" -a ")[1].split()[0] for it in rules] == ["ipv4-flowspec", "ipv6-flowspec"]
