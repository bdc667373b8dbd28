# SPDX-License-Identifier: GPL-2.0
"""The columns of the tables of `tcp`."""

from __future__ import annotations

from xdpguard.cli.columns import Column

STATES = [Column("netns"), Column("state"), *(Column(it, right=True) for it in ("sockets", "in/s", "out/s"))]
LISTENERS = [
    Column("netns", 2),
    Column("listener"),
    Column("process", 1, clip="end"),
    Column("accept queue"),
    Column("SYN backlog"),
    Column("connections", right=True),
]
REMOTES = [Column("netns", 1), Column("remote"), Column("sockets", right=True), Column("states", clip="end")]
WINDOWS = [
    Column("netns", 2),
    Column("local", 1),
    Column("remote"),
    Column("cwnd", right=True),
    Column("ssthresh", 4, right=True),
    Column("srtt/ms", right=True),
    Column("send", 6, right=True),
    Column("receive", 7, right=True),
    Column("in-flight", 5, right=True),
    Column("cwnd over time", 3),
]
