# SPDX-License-Identifier: GPL-2.0
"""Check whether this machine has what xdpguard needs. Every finding that is not ok has a remedy."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import structs

from xdpguard.doctor import around, host
from xdpguard.doctor.check import Check
from xdpguard.doctor.fixes import FIXES
from xdpguard.errors import XdpguardError
from xdpguard.instance import Instance

__all__ = ["Check", "run"]

# In the order in which attaching needs them.
_CHECKS: tuple[tuple[str, Callable[[Instance], Check]], ...] = (
    ("privileges", host.privileges),
    ("kernel", host.running_kernel),
    ("bcc", host.bcc),
    ("kernel headers", host.headers),
    ("BPF file system", host.bpffs),
    ("state directory", host.state),
    ("data plane", host.compiles),
    ("SYN guard", host.guard),
    ("host firewall", around.firewall),
    ("TCP", host.tcp),
    ("programs", around.programs),
    ("entries", around.entries),
    ("interfaces", around.interfaces),
    ("drivers", around.drivers),
    ("answers", around.answers),
    ("needed addresses", around.needed),
)


def run(instance: Instance, fix: bool = False) -> list[Check]:
    """Run every check. With ``fix``, fix what can safely be fixed, and report the state afterwards."""
    found = []
    for name, check in _CHECKS:
        its = _run_check(name, check, instance)
        if fix and its.result != "ok" and name in FIXES:
            its = _run_fix(its, check, instance)
        found.append(its)
    return found


def _run_check(name: str, check: Callable[[Instance], Check], instance: Instance) -> Check:
    try:
        return check(instance)
    except XdpguardError as error:
        return Check(name, "fail", str(error), error.remedy)
    except OSError as error:
        return Check(name, "fail", error.strerror or str(error), "run it with sudo")


def _run_fix(its: Check, check: Callable[[Instance], Check], instance: Instance) -> Check:
    try:
        done = FIXES[its.name](instance)
    except (XdpguardError, OSError) as error:
        return structs.replace(its, finding=f"{its.finding}; the fix failed: {error}")
    return structs.replace(_run_check(its.name, check, instance), fixed=done) if done else its
