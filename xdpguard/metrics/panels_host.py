# SPDX-License-Identifier: GPL-2.0
"""The third screen of the dashboard: TCP on the host, the fleet, bridges, the service itself."""

from __future__ import annotations

from xdpguard.metrics.panel import HOST, LINK, NETNS, RATE, RED_BELOW_1, Limits, Panel, one, rate

_FULL: Limits = ((0.5, "yellow"), (0.9, "red"))


def _queue(title: str, about: str, name: str) -> Panel:
    """Return a panel of the usage of listeners' queues, as a fraction."""
    query = f"{name}{{{NETNS}}} / {name}_limit{{{NETNS}}}"
    return one(title, about, query, "{{address}} {{port}} {{netns}}", "percentunit", limits=_FULL)


def _quantile(share: float) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate(xdpguard_tcp_rtt_seconds_bucket{{{NETNS}}}{RATE})))"


HOSTS: tuple[Panel, ...] = (
    one(
        "Protocols",
        "Packets by transport protocol.",
        rate("xdpguard_protocol_packets_total", "protocol"),
        "{{protocol}}",
        "pps",
    ),
    one("TCP flags", "TCP segments that carry a flag.", rate("xdpguard_tcp_flags_total", "flag"), "{{flag}}", "pps"),
    one(
        "Sockets by state",
        "Many in SYN_RECV: a flood, or answers that are lost.",
        f"sum by (state) (xdpguard_tcp_sockets{{{NETNS}}})",
        "{{state}}",
    ),
    one(
        "State transitions",
        "By old and new state.",
        rate("xdpguard_tcp_transitions_total", "old, new", "", NETNS),
        "{{old}} to {{new}}",
        "ops",
    ),
    Panel(
        "Retransmitted segments",
        "xdpguard tcp retrans names the connections.",
        (
            (rate("xdpguard_tcp_retransmissions_total", "kind", "", NETNS), "{{kind}}"),
            (rate("xdpguard_tcp_synack_retransmissions_total", "port", "", NETNS), "SYN-ACKs of port {{port}}"),
        ),
        "pps",
    ),
    _queue("Accept queue", "Full: the application does not keep up.", "xdpguard_tcp_accept_queue"),
    _queue("SYN backlog", "Full: a flood, or answers that are lost.", "xdpguard_tcp_syn_backlog"),
    Panel(
        "Round-trip times",
        "Measured only with [metrics.tcp] rtt.",
        ((_quantile(0.5), "median"), (_quantile(0.95), "95 %"), (_quantile(0.99), "99 %")),
        "s",
    ),
    Panel(
        "Entries of the fleet",
        "Wanted by the fleet, held and refused here, broken, and those of this host that are not published yet; with"
        " [fleet] totals also the hosts, and their floods, bans, sources and drops.",
        (
            (f"sum by (of) (xdpguard_fleet_entries{{{HOST}}})", "{{of}}"),
            (f"xdpguard_fleet_outbox{{{HOST}}}", "to be published"),
            (f"max by (state) (xdpguard_fleet_hosts{{{HOST}}})", "hosts {{state}}"),
            (f"max(xdpguard_fleet_floods{{{HOST}}})", "floods on all hosts"),
            (f"max(xdpguard_fleet_bans{{{HOST}}})", "bans of all guards"),
            (f"max(xdpguard_fleet_sources{{{HOST}}})", "sources blocked for the fleet"),
            (
                f"max by (reason) (xdpguard_fleet_dropped_packets_per_second{{{HOST}}})",
                "{{reason}}, dropped a second on all hosts",
            ),
        ),
    ),
    Panel(
        "Connection to the fleet",
        "Without it the host goes on with what it has.",
        (
            (f"xdpguard_fleet_connected{{{HOST}}}", "connected"),
            (rate("xdpguard_fleet_gaps_total", "instance", "", HOST), "gaps a second"),
            (rate("xdpguard_fleet_snapshots_refused_total", "instance", "", HOST), "snapshots refused a second"),
        ),
        limits=RED_BELOW_1,
    ),
    Panel(
        "Since the fleet's last message",
        "Its age; a quiet fleet sends none.",
        ((f"time() - xdpguard_fleet_last_message_timestamp_seconds{{{HOST}}}", "age"),),
        "s",
    ),
    Panel(
        "Bridges",
        "Systems whose decisions are put in force here: xdpguard bridge show.",
        (
            (f"xdpguard_bridge_running{{{HOST}}}", "{{bridge}} running"),
            (f"xdpguard_bridge_connected{{{HOST}}}", "{{bridge}} connected"),
            (f"time() - xdpguard_bridge_heard_timestamp_seconds{{{HOST}}}", "{{bridge}} heard, seconds ago"),
            (f"xdpguard_bridge_entries{{{HOST}}}", "{{bridge}}, {{of}}"),
            (f"xdpguard_bridge_refused{{{HOST}}}", "{{bridge}}, refused"),
            (rate("xdpguard_bridge_failures_total", "bridge", "", HOST), "{{bridge}}, failures a second"),
            (rate("xdpguard_bridge_sent_total", "bridge", "", HOST), "{{bridge}}, sent a second"),
        ),
    ),
    Panel(
        "Tables",
        "Tracked connection attempts, and what found no room: in a spoofed flood most attempts are not tracked.",
        (
            (f"xdpguard_tracked_tuples{{{HOST}}}", "tuples"),
            (f"xdpguard_tracked_syns{{{HOST}}}", "SYNs of them"),
            (rate("xdpguard_tracking_skipped_total", "table"), "{{table}} not tracked a second"),
            (rate("xdpguard_events_lost_total", "instance"), "events lost a second"),
            (rate("xdpguard_drop_samples_total", "instance"), "samples of drops a second"),
            (rate("xdpguard_drop_samples_lost_total", "instance"), "of these lost a second"),
        ),
    ),
    Panel(
        "Times of the service",
        "The loop runs every second; from 30 s on it is stuck.",
        (
            (f"xdpguard_scrape_duration_seconds{{{HOST}}}", "gathering"),
            (f"xdpguard_loop_age_seconds{{{HOST}}}", "since the loop last ran"),
        ),
        "s",
        limits=((30, "red"),),
    ),
    Panel(
        "Health of the service",
        "1 is good; the log of the service says what is wrong.",
        (
            (f"xdpguard_config_last_reload_successful{{{HOST}}}", "configuration accepted"),
            (f"min by (collector) (xdpguard_scrape_collector_success{{{HOST}}})", "{{collector}} read"),
        ),
        width=4,
        limits=RED_BELOW_1,
    ),
    one("Version", "Of each instance.", f"xdpguard_build_info{{{HOST}}}", "", width=4, kind="table"),
    one(
        "How attached",
        "Mode and state of each interface.",
        f"xdpguard_interface_info{{{LINK}}}",
        "",
        width=4,
        kind="table",
    ),
)
