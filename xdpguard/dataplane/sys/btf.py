# SPDX-License-Identifier: GPL-2.0
"""Where the kernel keeps what our programs read of its structs, told by the kernel's own type information (BTF).

Read with libbpf, which bcc brings along. Without it, or on a kernel without BTF, the SYN guard does with less: cookies
then carry the MSS only, and a full listener queue is not seen; the programs of bpf/tcp/ cannot do without.
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple

_STRUCT = 4  # BTF_KIND_STRUCT, include/uapi/linux/btf.h
_THROUGH = {8, 9, 10, 11, 18}  # typedef, volatile, const, restrict, type tag: look at the type behind
_DEVICE_ALIGN = 32  # NETDEV_ALIGN
_HEADER = 12  # octets of struct btf_type, and of struct btf_member

# Switch of bpf/config.h -> struct and member.
_FIELDS = {
    "SOCK_RCVBUF": ("sock", "sk_rcvbuf"),
    "SOCK_USERLOCKS": ("sock", "sk_userlocks"),
    "SOCK_MAX_BACKLOG": ("sock", "sk_max_ack_backlog"),
    "SOCK_NET": ("sock", "__sk_common.skc_net.net"),
    "SOCK_QUEUE_LENGTH": ("inet_connection_sock", "icsk_accept_queue.qlen"),
    "TCP_WINDOW_CLAMP": ("tcp_sock", "window_clamp"),
    "TCP_USER_MSS": ("tcp_sock", "rx_opt.user_mss"),
    "REQUEST_ISN": ("tcp_request_sock", "snt_isn"),
    "NET_TIMESTAMPS": ("net", "ipv4.sysctl_tcp_timestamps"),
    "NET_SACK": ("net", "ipv4.sysctl_tcp_sack"),
    "NET_WINDOW_SCALING": ("net", "ipv4.sysctl_tcp_window_scaling"),
    "NET_RMEM": ("net", "ipv4.sysctl_tcp_rmem"),
}
# Likewise, of the look at a veth's peer, which a kernel that does not tell goes without.
_VETH_FIELDS = {
    "BUFF_RXQ": ("xdp_buff", "rxq"),
    "RXQ_DEV": ("xdp_rxq_info", "dev"),
    "DEV_PROGRAMS": ("net_device", "xdp_state"),
    "DEV_PRIVATE": ("net_device", "priv"),
}
# Likewise, of bpf/tcp/handshakes.c.
_TRACE_FIELDS = {"SOCK_NET": ("sock", "__sk_common.skc_net.net"), "NET_NUMBER": ("net", "ns.inum")}
# Likewise, of the other programs of bpf/tcp/.
_TCP_FIELDS = {
    **_TRACE_FIELDS,
    "SOCK_FAMILY": ("sock", "__sk_common.skc_family"),
    "SOCK_PROTOCOL": ("sock", "sk_protocol"),
    "SOCK_LOCAL4": ("inet_sock", "inet_saddr"),
    "SOCK_REMOTE4": ("sock", "__sk_common.skc_daddr"),
    "SOCK_LOCAL6": ("sock", "__sk_common.skc_v6_rcv_saddr"),
    "SOCK_REMOTE6": ("sock", "__sk_common.skc_v6_daddr"),
    "SOCK_LOCAL_PORT": ("inet_sock", "inet_sport"),
    "SOCK_REMOTE_PORT": ("sock", "__sk_common.skc_dport"),
    "SOCK_COOKIE": ("sock", "__sk_common.skc_cookie"),
    "SOCK_ERR": ("sock", "sk_err"),
    "SOCK_FLAGS": ("sock", "__sk_common.skc_flags"),
    "SOCK_SOCKET": ("sock", "sk_socket"),
    "ALLOC_SOCKET": ("socket_alloc", "socket"),
    "ALLOC_INODE": ("socket_alloc", "vfs_inode.i_ino"),
    "TASK_FLAGS": ("task_struct", "flags"),
    "SKB_CB": ("sk_buff", "cb"),
    "CB_SEQ": ("tcp_skb_cb", "seq"),
    "CB_FLAGS": ("tcp_skb_cb", "tcp_flags"),
    "CB_SEGMENTS": ("tcp_skb_cb", "tcp_gso_segs"),
    "CONN_CA_STATE": ("inet_connection_sock", "icsk_ca_state"),
    "CONN_PENDING": ("inet_connection_sock", "icsk_pending"),
    "TCP_SEGMENTS_OUT": ("tcp_sock", "segs_out"),
}
# Bit fields, whose place within their octet is told as well, with _SHIFT behind the switch's name.
_BIT_FIELDS = {"SOCK_USERLOCKS", "CONN_CA_STATE"}


class _Place(NamedTuple):
    octets: int
    bits: int


def switches() -> dict[str, int]:
    """Return the switches of the main programs without their prefix; empty where the kernel does not tell."""
    return _read(_FIELDS, _VETH_FIELDS)


def trace_switches() -> dict[str, int]:
    """Return the switches of bpf/tcp/handshakes.c, likewise."""
    return _read(_TRACE_FIELDS)


def tcp_switches() -> dict[str, int]:
    """Return the switches of the other programs of bpf/tcp/, likewise."""
    return _read(_TCP_FIELDS)


def _read(fields: dict[str, tuple[str, str]], *more: dict[str, tuple[str, str]]) -> dict[str, int]:
    """Return each group as a whole or not at all, and none without the first."""
    library = _libbpf()
    types = library.btf__load_vmlinux_btf() if library else None
    if not library or not types:
        return {}
    try:
        found = _group(library, types, fields)
        for group in more if found else ():
            found |= _group(library, types, group)
        return found
    finally:
        library.btf__free(types)


def _group(library: ctypes.CDLL, types: int, fields: dict[str, tuple[str, str]]) -> dict[str, int]:
    found = {}
    try:
        for name, (structure, path) in fields.items():
            place = _place(library, types, structure, path)
            found[name] = place.octets
            if name in _BIT_FIELDS:
                found[f"{name}_SHIFT"] = place.bits
    except LookupError:
        return {}
    return found


def _libbpf() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libbpf.so.1")
        library.btf__load_vmlinux_btf.restype = ctypes.c_void_p
        library.btf__find_by_name_kind.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32]
        library.btf__type_by_id.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
        library.btf__type_by_id.restype = ctypes.c_void_p
        library.btf__name_by_offset.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
        library.btf__name_by_offset.restype = ctypes.c_char_p
        library.btf__free.argtypes = [ctypes.c_void_p]
        library.libbpf_set_print(None)
    except (OSError, AttributeError):
        return None
    return library


def _place(library: ctypes.CDLL, types: int, structure: str, path: str) -> _Place:
    number = library.btf__find_by_name_kind(types, structure.encode(), _STRUCT)
    if number <= 0:
        raise LookupError(structure)
    try:
        bits = _member(library, types, number, path.split("."))
    except LookupError:
        if (structure, path) != ("net_device", "priv"):
            raise
        # Before that member there was nothing but the rule: netdev_priv(), include/linux/netdevice.h.
        size = _words(library, types, number)[1][2]
        return _Place(-(-size // _DEVICE_ALIGN) * _DEVICE_ALIGN, 0)
    return _Place(bits // 8, bits % 8)


def _member(library: ctypes.CDLL, types: int, number: int, path: list[str]) -> int:
    """Return the member's offset in bits; look into unnamed structs and unions. LookupError when there is none."""
    at, (_, info, behind) = _words(library, types, number)
    while info >> 24 & 0x1F in _THROUGH:
        at, (_, info, behind) = _words(library, types, behind)
    sized = info >> 31  # member offsets hold a bit field's size in their upper octet
    for place in range(info & 0xFFFF):
        name, kind, offset = (ctypes.c_uint32 * 3).from_address(at + _HEADER * (place + 1))
        text = library.btf__name_by_offset(types, name).decode()
        start = offset & 0xFFFFFF if sized else offset
        if text == path[0]:
            return start if len(path) == 1 else start + _member(library, types, kind, path[1:])
        if not text:
            try:
                return int(start + _member(library, types, kind, path))
            except LookupError:
                continue
    raise LookupError(".".join(path))


def _words(library: ctypes.CDLL, types: int, number: int) -> tuple[int, tuple[int, int, int]]:
    at = library.btf__type_by_id(types, number)
    if not at:
        raise LookupError(str(number))
    name, info, behind = (ctypes.c_uint32 * 3).from_address(at)
    return at, (name, info, behind)
