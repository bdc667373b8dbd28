# SPDX-License-Identifier: GPL-2.0
"""What goes between the connection's thread and the daemon's."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from xdpguard.fleet.objects import Fetched
from xdpguard.fleet.state import Message


class Sending(NamedTuple):
    """Something to publish: ``data`` is None to delete the key."""

    bucket: str
    key: str
    data: bytes | None


class Batch(NamedTuple):
    """What came from the fleet. ``stream``: of a whole snapshot, which stream it is of; else empty.

    ``sent``: what was published; ``failed``: why the server cannot be used, when that changes; ``warning``: what else
    went wrong, such as what the server does not let this host publish; ``lists``: what was fetched; ``hosts``: how all
    stand.
    """

    messages: Collection[Message] = ()
    stream: str = ""
    sent: Collection[Sending] = ()
    failed: str = ""
    warning: str = ""
    lists: Collection[Fetched] = ()
    hosts: Collection[Message] = ()
