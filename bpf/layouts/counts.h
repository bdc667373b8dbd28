/* SPDX-License-Identifier: GPL-2.0 */
/* What the program counts, and what its parts hand to each other. Python: xdpguard/dataplane/sys/layouts/counts.py. */
#ifndef XG_LAYOUTS_COUNTS_H
#define XG_LAYOUTS_COUNTS_H

#include <linux/types.h>

#include "filters.h"

#define XG_REASON_SLOTS 32 /* room for reasons to come, so that a new one keeps the layout */
#define XG_PROTOCOLS 5     /* tcp, udp, icmp, icmpv6, other */
#define XG_DENIALS 64      /* a power of two */

/*
 * The CPU is part of a source's key: each CPU counts in entries of its own, so that plain additions are exact and
 * no cache line moves between cores. Readers add the CPUs up.
 */
struct xg_source4 {
	__be32 address;
	u32 cpu;
};

struct xg_source6 {
	__be32 address[4];
	u32 cpu;
};

struct xg_source_counts {
	u64 packets;
	u64 flags[8];     /* FIN SYN RST PSH ACK URG ECE CWR: bit order of the header */
	u64 ports;        /* destination ports tried since then, a bit for each 64th of them */
	u64 ports_since;  /* coarse monotonic, ns */
	u64 ports_number; /* how many bits are set */
	u64 clean;        /* the generation of the deny entries that had nothing on this source */
};

/*
 * Initial SYNs of a tuple. The key is a hash of the tuple, which costs half of what looking up the tuple itself does;
 * the tuple stands here and is compared. The CPU that made the entry adds plainly, any other one (rare, as a flow stays
 * on its queue) atomically elsewhere.
 */
struct xg_tuple4 {
	__be32 source;
	__be32 destination;
	__be16 source_port;
	__be16 destination_port;
	u32 cpu;
	u64 syns;
	u64 syns_elsewhere;
};

struct xg_tuple6 {
	u64 source[2]; /* bytes in network byte order */
	u64 destination[2];
	__be16 source_port;
	__be16 destination_port;
	u32 cpu;
	u64 syns;
	u64 syns_elsewhere;
};

struct xg_reason_counts {
	u64 packets; /* the verdict was carried out */
	u64 bytes;
	u64 observed_packets; /* it would have been, without --observe */
	u64 observed_bytes;
	/* Samples of them, when they are drops: see drops.h. */
	u64 due;     /* tick at which the next sample may be taken */
	u64 window;  /* the running one, and in the last byte the session it is for */
	u64 samples; /* that were taken */
	u32 left;    /* that may be taken in this window */
	u32 lost;    /* that found the ring full */
};

/* New LRU entries made in the running second. */
struct xg_budget {
	u64 since; /* coarse monotonic, ns */
	u32 sources;
	u32 tuples;
};

/* What a CPU has seen of a flood and not yet added to struct xg_guard. */
struct xg_flood_counts {
	u32 syns;
	u32 unmatched;
	u32 proved;
	/* How many SYNs, and other segments, pass until the next one that an idle guard looks at. */
	u32 syns_left;
	u32 segments_left;
	u32 zero;
};

/* A source that was denied recently, and the hit counter of the entry that denied it. */
struct xg_denial {
	u64 high; /* the address as two numbers; of IPv4 the upper one is 0 */
	u64 low;
	u64 generation; /* of the deny entries; another one: it is no longer true */
	u64 expires;    /* as in struct xg_rule */
	u32 slot;       /* of a rule, or number of a list */
	u16 listed;
	u16 version; /* IP */
};

enum xg_sample_wanted {
	XG_SAMPLE_NONE,
	XG_SAMPLE_DROPPED,
	XG_SAMPLE_OBSERVED, /* it passed, as what decided only observes */
};

/* What the inspecting program passes to the one that runs after the verdict: see after.h. */
struct xg_after {
	u32 reason;
	u32 verdict;
	u32 length; /* of the frame, which may be another one by then */
	u32 sample; /* enum xg_sample_wanted */
	u32 observed;
	u32 zero;
};

/*
 * What the guard and shadow entries are told about a packet; they read the rest again. Volatile, so that it is written
 * to and read from the map value, of which the verifier remembers nothing.
 */
struct xg_handover {
	volatile u8 sampled; /* one of those by which an idle guard watches */
	volatile u8 ip_version;
	volatile u8 suspect;
	volatile u8 segment; /* of TCP, with ports; what shadow.h wants to know */
	volatile u16 network_at;
	volatile u16 transport_at;
};

/* One interface's counters on one CPU. */
struct xg_counters {
	struct xg_reason_counts reasons[XG_REASON_SLOTS];
	u64 flag_sets[256]; /* TCP segments by their whole flag byte: one addition a packet, all flags exact */
	u64 protocols[XG_PROTOCOLS];
	u64 sources_skipped; /* sources and tuples the budget did not let in */
	u64 tuples_skipped;
	u64 cookies_valid; /* ACKs that carried one */
	u64 events_lost;   /* the ring was full */
	u32 denied_entry;  /* enum xg_probe_entry that denied the last packet, and its number there */
	u32 denied_number;
	struct xg_budget budget;
	struct xg_flood_counts flood;
	struct xg_denial denials[XG_DENIALS];
	struct xg_after after;
	struct xg_handover handover;
	struct xg_filtering filtering;
};

#endif
