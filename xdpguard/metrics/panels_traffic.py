# SPDX-License-Identifier: GPL-2.0
"""The first screen of the dashboard: what arrives, what is dropped, floods."""

from __future__ import annotations

from xdpguard.metrics.panel import HOST, LINK, NETNS, RATE, RED_BELOW_1, RED_FROM_1, Panel, one, rate, stat

TRAFFIC: tuple[Panel, ...] = (
    stat("Packets", "Packets received on all chosen interfaces.", rate("xdpguard_packets_total", "instance"), "pps"),
    stat(
        "Dropped",
        "Packets dropped in the driver; yellow from 1,000 a second, red from 100,000.",
        rate("xdpguard_packets_total", "instance", ',action="drop"'),
        "pps",
        ((1000, "yellow"), (100_000, "red")),
    ),
    stat(
        "SYN guard active",
        "Whether the SYN guard answers SYNs with cookies, or would in mode observe.",
        f"max by (instance) (xdpguard_guard_active{{{LINK}}})",
        "bool_yes_no",
        RED_FROM_1,
    ),
    stat(
        "Bans",
        "Blocks that the SYN guard has made and that are in force: xdpguard rules.",
        f"sum by (instance) (xdpguard_bans{{{HOST}}})",
        "short",
        ((1, "yellow"),),
    ),
    stat(
        "Enforced",
        "Share of rules, filters and list entries that the kernel held at the last audit, which restores the rest.",
        f"min by (instance) (xdpguard_enforcement_ratio{{{HOST}}})",
        "percentunit",
        RED_BELOW_1,
    ),
    stat(
        "All attached",
        "No: an interface that should carry the program does not; xdpguard status says why.",
        f"min by (instance) (xdpguard_interface_attached{{{LINK}}})",
        "bool_yes_no",
        RED_BELOW_1,
    ),
    one(
        "Packets by reason",
        "Every packet has one reason: green ones pass, yellow is a SYN cookie, the others are drops.",
        rate("xdpguard_packets_total", "reason"),
        "{{reason}}",
        "pps",
        8,
        stacked=True,
    ),
    one(
        "Dropped by reason",
        "xdpguard events shows samples of them, and what decided.",
        rate("xdpguard_packets_total", "reason", ',action="drop"'),
        "{{reason}}",
        "pps",
        8,
        stacked=True,
        limits=((100_000, "red"),),
    ),
    one(
        "Bits by action",
        "Frames as received, in bits; tx: answered with a SYN cookie.",
        f"8 * {rate('xdpguard_bytes_total', 'action')}",
        "{{action}}",
        "bps",
        8,
        stacked=True,
    ),
    Panel(
        "SYNs and cookies",
        "In a spoofed flood hardly any cookie returns; each one returned valid is a real client.",
        (
            (rate("xdpguard_syns_total", "instance"), "SYNs"),
            (rate("xdpguard_cookies_sent_total", "instance"), "cookies sent"),
            (rate("xdpguard_cookies_valid_total", "instance"), "returned valid"),
            (rate("xdpguard_cookies_bad_total", "instance"), "invalid"),
        ),
        "pps",
        8,
    ),
    Panel(
        "Floods and their causes",
        "1 while a flood lasts: a full queue, the rate of SYNs, or segments of no connection.",
        (
            (f"sum by (cause) (xdpguard_guard_cause{{{LINK}}})", "{{cause}}"),
            (
                f"sum by (interface, netns) (increase(xdpguard_floods_total{{{LINK}}}{RATE}))",
                "begun on {{interface}} {{netns}}",
            ),
        ),
        width=8,
        limits=RED_FROM_1,
    ),
    Panel(
        "Mode and tcp_syncookies",
        "The SYN guard's mode; at tcp_syncookies 0 it can send no cookie: sysctl net.ipv4.tcp_syncookies=1.",
        (
            (f"xdpguard_guard_mode{{{HOST}}} == 1", "mode {{mode}}"),
            (f"xdpguard_guard_tcp_syncookies{{{NETNS}}}", "tcp_syncookies {{netns}}"),
        ),
        width=8,
    ),
    one(
        "Interfaces",
        "Packets by interface and network namespace.",
        rate("xdpguard_packets_total", "interface, netns"),
        "{{interface}} {{netns}}",
        "pps",
    ),
    Panel(
        "Observed only",
        "What would have been dropped or answered, on interfaces attached with --observe.",
        (
            (rate("xdpguard_observed_packets_total", "reason", ',action!="pass"'), "{{reason}}"),
            (rate("xdpguard_observed_bytes_total", "instance", ',action!="pass"'), "bytes"),
        ),
    ),
    one(
        "Top sources by SYNs",
        "Sources with at least 1 % of the tracked SYNs; anybody can forge one, so block none of a spoofed flood.",
        f"xdpguard_top_source_syns{{{HOST}}}",
        "{{source}}",
        kind="table",
    ),
    one(
        "Top ports by SYNs",
        "Ports with at least 1 % of the tracked SYNs.",
        f"xdpguard_top_port_syns{{{HOST}}}",
        "{{port}}",
        kind="table",
    ),
)
