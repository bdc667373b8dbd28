# SPDX-License-Identifier: GPL-2.0
"""HSR and PRP devices: which of the two one is, and the links it sends over."""

from __future__ import annotations

import struct

PRP = "prp"
_SLAVE1, _SLAVE2, _PROTOCOL, _PROTOCOL_PRP = 1, 2, 7, 1  # IFLA_HSR_*, HSR_PROTOCOL_PRP: linux/if_link.h


def members_of(kind: str, data: object) -> tuple[str, tuple[int, ...]]:
    """The kind, ``prp`` for that, and the indexes of the two links, from IFLA_INFO_DATA as pairs of hexadecimal digits.

    The kind alone for a device of another kind, or one whose data say something else.
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
