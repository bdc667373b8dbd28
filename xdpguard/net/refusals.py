# SPDX-License-Identifier: GPL-2.0
"""Why the kernel refused to attach or detach a program, in its own words where it gives any, and the remedy."""

from __future__ import annotations

import errno
from typing import NamedTuple

from xdpguard.errors import MissingError, XdpguardError


class AttachRefused(XdpguardError):
    """The kernel refused to attach or detach. ``code`` is its errno."""

    def __init__(self, message: str, remedy: str, code: int) -> None:
        super().__init__(message, remedy)
        self.code = code


class _Case(NamedTuple):
    """A refusal by errno, and by a part of the kernel's message where one errno has several meanings."""

    code: int
    part: str
    reason: str  # the message if the kernel gives no reason
    remedy: str


_GENERIC = "use --mode generic"
_CASES = (
    _Case(errno.EOPNOTSUPP, "", "the driver does not support it", _GENERIC),
    _Case(
        errno.ERANGE,
        "",
        "the MTU is too large for the driver's XDP",
        "attach with --mtu-any, or lower the MTU (of a veth: its peer's), or use --mode generic",
    ),
    _Case(
        errno.ENOSPC,
        "queues",
        "",
        "give it more receive queues or the other end fewer transmit queues (ethtool -L), or use --mode generic",
    ),
    _Case(errno.ENOMEM, "", "no memory for the driver's XDP queues", "free memory or use --mode generic"),
    _Case(
        errno.EBUSY,
        "",
        "another program is attached",
        "see it with ip link; --replace replaces it (one held by a BPF link must be removed by its owner)",
    ),
    _Case(
        errno.EEXIST,
        "upper device",
        "",
        "detach the program on the device above it first (ip -d link shows a bridge, bond, VLAN or macvlan)",
    ),
    _Case(errno.EEXIST, "same time", "", "detach it first, or attach without --mode"),
    _Case(errno.EEXIST, "", "the attached program has changed in the meantime", "try again"),
    _Case(errno.ENODEV, "", "the interface no longer exists", "see ip link"),
)
_SILENT = "dmesg may have the driver's reason; or use --mode generic"
_TOLD = "change what it names, or use --mode generic"


def refused(what: str, code: int, words: str) -> XdpguardError:
    """Return the error for a refusal of ``what``, such as "attach to eth0 in native mode".

    ``words``: the kernel's own reason (its extended acknowledgement), empty if it gave none.
    """
    if code in (errno.EPERM, errno.EACCES):
        return MissingError(f"no permission to {what}", "run as root: sudo xdpguard ...")
    for case in _CASES:
        if case.code == code and case.part in words:
            return AttachRefused(f"cannot {what}: {words or case.reason}", case.remedy, code)
    reason = words or errno.errorcode.get(code, str(code))
    return AttachRefused(f"cannot {what}: {reason}", _TOLD if words else _SILENT, code)
