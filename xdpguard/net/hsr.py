# SPDX-License-Identifier: GPL-2.0
"""HSR and PRP devices: which of the two a device is, and its two links."""

from __future__ import annotations

import struct

PRP = "prp"
_SLAVE1, _SLAVE2, _PROTOCOL, _PROTOCOL_PRP = 1, 2, 7, 1  # IFLA_HSR_*, HSR_PROTOCOL_PRP: linux/if_link.h


def members_of(kind: str, data: object) -> tuple[str, tuple[int, ...]]:
    """Return the kind (``prp`` for PRP) and the ifindexes of the two links; ``data``: IFLA_INFO_DATA in hexadecimal.

    Returns the kind alone for other devices, or if the data are unexpected.
    """
    if kind != "hsr" or not isinstance(data, str):
        return kind, ()
    raw = bytes.fromhex(data.replace(":", ""))
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(raw):
        length, number = struct.unpack_from("=HH", raw, at)
        if length < 4:
            break
        found[number] = raw[at + 4 : at + length]
        at += length + 3 & ~3
    members = tuple(struct.unpack("=I", found[it])[0] for it in (_SLAVE1, _SLAVE2) if len(found.get(it, b"")) == 4)
    return PRP if found.get(_PROTOCOL) == bytes([_PROTOCOL_PRP]) else kind, members
