# SPDX-License-Identifier: GPL-2.0
"""Every metric there is: name, kind, labels, help. Names after Prometheus' conventions; units are base units."""

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
        """As UCUM writes it, for OTLP; empty for what is only counted."""
        stem = self.name.removesuffix("_total")
        return next(
            (unit for end, unit in (("_bytes", "By"), ("_seconds", "s"), ("_ratio", "1")) if stem.endswith(end)), ""
        )


_LINK = ("interface", "netns")
_REASON = (*_LINK, "reason", "action")
_LISTENER = ("netns", "address", "port")

_COUNTERS = (
    ("xdpguard_packets_total", _REASON, "Packets by reason; each is under one, and its action was carried out."),
    ("xdpguard_bytes_total", _REASON, "Octets of these packets, as frames."),
    ("xdpguard_observed_packets_total", _REASON, "Packets whose action was only observed: attached with --observe."),
    ("xdpguard_observed_bytes_total", _REASON, "Octets of these packets, as frames."),
    ("xdpguard_tcp_flags_total", (*_LINK, "flag"), "TCP segments that carry a flag."),
    ("xdpguard_syns_total", _LINK, "Initial SYNs: SYN without ACK."),
    ("xdpguard_protocol_packets_total", (*_LINK, "protocol"), "Packets by transport protocol."),
    (
        "xdpguard_tracking_skipped_total",
        (*_LINK, "table"),
        "Sources and tuples not tracked: over the limit of new ones.",
    ),
    ("xdpguard_events_lost_total", _LINK, "Events that the full ring of the data plane did not take."),
    ("xdpguard_drop_samples_total", _LINK, "Drops of which a sample was taken, for events and capture."),
    (
        "xdpguard_drop_samples_lost_total",
        _LINK,
        "Samples that found the ring full, as they were not read quickly enough.",
    ),
    ("xdpguard_floods_total", _LINK, "SYN floods that have begun."),
    ("xdpguard_cookies_sent_total", _LINK, "SYNs answered with a SYN cookie, or that would have been."),
    ("xdpguard_cookies_valid_total", _LINK, "ACKs that brought a valid SYN cookie back."),
    ("xdpguard_cookies_bad_total", _LINK, "ACKs to a listener without a valid cookie."),
    (
        "xdpguard_rule_hits_total",
        ("kind",),
        "Packets that rules have caught; as seen at scrapes, removed rules included.",
    ),
    ("xdpguard_rule_hit_bytes_total", ("kind",), "Octets of these packets, as frames."),
    ("xdpguard_list_hits_total", ("list",), "Packets that a named list has caught."),
    ("xdpguard_list_hit_bytes_total", ("list",), "Octets of these packets, as frames."),
    (
        "xdpguard_shadow_packets_total",
        ("class",),
        "Packets that shadow rules and lists would have caught, by whose they are: established, allowed, other.",
    ),
    ("xdpguard_shadow_bytes_total", ("class",), "Octets of these packets, as frames."),
    (
        "xdpguard_tcp_transitions_total",
        ("netns", "old", "new"),
        "Changes of state of TCP sockets, since the first scrape.",
    ),
    (
        "xdpguard_tcp_retransmissions_total",
        ("netns", "kind"),
        "TCP segments sent again, SYN-ACKs among them, since the first scrape.",
    ),
    (
        "xdpguard_tcp_synack_retransmissions_total",
        ("netns", "port"),
        "SYN-ACKs sent again, since the first scrape, of the ports with most of them.",
    ),
)
_GAUGES = (
    (
        "xdpguard_build_info",
        ("version", "abi", "name"),
        "1, with the version, its maps' layout, and the instance's name.",
    ),
    ("xdpguard_start_time_seconds", (), "When the service started, Unix time."),
    ("xdpguard_loop_age_seconds", (), "Time since the service's loop last went round; it does so every second."),
    ("xdpguard_config_last_reload_successful", (), "1 when the configuration last read was taken."),
    ("xdpguard_config_last_reload_success_timestamp_seconds", (), "When a configuration was last taken, Unix time."),
    ("xdpguard_interface_attached", _LINK, "1 when an interface that should carry the program does."),
    ("xdpguard_interface_info", (*_LINK, "mode", "observe", "state"), "1, with how an interface carries the program."),
    ("xdpguard_guard_mode", ("mode",), "1 for the SYN guard's mode, 0 for the others."),
    ("xdpguard_guard_active", _LINK, "1 while the SYN guard acts on packets."),
    (
        "xdpguard_guard_muted",
        _LINK,
        "1 while the SYN guard answers no SYN on an interface because its answers would not arrive.",
    ),
    ("xdpguard_guard_cause", (*_LINK, "cause"), "1 for what began the flood that lasts, 0 else."),
    ("xdpguard_guard_tcp_syncookies", ("netns",), "net.ipv4.tcp_syncookies: with 0 no cookie can be sent."),
    ("xdpguard_bans", (), "Bans of the SYN guard in force."),
    ("xdpguard_rules", ("kind",), "Rules in force."),
    ("xdpguard_shadow_entries", ("of",), "Shadow rules, and entries of shadow lists, that count."),
    ("xdpguard_list_entries", ("list",), "Entries of a named list."),
    ("xdpguard_list_loaded_timestamp_seconds", ("list",), "When a named list was last loaded, Unix time."),
    (
        "xdpguard_enforcement_ratio",
        (),
        "Stored rules and entries that the kernel held at the last audit; it puts back what is missing.",
    ),
    ("xdpguard_enforcement_stored", ("of",), "Rules, or entries of lists, in the store at the last audit."),
    ("xdpguard_enforcement_held", ("of",), "How many of these the kernel held."),
    ("xdpguard_enforcement_audit_timestamp_seconds", (), "When that audit was, Unix time; there is one a minute."),
    ("xdpguard_tracked_tuples", (), "Connection attempts in the table of tuples."),
    ("xdpguard_tracked_syns", (), "Initial SYNs of these."),
    (
        "xdpguard_top_source_syns",
        ("source",),
        "Initial SYNs in the table of tuples by source: those with a hundredth of them.",
    ),
    ("xdpguard_top_port_syns", ("port",), "Initial SYNs in the table of tuples by destination port: likewise."),
    ("xdpguard_tcp_sockets", ("netns", "state"), "TCP sockets by state."),
    (
        "xdpguard_tcp_accept_queue",
        _LISTENER,
        "Connections not accepted yet, of the fullest socket of a listener: those whose queues are fullest.",
    ),
    ("xdpguard_tcp_accept_queue_limit", _LISTENER, "How many may wait; more are dropped."),
    ("xdpguard_tcp_syn_backlog", _LISTENER, "Half-open connections of these listeners."),
    ("xdpguard_tcp_syn_backlog_limit", _LISTENER, "How many may be half-open; from there on cookies, or drops."),
    ("xdpguard_scrape_collector_success", ("collector",), "1 when a part of these figures could be read."),
    ("xdpguard_scrape_duration_seconds", (), "How long it took to gather these figures."),
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
