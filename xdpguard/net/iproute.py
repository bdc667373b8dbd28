# SPDX-License-Identifier: GPL-2.0
"""rtnetlink from pyroute2, without the rest: a full ``import pyroute2`` would take a third of most commands' time."""

from __future__ import annotations

import functools
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple


class Rtnetlink(NamedTuple):
    """The pyroute2 classes used here."""

    IPRoute: Any
    NetlinkError: Any


@functools.cache
def rtnetlink() -> Rtnetlink:
    """Import them past the package's own ``__init__``; a later ``import pyroute2`` still gets the whole package."""
    spec = None if "pyroute2" in sys.modules else find_spec("pyroute2")
    if spec is not None:
        stand_in = ModuleType("pyroute2")
        stand_in.__path__ = list(spec.submodule_search_locations or ())
        sys.modules["pyroute2"] = stand_in
    try:
        from pyroute2.iproute.linux import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError
    finally:
        if spec is not None:
            del sys.modules["pyroute2"]
    return Rtnetlink(IPRoute, NetlinkError)
