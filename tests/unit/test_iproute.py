# SPDX-License-Identifier: GPL-2.0
"""Only rtnetlink is loaded from pyroute2, and later imports of the package still get all of it."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from xdpguard.net.iproute import rtnetlink
with rtnetlink().IPRoute() as route:
    assert route.link_lookup(ifname="lo") == [1]
assert "pyroute2.ndb.main" not in sys.modules and "pyroute2.iproute.linux" in sys.modules
import pyroute2
assert pyroute2.NDB.__module__.startswith("pyroute2.ndb")
with rtnetlink().IPRoute() as route:
    assert route.link_lookup(ifname="lo") == [1]
"""


def test_the_package_stays_whole() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
