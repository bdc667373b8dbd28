# SPDX-License-Identifier: GPL-2.0
"""Every metric: name, kind, labels, help. Names follow Prometheus' conventions; units are base units."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]


class Family(NamedTuple):
    """A metric. A counter's name ends in _total."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str

    @property
    def unit(self) -> str:
        """The unit in UCUM notation, for OTLP; empty for plain counts."""
        stem = self.name.removesuffix("_total")
        return next(
            (unit for end, unit in (("_bytes", "By"), ("_seconds", "s"), ("_ratio", "1")) if stem.endswith(end)), ""
        )


_LINK = ("interface", "netns")
_REASON = (*_LINK, "reason", "action")
_LISTENER = ("netns", "address", "port")
_FILTER = ("filter", "action", "mode")

_COUNTERS = (
    ("xdpguard_packets_total", _REASON, "Packets by reason; each has exactly one, whose action was carried out."),
    ("xdpguard_bytes_total", _REASON, "Bytes of these packets, as frames."),
    ("xdpguard_observed_packets_total", _REASON, "Packets whose action was only observed: attached with --observe."),
    ("xdpguard_observed_bytes_total", _REASON, "Bytes of these packets, as frames."),
    ("xdpguard_tcp_flags_total", (*_LINK, "flag"), "TCP segments that carry a flag."),
    ("xdpguard_syns_total", _LINK, "Initial SYNs: SYN without ACK."),
    ("xdpguard_protocol_packets_total", (*_LINK, "protocol"), "Packets by transport protocol."),
    (
        "xdpguard_tracking_skipped_total",
        (*_LINK, "table"),
        "Sources and tuples not tracked because there were too many new ones.",
    ),
    ("xdpguard_events_lost_total", _LINK, "Events lost because the data plane's ring was full."),
    ("xdpguard_drop_samples_total", _LINK, "Drops sampled for events and capture."),
    (
        "xdpguard_drop_samples_lost_total",
        _LINK,
        "Samples lost because they were not read quickly enough and the ring was full.",
    ),
    ("xdpguard_floods_total", _LINK, "SYN floods detected."),
    ("xdpguard_cookies_sent_total", _LINK, "SYNs answered with a SYN cookie, or that would have been answered."),
    ("xdpguard_cookies_valid_total", _LINK, "ACKs that returned a valid SYN cookie."),
    ("xdpguard_cookies_bad_total", _LINK, "ACKs to a listener without a valid cookie."),
    (
        "xdpguard_rule_hits_total",
        ("kind",),
        "Packets matched by rules, including removed rules; as read at scrapes.",
    ),
    ("xdpguard_rule_hit_bytes_total", ("kind",), "Bytes of these packets, as frames."),
    ("xdpguard_list_hits_total", ("list",), "Packets matched by a named list."),
    ("xdpguard_list_hit_bytes_total", ("list",), "Bytes of these packets, as frames."),
    ("xdpguard_filter_hits_total", _FILTER, "Packets matched by a filter, dropped or not; in shadow as well."),
    ("xdpguard_filter_hit_bytes_total", _FILTER, "Bytes of these packets, as frames."),
    (
        "xdpguard_filter_limited_packets_total",
        _FILTER,
        "Packets of these above the filter's limit: dropped, or in shadow only counted.",
    ),
    ("xdpguard_filter_limited_bytes_total", _FILTER, "Bytes of these packets, as frames."),
    ("xdpguard_fleet_gaps_total", (), "Messages of the fleet that were missed, so that the server was asked again."),
    (
        "xdpguard_fleet_snapshots_refused_total",
        (),
        "Snapshots of the fleet's entries that could not be used, so that all were read one by one.",
    ),
    (
        "xdpguard_shadow_packets_total",
        ("class",),
        "Packets that shadow rules and lists would have matched, by class: established, allowed, other.",
    ),
    ("xdpguard_shadow_bytes_total", ("class",), "Bytes of these packets, as frames."),
    ("xdpguard_bridge_failures_total", ("bridge",), "Attempts to reach the other system that failed, since its start."),
    ("xdpguard_bridge_sent_total", ("bridge",), "Bans and filters sent to the other system, since the bridge's start."),
    (
        "xdpguard_tcp_transitions_total",
        ("netns", "old", "new"),
        "State transitions of TCP sockets, since the first scrape.",
    ),
    (
        "xdpguard_tcp_retransmissions_total",
        ("netns", "kind"),
        "Retransmitted TCP segments, including SYN-ACKs, since the first scrape.",
    ),
    (
        "xdpguard_tcp_synack_retransmissions_total",
        ("netns", "port"),
        "Retransmitted SYN-ACKs, since the first scrape, of the ports with most of them.",
    ),
)
_GAUGES = (
    (
        "xdpguard_build_info",
        ("version", "abi", "name"),
        "1, with the version, the layout version of its maps, and the instance's name.",
    ),
    ("xdpguard_start_time_seconds", (), "When the service started, Unix time."),
    ("xdpguard_loop_age_seconds", (), "Time since the service's loop last ran; it runs every second."),
    ("xdpguard_config_last_reload_successful", (), "1 if the configuration last read was accepted."),
    ("xdpguard_config_last_reload_success_timestamp_seconds", (), "When a configuration was last accepted, Unix time."),
    ("xdpguard_interface_attached", _LINK, "1 if an interface that should carry the program does."),
    ("xdpguard_interface_info", (*_LINK, "mode", "observe", "state"), "1, with the mode and state of an interface."),
    ("xdpguard_guard_mode", ("mode",), "1 for the SYN guard's mode, 0 for the others."),
    ("xdpguard_guard_active", _LINK, "1 while the SYN guard acts on packets."),
    (
        "xdpguard_guard_muted",
        _LINK,
        "1 while the SYN guard leaves SYNs on an interface unanswered because its answers would not arrive.",
    ),
    ("xdpguard_guard_cause", (*_LINK, "cause"), "1 for the cause of the current flood, 0 for the others."),
    ("xdpguard_guard_tcp_syncookies", ("netns",), "net.ipv4.tcp_syncookies: at 0 no cookie can be sent."),
    ("xdpguard_bans", (), "The SYN guard's bans in force."),
    ("xdpguard_rules", ("kind",), "Rules in force."),
    ("xdpguard_filters", ("mode",), "Filters in force, by mode: enforce, shadow."),
    ("xdpguard_shadow_entries", ("of",), "Shadow rules, and entries of shadow lists, in force."),
    ("xdpguard_list_entries", ("list",), "Entries of a named list."),
    ("xdpguard_list_loaded_timestamp_seconds", ("list",), "When a named list was last loaded, Unix time."),
    (
        "xdpguard_enforcement_ratio",
        (),
        "Fraction of stored rules, filters and entries that the kernel held at the last audit, which repairs it.",
    ),
    ("xdpguard_enforcement_stored", ("of",), "Rules, filters, or list entries, in the store at the last audit."),
    ("xdpguard_enforcement_held", ("of",), "How many of them the kernel held."),
    ("xdpguard_enforcement_audit_timestamp_seconds", (), "Time of that audit, Unix time; there is one a minute."),
    ("xdpguard_bridge_running", ("bridge",), "1 from when a bridge to another system is started until it is stopped."),
    (
        "xdpguard_bridge_connected",
        ("bridge",),
        "1 while a bridge runs and the other system answered it last; it says so within a minute.",
    ),
    (
        "xdpguard_bridge_heard_timestamp_seconds",
        ("bridge",),
        "When the other system last answered, Unix time; written each minute while nothing changes.",
    ),
    ("xdpguard_bridge_entries", ("bridge", "of"), "Rules and filters of a bridge, in force or counting."),
    ("xdpguard_bridge_refused", ("bridge",), "What the other system wants of this host, and it refuses."),
    ("xdpguard_fleet_connected", (), "1 while this host is connected to its fleet's server."),
    (
        "xdpguard_fleet_entries",
        ("of",),
        "Entries of the fleet: wanted by it, held here, refused here, and broken, that is with a value that is none.",
    ),
    ("xdpguard_fleet_outbox", (), "Entries of this host that are still to be published."),
    (
        "xdpguard_fleet_hosts",
        ("state",),
        "Hosts of the fleet, with [fleet] totals: heard or silent; of those, flooded.",
    ),
    ("xdpguard_fleet_floods", (), "Interfaces with a SYN flood on all hosts, with [fleet] totals."),
    ("xdpguard_fleet_bans", (), "Sources banned by the guards of all hosts, one for each guard, with [fleet] totals."),
    ("xdpguard_fleet_sources", (), "Sources that any host blocks for the fleet, with [fleet] totals."),
    ("xdpguard_fleet_dropped_packets_per_second", ("reason",), "Drops on all hosts, with [fleet] totals."),
    ("xdpguard_fleet_last_message_timestamp_seconds", (), "When the fleet's last message came, Unix time."),
    ("xdpguard_tracked_tuples", (), "Connection attempts in the table of tuples."),
    ("xdpguard_tracked_syns", (), "Initial SYNs in the table of tuples."),
    (
        "xdpguard_top_source_syns",
        ("source",),
        "Initial SYNs in the table of tuples by source, for sources with at least 1% of them.",
    ),
    (
        "xdpguard_top_port_syns",
        ("port",),
        "Initial SYNs in the table of tuples by destination port, for ports with at least 1% of them.",
    ),
    ("xdpguard_tcp_sockets", ("netns", "state"), "TCP sockets by state."),
    (
        "xdpguard_tcp_accept_queue",
        _LISTENER,
        "Connections not accepted yet on a listener's fullest socket, for the listeners with the fullest queues.",
    ),
    ("xdpguard_tcp_accept_queue_limit", _LISTENER, "Limit of the accept queue; further connections are dropped."),
    ("xdpguard_tcp_syn_backlog", _LISTENER, "Half-open connections of these listeners."),
    (
        "xdpguard_tcp_syn_backlog_limit",
        _LISTENER,
        "Limit of half-open connections; beyond it SYNs get cookies, or are dropped.",
    ),
    ("xdpguard_scrape_collector_success", ("collector",), "1 if a part of these metrics could be read."),
    ("xdpguard_scrape_duration_seconds", (), "How long it took to collect these metrics."),
)

_HISTOGRAMS = (
    (
        "xdpguard_tcp_rtt_seconds",
        ("netns",),
        "Smoothed round-trip time at each TCP segment received, since the first scrape.",
    ),
)

FAMILIES: dict[str, Family] = {
    **{name: Family(name, "counter", labels, text) for name, labels, text in _COUNTERS},
    **{name: Family(name, "gauge", labels, text) for name, labels, text in _GAUGES},
    **{name: Family(name, "histogram", labels, text) for name, labels, text in _HISTOGRAMS},
}
