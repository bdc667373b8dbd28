# SPDX-License-Identifier: GPL-2.0
"""The program at an interface's egress: a filter of traffic control (tc-bpf(8)) that runs beside those of others.

It belongs to the interface and stays until it is taken off or the interface is deleted.
"""

from __future__ import annotations

import errno
import socket
import struct

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
_HANDLE = 0x7864  # tells it from other filters of that priority
_INFO = 1 << 16 | socket.htons(3)  # priority 1, ETH_P_ALL
_NONE = (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP)


def program_at(ifindex: int, netns: str) -> int:
    """Return the id of the program that hangs there; 0 if none does, or can. Raise NoSuchNamespace, or OSError."""
    try:
        with entered(netns):
            message = netlink.ask(netlink.ROUTE, _GET_FILTER, _filter(ifindex))[0]
            if _queue_kind(ifindex) != _QUEUE:
                return 0
    except OSError as error:
        if error.errno in (*_NONE, errno.ENODEV):
            return 0
        raise
    return netlink.number(attributes(attributes(message, _MESSAGE.size).get(_OPTIONS, b"")).get(_ID))


def hang(name: str, ifindex: int, netns: str, program: int, label: str) -> None:
    """Hang a program (a descriptor) at an interface's egress, in place of an older one of ours.

    ``label``: what `tc filter show` names it. Raise XdpguardError if the kernel lacks what it needs.
    """
    options = attribute(_FD, struct.pack("=I", program)) + attribute(_NAME, label.encode() + b"\0")
    options += attribute(_FLAGS, _DIRECT)
    body = _filter(ifindex) + attribute(_KIND, b"bpf\0") + attribute(_OPTIONS, options)
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
            _change(_NEW_FILTER, body, _CREATE)
        except OSError as error:
            raise XdpguardError(
                f"nothing can be run at the egress of {place_of(name, netns)}: {error.strerror or error}",
                "load the kernel's modules for it: modprobe sch_ingress cls_bpf",
            ) from error


def take_off(ifindex: int, netns: str) -> None:
    """Take our program off an interface, and the queue discipline that nobody else uses. Nothing there is no error."""
    with entered(netns):
        if _queue_kind(ifindex) != _QUEUE:
            return
        gone = (*_NONE, errno.ENODEV)
        _change(_DEL_FILTER, _filter(ifindex) + attribute(_KIND, b"bpf\0"), 0, *gone)
        if not _used(ifindex, _EGRESS) and not _used(ifindex, _INGRESS):
            _change(_DEL_QDISC, _MESSAGE.pack(socket.AF_UNSPEC, ifindex, _CLSACT_HANDLE, _CLSACT, 0), 0, *gone)


def _filter(ifindex: int) -> bytes:
    return _MESSAGE.pack(socket.AF_UNSPEC, ifindex, _HANDLE, _EGRESS, _INFO)


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
    request = _MESSAGE.pack(socket.AF_UNSPEC, ifindex, 0, parent, 0)
    try:
        return bool(netlink.ask(netlink.ROUTE, _GET_FILTER, request, dump=True))
    except OSError as error:
        if error.errno in (*_NONE, errno.ENODEV):
            return False
        raise


def _change(kind: int, body: bytes, flags: int, *tolerated: int) -> None:
    """Make a change. Raise OSError with the kernel's errno, except those that are tolerated."""
    try:
        netlink.change(netlink.ROUTE, kind, body, flags)
    except OSError as error:
        if error.errno not in tolerated:
            raise
