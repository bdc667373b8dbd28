# SPDX-License-Identifier: GPL-2.0
"""The options that choose sockets and a duration, shared by the `tcp` commands."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import typer

from xdpguard.cli import output
from xdpguard.cli.places import OneNetns
from xdpguard.errors import UsageError
from xdpguard.net import netns as namespaces
from xdpguard.policy.duration import parse_interval
from xdpguard.tcp.filters import Filter, parse_end, parse_port_range
from xdpguard.tcp.names import ALL_STATES

_Family = Annotated[Literal["4", "6"] | None, typer.Option("--family", help="IPv4 or IPv6 only.")]
_Local = Annotated[str, typer.Option("--local", metavar="PREFIX", help="Local address or prefix.")]
_Remote = Annotated[str, typer.Option("--remote", metavar="PREFIX", help="Remote address or prefix.")]
_LocalPort = Annotated[str, typer.Option("--local-port", metavar="PORT[-PORT]", help="Local port or range.")]
_RemotePort = Annotated[str, typer.Option("--remote-port", metavar="PORT[-PORT]", help="Remote port or range.")]
_Pid = Annotated[int, typer.Option("--pid", metavar="PID", min=0, help="Sockets of this process only.")]
Length = Annotated[
    str | None, typer.Option("--for", metavar="TIME", help="Stop after this time (10s, 5m); otherwise Ctrl-C ends it.")
]
Json = Annotated[bool, output.json_option("Print JSON, one object a line.")]
Wide = Annotated[bool, typer.Option("--wide", help="Also the socket's address in the kernel, and more.")]
Prefix4 = Annotated[
    int, typer.Option("--prefix4", metavar="LENGTH", min=0, max=32, help="IPv4: group by prefixes of this length.")
]
Prefix6 = Annotated[
    int, typer.Option("--prefix6", metavar="LENGTH", min=0, max=128, help="IPv6: group by prefixes of this length.")
]


@dataclass(frozen=True)
class Sockets:
    """The options that choose sockets, as given."""

    netns: OneNetns = ""
    family: _Family = None
    local: _Local = ""
    remote: _Remote = ""
    local_port: _LocalPort = ""
    remote_port: _RemotePort = ""
    pid: _Pid = 0

    def filter(self, states: int = ALL_STATES, longer: int = 0) -> Filter:
        """Return the filter that they describe. Raise UsageError if one is invalid, or nothing can match."""
        found = Filter(
            netns=namespaces.find(self.netns).inode if self.netns else 0,
            family=int(self.family or 0),
            local=parse_end(self.local),
            remote=parse_end(self.remote),
            local_ports=parse_port_range(self.local_port),
            remote_ports=parse_port_range(self.remote_port),
            states=states,
            longer=longer,
            pid=self.pid,
        )
        found.check()
        if self.pid and not os.path.isdir(f"/proc/{self.pid}"):  # noqa: PTH112
            raise UsageError(f"there is no process {self.pid}", "see ps -e; the sockets of a process end with it")
        return found


def with_sockets(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command with the options of Sockets in the place of its first parameter, which takes them."""

    def called(**given: Any) -> None:
        command(Sockets(**{name: given.pop(name) for name in chosen}), **given)

    chosen = inspect.signature(Sockets, eval_str=True).parameters
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    functools.update_wrapper(called, command)
    called.__signature__ = inspect.Signature([*chosen.values(), *own])  # type: ignore[attr-defined]
    return called


def seconds(text: str | None) -> float | None:
    """Return a duration in seconds; None if none is given."""
    return None if text is None else parse_interval(text)
