# SPDX-License-Identifier: GPL-2.0
"""Floods that need no reflector: ICMP, TCP out of state, fragments, packets of bogus lengths."""

from __future__ import annotations

from xdpguard.policy.presets.preset import Preset

ICMP = (
    Preset("icmp-echo", "icmp type echo-request", "limit", "pings, IPv4", "RFC 792", "20/s", "source"),
    Preset(
        "icmpv6-echo",
        "icmpv6 type echo-request",
        "limit",
        "pings, IPv6",
        "RFC 4443, 4.1",
        "20/s",
        "source",
    ),
    Preset(
        "icmp-echo-reply",
        "icmp type echo-reply",
        "limit",
        "answers to pings that others sent in this host's name; cuts this host's own floods of pings",
        "RFC 792",
        "100/s",
    ),
    Preset(
        "icmp-unreachable",
        "icmp type destination-unreachable icmp code port-unreachable",
        "limit",
        "port unreachable, which costs firewalls most (BlackNurse); path MTU discovery is not limited",
        "RFC 1812, 4.3.2.8",
        "100/s",
    ),
    Preset(
        "icmp-deprecated",
        "icmp type { source-quench, info-request, info-reply, address-mask-request, address-mask-reply }",
        "drop",
        "types of ICMP that nobody needs any more",
        "RFC 6633, RFC 6918",
    ),
    Preset(
        "icmp-fragments",
        "ip protocol icmp fragment yes",
        "drop",
        "fragmented ICMP; cuts pings larger than the path's MTU",
        "RFC 8900, 3",
    ),
)
TCP = (
    Preset(
        "tcp-synack",
        "tcp flags & (syn | ack) == syn | ack state != established",
        "drop",
        "answers to SYNs that this host has not sent; not for a host that forwards",
        "RFC 9293, 3.10.7.3",
    ),
    Preset(
        "tcp-rst",
        "tcp flags rst state != established",
        "drop",
        "resets of connections that this host does not have; not for a host that forwards",
        "RFC 9293, 3.10.7.1",
    ),
    Preset(
        "tcp-ack",
        "tcp flags & (syn | rst | ack) == ack state != established",
        "limit",
        "segments of connections that this host does not have, and the ACK that ends a handshake by SYN cookie; "
        "not for a host that forwards",
        "RFC 9293, 3.10.7.1",
        "100/s",
        "source",
    ),
    Preset(
        "tcp-syn-data",
        "tcp flags & (syn | ack) == syn meta length > 120",
        "drop",
        "SYNs longer than the longest headers; cuts TCP Fast Open",
        "RFC 7413",
    ),
)
FRAGMENTS = (
    Preset(
        "fragments-udp",
        "meta l4proto udp fragment yes",
        "limit",
        "fragments of UDP, such as the tails of reflected answers",
        "RFC 8900, 3",
        "500/s",
    ),
    Preset(
        "fragments-tcp",
        "meta l4proto tcp fragment yes",
        "drop",
        "fragments of TCP, which makes its segments fit; cuts paths that lose ICMP and fragment",
        "RFC 8900, 3",
    ),
    Preset(
        "fragments-tiny",
        "meta nfproto ipv4 fragment first meta length < 68",
        "drop",
        "first fragments shorter than any link's MTU makes them",
        "RFC 791, 3.2",
    ),
)
STRAY = (
    Preset(
        "udp-empty",
        "ip protocol udp fragment no meta length 28",
        "limit",
        "UDP without data, IPv4; scanners and a few games send it",
        "RFC 768",
        "20/s",
    ),
    Preset(
        "udp-empty6",
        "ip6 nexthdr udp fragment no meta length 48",
        "limit",
        "UDP without data, IPv6",
        "RFC 768",
        "20/s",
    ),
    Preset("port-0", "th dport 0", "drop", "TCP and UDP to port 0, which is reserved", "RFC 6335, 6"),
    Preset("tcp-port-0", "tcp sport 0", "drop", "TCP from port 0, which is reserved", "RFC 6335, 6"),
    Preset("gre", "meta l4proto gre", "drop", "GRE; not for a host that has such a tunnel", "RFC 2784"),
)
