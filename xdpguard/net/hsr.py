# SPDX-License-Identifier: GPL-2.0
"""HSR and PRP devices: which of the two a device is, and its two links."""

from __future__ import annotations

from xdpguard.net.netlink import attributes, number

PRP = "prp"
_SLAVE1, _SLAVE2, _PROTOCOL, _PROTOCOL_PRP = 1, 2, 7, 1  # IFLA_HSR_*, HSR_PROTOCOL_PRP: linux/if_link.h


def members_of(kind: str, data: bytes) -> tuple[str, tuple[int, ...]]:
    """Return the kind (``prp`` for PRP) and the ifindexes of the two links; ``data``: IFLA_INFO_DATA.

    Returns the kind alone for other devices, or if the data are unexpected.
    """
    if kind != "hsr":
        return kind, ()
    found = attributes(data)
    members = tuple(number(found[it]) for it in (_SLAVE1, _SLAVE2) if len(found.get(it, b"")) == 4)
    return PRP if found.get(_PROTOCOL) == bytes([_PROTOCOL_PRP]) else kind, members
