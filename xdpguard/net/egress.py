# SPDX-License-Identifier: GPL-2.0
"""The program at an interface's egress: a filter of traffic control (tc-bpf(8)) that runs beside those of others.

It belongs to the interface and stays until it is taken off or the interface is deleted.
"""

from __future__ import annotations

import errno
import itertools
import socket
import struct
from typing import NamedTuple

from xdpguard.errors import XdpguardError
from xdpguard.net import netlink
from xdpguard.net.netlink import attribute, attributes
from xdpguard.net.netns import entered, place_of

_NEW_QDISC, _DEL_QDISC, _GET_QDISC = 36, 37, 38  # RTM_*
_NEW_FILTER, _DEL_FILTER, _GET_FILTER = 44, 45, 46
_CREATE, _EXCLUSIVE = 0x400, 0x200  # NLM_F_*
_MESSAGE = struct.Struct("=BxxxiIII")  # struct tcmsg: family, index, handle, parent, info
_CLSACT, _CLSACT_HANDLE = 0xFFFFFFF1, 0xFFFF0000  # TC_H_CLSACT
_QUEUE = "clsact"
_INGRESS, _EGRESS = 0xFFFFFFF2, 0xFFFFFFF3  # TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_*)
_KIND, _OPTIONS = 1, 2  # TCA_*
_FD, _NAME, _FLAGS, _ID = 6, 7, 8, 11  # TCA_BPF_*
_DIRECT = struct.pack("=I", 1)  # TCA_BPF_FLAG_ACT_DIRECT
_HANDLE = 0x7864  # asked for, so that people find it; the kernel chooses another one if that is taken
_CHAIN = 11  # TCA_CHAIN
_ALL = socket.htons(3)  # ETH_P_ALL
_NONE = (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP)


class Hung(NamedTuple):
    """Where a program hangs at an interface's egress, and its id; ``priority`` decides the order, ascending."""

    priority: int
    handle: int
    program: int


class _Filter(NamedTuple):
    """A filter of any kind at the egress; ``handle`` 0: its head. ``program``: 0 if it is none of BPF."""

    priority: int
    protocol: int
    kind: str
    handle: int
    program: int


def programs_at(ifindex: int, netns: str) -> list[Hung]:
    """Return the programs that hang there, in order; none if none can. Raise NoSuchNamespace, or OSError."""
    with entered(netns):
        found = _filters(ifindex) if _queue_kind(ifindex) == _QUEUE else []
    return [Hung(it.priority, it.handle, it.program) for it in found if it.program]


def hang(name: str, ifindex: int, netns: str, program: int, label: str, older: Hung | None = None) -> None:
    """Hang a program (a descriptor) at an interface's egress, in place of an older one of ours.

    It goes before the programs of others, and behind filters of other kinds that have the first priority. ``label``:
    what `tc filter show` names it. Raise XdpguardError if the kernel lacks what it needs.
    """
    options = attribute(_FD, struct.pack("=I", program)) + attribute(_NAME, label.encode() + b"\0")
    options += attribute(_FLAGS, _DIRECT)
    body = attribute(_KIND, b"bpf\0") + attribute(_OPTIONS, options)
    queue = _MESSAGE.pack(socket.AF_UNSPEC, ifindex, _CLSACT_HANDLE, _CLSACT, 0) + attribute(
        _KIND, _QUEUE.encode() + b"\0"
    )
    with entered(netns):
        try:
            _change(_NEW_QDISC, queue, _CREATE | _EXCLUSIVE, errno.EEXIST)
            if (kind := _queue_kind(ifindex)) != _QUEUE:
                raise XdpguardError(
                    f"nothing can be run at the egress of {place_of(name, netns)}: its queue discipline {kind} takes "
                    f"the place of {_QUEUE}",
                    f"{_QUEUE} runs filters at ingress as well: tc qdisc delete dev {name} {kind}, and add its filters "
                    f"again after tc qdisc add dev {name} {_QUEUE}",
                )
            place, flags = (older, 0) if older else (_room(_filters(ifindex)), _EXCLUSIVE)
            _change(_NEW_FILTER, _place(ifindex, place.priority, place.handle) + body, _CREATE | flags)
        except OSError as error:
            raise XdpguardError(
                f"nothing can be run at the egress of {place_of(name, netns)}: {error.strerror or error}",
                "load the kernel's modules for it: modprobe sch_ingress cls_bpf",
            ) from error


def take_off(ifindex: int, netns: str, hung: Hung) -> None:
    """Take a program off an interface, and the queue discipline that nobody else uses. Nothing there is no error."""
    with entered(netns):
        if _queue_kind(ifindex) != _QUEUE:
            return
        gone = (*_NONE, errno.ENODEV)
        if any((it.priority, it.handle, it.program) == hung for it in _filters(ifindex)):
            body = _place(ifindex, hung.priority, hung.handle) + attribute(_KIND, b"bpf\0")
            _change(_DEL_FILTER, body, 0, *gone)
        if not _used(ifindex, _EGRESS) and not _used(ifindex, _INGRESS):
            _change(_DEL_QDISC, _MESSAGE.pack(socket.AF_UNSPEC, ifindex, _CLSACT_HANDLE, _CLSACT, 0), 0, *gone)


def _room(filters: list[_Filter]) -> Hung:
    """Return the first place at which a program can be hung: a priority has filters of one kind and protocol only."""
    barred = {it.priority for it in filters if (it.kind, it.protocol) != ("bpf", _ALL)}
    priority = next(it for it in itertools.count(1) if it not in barred)
    taken = any((it.priority, it.handle) == (priority, _HANDLE) for it in filters)
    return Hung(priority, 0 if taken else _HANDLE, 0)


def _place(ifindex: int, priority: int, handle: int) -> bytes:
    return _MESSAGE.pack(socket.AF_UNSPEC, ifindex, handle, _EGRESS, priority << 16 | _ALL)


def _filters(ifindex: int) -> list[_Filter]:
    """Return the filters that hang at the egress, heads included; of the first chain, which is asked."""
    found = []
    for message in _dumped(ifindex, _EGRESS):
        _, _, handle, _, info = _MESSAGE.unpack_from(message)
        its = attributes(message, _MESSAGE.size)
        if netlink.number(its.get(_CHAIN)):
            continue
        kind = netlink.text(its.get(_KIND))
        program = netlink.number(attributes(its.get(_OPTIONS, b"")).get(_ID)) if kind == "bpf" else 0
        found.append(_Filter(info >> 16, info & 0xFFFF, kind, handle, program))
    return found


def _queue_kind(ifindex: int) -> str:
    """Return the kind of the queue discipline at clsact's place; empty if there is none.

    In another one, `ingress`, the kernel takes a filter for the egress as one for the ingress.
    """
    # A dump, which the kernel does not narrow; before 6.8 a request for one of them is not answered.
    request = _MESSAGE.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    for message in netlink.ask(netlink.ROUTE, _GET_QDISC, request, dump=True):
        _, index, _, parent, _ = _MESSAGE.unpack_from(message)
        if (index, parent) == (ifindex, _CLSACT):
            return netlink.text(attributes(message, _MESSAGE.size).get(_KIND))
    return ""


def _used(ifindex: int, parent: int) -> bool:
    """Return whether filters hang there."""
    return bool(_dumped(ifindex, parent))


def _dumped(ifindex: int, parent: int) -> list[bytes]:
    request = _MESSAGE.pack(socket.AF_UNSPEC, ifindex, 0, parent, 0)
    try:
        return netlink.ask(netlink.ROUTE, _GET_FILTER, request, dump=True)
    except OSError as error:
        if error.errno in (*_NONE, errno.ENODEV):
            return []
        raise


def _change(kind: int, body: bytes, flags: int, *tolerated: int) -> None:
    """Make a change. Raise OSError with the kernel's errno, except those that are tolerated."""
    try:
        netlink.change(netlink.ROUTE, kind, body, flags)
    except OSError as error:
        if error.errno not in tolerated:
            raise
