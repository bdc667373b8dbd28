# SPDX-License-Identifier: GPL-2.0
"""Sets of addresses with ends."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from xdpguard.dataplane.tables.index import build
from xdpguard.dataplane.tables.lists import ListMaps
from xdpguard.lists.addresses import AddressSet, aggregate
from xdpguard.lists.timed import Given
from xdpguard.policy.target import parse_prefix


def timed(entries: Mapping[str, int]) -> AddressSet:
    """A set of prefixes and their ends: Unix time, 0 for none."""
    its = [(parse_prefix(text)[0], end) for text, end in entries.items()]
    four, six = ([it for it in its if it[0].version == version] for version in (4, 6))
    first = [int.from_bytes(net.network, "big") for net, _ in four]
    last = [begin + (1 << 32 - net.length) - 1 for begin, (net, _) in zip(first, four, strict=True)]
    return aggregate(
        np.array(first, np.uint32),
        np.array(last, np.uint32),
        np.array([int.from_bytes(net.network[:8], "big") for net, _ in six], np.uint64),
        np.array([int.from_bytes(net.network[8:], "big") for net, _ in six], np.uint64),
        np.array([net.length for net, _ in six], np.uint8),
        ends=Given(*(np.array([end for _, end in part], np.uint32) for part in (four, six))),
    )[0]


def load(maps: ListMaps, *lists: Mapping[str, int]) -> None:
    """Puts lists in force, numbered from 0."""
    index = build([(number, timed(entries)) for number, entries in enumerate(lists)], 1)
    maps.swap(index.lines, index.nets4, index.nets6, index.wide6)
