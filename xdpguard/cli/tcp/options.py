# SPDX-License-Identifier: GPL-2.0
"""The options that choose sockets and a duration, shared by the `tcp` commands."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import typer

from xdpguard.errors import UsageError
from xdpguard.net import netns as namespaces
from xdpguard.policy.target import parse_interval
from xdpguard.tcp.filters import Filter, parse_end, parse_port_range

Family = Annotated[Literal["4", "6"] | None, typer.Option("--family", help="IPv4 or IPv6 only.")]
Local = Annotated[str, typer.Option("--local", metavar="PREFIX", help="Local address or prefix.")]
Remote = Annotated[str, typer.Option("--remote", metavar="PREFIX", help="Remote address or prefix.")]
LocalPort = Annotated[str, typer.Option("--local-port", metavar="PORT[-PORT]", help="Local port or range.")]
RemotePort = Annotated[str, typer.Option("--remote-port", metavar="PORT[-PORT]", help="Remote port or range.")]
Pid = Annotated[int, typer.Option("--pid", metavar="PID", min=0, help="Sockets of this process only.")]
Length = Annotated[
    str | None, typer.Option("--for", metavar="TIME", help="Stop after this time (10s, 5m); otherwise Ctrl-C ends it.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
Wide = Annotated[bool, typer.Option("--wide", help="Also the socket's address in the kernel, and more.")]
Prefix4 = Annotated[
    int, typer.Option("--prefix4", metavar="LENGTH", min=0, max=32, help="IPv4: group by prefixes of this length.")
]
Prefix6 = Annotated[
    int, typer.Option("--prefix6", metavar="LENGTH", min=0, max=128, help="IPv6: group by prefixes of this length.")
]


def chosen(
    netns: str,
    family: str | None,
    local: str,
    remote: str,
    local_port: str,
    remote_port: str,
    pid: int,
    states: int | None = None,
    longer: int = 0,
) -> Filter:
    """Return the filter that the options describe. Raise UsageError if one is invalid, or nothing can match."""
    found = Filter(
        netns=namespaces.find(netns).inode if netns else 0,
        family=int(family or 0),
        local=parse_end(local),
        remote=parse_end(remote),
        local_ports=parse_port_range(local_port),
        remote_ports=parse_port_range(remote_port),
        longer=longer,
        pid=pid,
    )
    if states is not None:
        found = Filter(**{**found.__dict__, "states": states})
    found.check()
    if pid and not os.path.isdir(f"/proc/{pid}"):  # noqa: PTH112
        raise UsageError(f"there is no process {pid}", "see ps -e; the sockets of a process end with it")
    return found


def seconds(text: str | None) -> float | None:
    """Return a duration in seconds; None if none is given."""
    return None if text is None else parse_interval(text)
