# SPDX-License-Identifier: GPL-2.0
"""Who else may own a segment for which the guard finds no socket: the reasons, in words, to leave such segments alone.

sk_lookup and cgroup programs are not among them: the data plane's own lookup runs the former, and for the latter, which
rewrite the addresses a process connects to, the socket holds the addresses on the wire. A raw socket that answers with
TCP segments of its own (nmap, udp2raw) cannot be told from any other.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterable, Sequence

from xdpguard.net import nat, netlink
from xdpguard.net.devices import OVS, Device, Devices, above, vrfs
from xdpguard.net.netns import entered

_DIAG_BY_FAMILY = 20  # SOCK_DIAG_BY_FAMILY
_DIAG_REQUEST = struct.Struct("=BBBxI48x")  # struct inet_diag_req_v2, its last part a socket's id
_ALL_STATES = 0xFFF
_BYTECODE, _JUMP, _DEVICE = 1, 1, 9  # INET_DIAG_REQ_BYTECODE, INET_DIAG_BC_JMP and DEV_COND
_OP = 4  # bytes of struct inet_diag_bc_op
_PORT = struct.Struct("!4xH")  # of struct inet_diag_msg: idiag_sport

_GET_FILTER = 46  # RTM_GETTFILTER
_FILTERS = struct.Struct("=BxxxiIII")  # struct tcmsg
_INGRESS = 0xFFFFFFF2  # TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS); same for a plain ingress qdisc
_MIRRED = b"mirred\0"
_MIRRED_PARMS = struct.pack("=HH", 32, 2)  # head of TCA_MIRRED_PARMS; struct tc_mirred follows
_REDIRECTS = (1, 3)  # TCA_EGRESS_REDIR, TCA_INGRESS_REDIR


def reasons(devices: Devices, index: int, netns: str) -> list[str]:
    """Return all reasons found in an interface's namespace, on its link and on the devices above it."""
    found = nat.reasons(netns)
    stack = [*filter(None, [devices.get(index)]), *above(devices, index)]
    if any(it.kind == OVS for it in stack):
        found.append("Open vSwitch")
    # A connection accepted in a VRF is bound to it, even if the listener is not (tcp_l3mdev_accept).
    found += [f"VRF {it.name}" for it in vrfs(devices, index)]
    with entered(netns):
        found += _bound_to([it for it in _uppers(devices, index) if it.kind != "vrf"])
        if _redirected(devices, index):
            found.append("tc filters on its ingress")
    return found


def bound_ports(devices: Devices, index: int, netns: str) -> frozenset[int]:
    """Return the UDP ports of sockets that are bound to devices above an interface; none if the kernel lacks udp_diag.

    Raise OSError with the kernel's errno.
    """
    uppers = [it.ifindex for it in _uppers(devices, index)]
    if not uppers:
        return frozenset()
    found = []
    with entered(netns):
        for request in _requests(socket.IPPROTO_UDP, uppers):
            try:
                found += netlink.ask(netlink.SOCK_DIAG, _DIAG_BY_FAMILY, request, dump=True)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise
    return frozenset(_PORT.unpack_from(message)[0] for message in found)


def _uppers(devices: Devices, index: int) -> list[Device]:
    """Return the devices whose sockets the data plane does not find.

    It looks sockets up for the interface itself, and sees a bond's frames on the members.
    """
    stack = [*filter(None, [devices.get(index)]), *above(devices, index)]
    return [it for it in stack if it.ifindex != index or it.kind in ("bond", "team")]


def _requests(protocol: int, indices: Iterable[int]) -> list[bytes]:
    """Return requests for the sockets of a protocol that are bound to one of these devices, one a family."""
    code = netlink.attribute(_BYTECODE, bytecode(indices))
    families = (socket.AF_INET, socket.AF_INET6)
    return [_DIAG_REQUEST.pack(family, protocol, 0, _ALL_STATES) + code for family in families]


def _bound_to(uppers: Sequence[Device]) -> list[str]:
    try:
        if uppers and _bound(*(it.ifindex for it in uppers)):
            return [f"sockets bound to {it.name}" for it in uppers if _bound(it.ifindex)]
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return ["sockets bound to devices above cannot be detected (the kernel lacks tcp_diag)"]
    return []


def _bound(*indices: int) -> bool:
    """Return whether a TCP socket of this namespace is bound to one of these devices."""
    requests = _requests(socket.IPPROTO_TCP, indices)
    return any(netlink.has_any(netlink.SOCK_DIAG, _DIAG_BY_FAMILY, it) for it in requests)


def bytecode(indices: Iterable[int]) -> bytes:
    """Encode an inet_diag filter (linux/inet_diag.h): the socket is bound to one of these devices."""
    indices = list(indices)
    code = b""
    for index in reversed(indices):
        # A match goes on to a jump to the end, which accepts; a mismatch skips that jump. After the last condition
        # it jumps past the end, which rejects. The kernel's check requires every instruction to be reachable by "yes".
        jump = struct.pack("=BBH", _JUMP, _OP, _OP + len(code)) if code else b""
        code = struct.pack("=BBHI", _DEVICE, _OP + 4, _OP + 4 + _OP, index) + jump + code
    return code


def _redirected(devices: Devices, index: int) -> bool:
    """Return whether a tc filter at the interface's ingress runs a program, translates, or redirects frames."""
    rules: list[bytes] = []
    with contextlib.suppress(OSError):  # no such qdisc, or no traffic control in the kernel
        rules = netlink.ask(
            netlink.ROUTE, _GET_FILTER, _FILTERS.pack(socket.AF_UNSPEC, index, 0, _INGRESS, 0), dump=True
        )
    return any(redirects(rule, devices) for rule in rules)


def redirects(rule: bytes, devices: Devices) -> bool:
    """Return whether an RTM_NEWTFILTER message is such a filter. Frames sent to an ifb return to where they were."""
    for name in ("bpf", "nat", "ct"):  # a classifier or an action of that kind: TCA_KIND and TCA_ACT_KIND are both 1
        if struct.pack("=HH", len(name) + 5, 1) + name.encode() + b"\0" in rule:
            return True
    at = rule.find(_MIRRED)
    while at >= 0:
        parms = rule.find(_MIRRED_PARMS, at)
        if parms < 0 or parms + 32 > len(rule):
            return False
        action, target = struct.unpack_from("=iI", rule, parms + 4 + 20)
        if action in _REDIRECTS and not (target in devices and devices[target].kind == "ifb"):
            return True
        at = rule.find(_MIRRED, parms)
    return False
