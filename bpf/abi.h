/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The structs shared with Python, which declares them in xdpguard/dataplane/sys/layouts/. Each program is compiled with
 * assertions of every size and offset (xdpguard/dataplane/build/assertions.py), so that a difference does not compile.
 * A change of any of them is a change of the ABI number (abi.py).
 */
#ifndef XG_ABI_H
#define XG_ABI_H

#include <linux/types.h>

#define XG_REASON_SLOTS 32    /* room for reasons to come, so that a new one keeps the layout */
#define XG_PROTOCOLS 5        /* tcp, udp, icmp, icmpv6, other */
#define XG_PORT_WORDS 1024    /* one bit a port, in 64-bit words */
#define XG_SECRETS 5          /* words of an IPv6 tuple */
#define XG_NETS4_WORDS 262144 /* one bit a /24, in 64-bit words */
#define XG_NETS6_LINES 65536  /* of the lists' pre-filter for IPv6 */
#define XG_RULE_NETS6_LINES 4096
#define XG_DENIALS 64     /* a power of two */
#define XG_LISTS 1024     /* named lists there may be */
#define XG_DROP_FRAME 128 /* octets: Ethernet, two VLAN tags, IPv6 and a TCP header with all its options fit */
#define XG_KEPT 8         /* last samples of a reason and a CPU; a power of two */
#define XG_SHADOW_RULES 8192
#define XG_PROBE_BATCH 16384 /* answers */

/* What an allow, block or port entry holds. Written by the controller only. */
struct xg_rule {
	u64 expires;       /* CLOCK_BOOTTIME, ns; 0: never */
	u32 slot;          /* index of the entry's hit counters */
	u32 prefix_length; /* bits; 0 for a port entry. With XG_RULE_NEEDED: see there */
};

/*
 * Of an allow entry that the controller made because the host needs the source although something denies it: deny lists
 * and closed ports do not apply to it, but all else does, as anybody can write that source into a packet.
 */
#define XG_RULE_NEEDED (1u << 31)

struct xg_hits {
	u64 packets;
	u64 bytes;
};

/* Whose packets a shadow entry would hit. */
enum xg_shadow_class {
	XG_SHADOW_ESTABLISHED, /* of a TCP socket of this host that is past listening */
	XG_SHADOW_ALLOWED,     /* the allow list would save them */
	XG_SHADOW_OTHER,
	XG_SHADOW_CLASSES,
};

struct xg_shadow_hits {
	struct xg_hits of[XG_SHADOW_CLASSES];
};

/* Eight octets, because the kernel compares keys eight at a time, and one by one what is left. */
struct xg_address4 {
	__be32 address;
	u32 zero;
};

struct xg_address6 {
	__be32 word[4];
};

struct xg_prefix4 {
	u32 length; /* bits; first, as LPM tries want it */
	__be32 address;
};

struct xg_prefix6 {
	u32 length;
	__be32 address[4];
};

struct xg_port {
	u16 port; /* host byte order */
	u16 protocol;
};

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
	u64 source[2]; /* octets in network byte order */
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
	u64 window;  /* the running one, and in the last octet the session it is for */
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
struct xg_signs {
	u32 syns;
	u32 strangers;
	u32 proved;
	/* How many SYNs, and other segments, pass until the next one that an idle guard looks at. */
	u32 syns_left;
	u32 segments_left;
	u32 zero;
};

/* A source that was denied of late, and the hit counter of the entry that did it. */
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

/* What the program tells the one that does the rest behind the verdict: see after.h. */
struct xg_after {
	u32 reason;
	u32 verdict;
	u32 length; /* of the frame, which may be another one by then */
	u32 sample; /* enum xg_sample_wanted */
	u32 observed;
	u32 zero;
};

/*
 * What the guard and shadow entries are told of a packet; the rest they read again. Volatile, so that it is written to
 * and read from the map's value, of which the verifier remembers nothing.
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
	u64 flag_sets[256]; /* TCP segments by their whole flag octet: one addition a packet, all flags exact */
	u64 protocols[XG_PROTOCOLS];
	u64 sources_skipped; /* sources and tuples the budget did not let in */
	u64 tuples_skipped;
	u64 cookies_valid; /* ACKs that carried one */
	u64 events_lost;   /* the ring was full */
	u32 denied_entry;  /* enum xg_probe_entry that denied the last packet, and its number there */
	u32 denied_number;
	struct xg_budget budget;
	struct xg_signs signs;
	struct xg_denial denials[XG_DENIALS];
	struct xg_after after;
	struct xg_handover handover;
};

enum xg_guard_mode {
	XG_GUARD_OFF,
	XG_GUARD_OBSERVE, /* decides and counts, and lets everything pass */
	XG_GUARD_AUTO,
	XG_GUARD_ALWAYS,
};

/* A packet each `interval` ns, or as much as `burst` ns before its time. Interval 0: no limit. */
struct xg_rate {
	u64 interval;
	u64 burst;
};

/* The SYN guard's policy. Written by the controller only. */
struct xg_guard_policy {
	u32 mode;
	u32 options;                /* 1: answers may carry window scale, SACK and timestamps */
	u32 rmem_max;               /* net.core.rmem_max, octets */
	u32 scan;                   /* 1: sources that try many ports are asked for a proof */
	u64 window;                 /* ns */
	u64 flood;                  /* SYNs, or segments of no connection, in a window: a flood begins */
	u64 unproved;               /* SYNs in a window without a completed handshake: it goes on */
	u64 hold;                   /* ns it takes after the last sign of a flood */
	struct xg_rate syns;        /* of a source prefix, to the kernel */
	struct xg_rate answers;     /* of a source prefix, SYN cookies sent */
	struct xg_rate connections; /* of a source prefix, set up by cookie */
	struct xg_rate resets;      /* SYNs let through to ports nobody listens on */
	struct xg_rate unknown;     /* SYNs let through whose owner is not seen here: see guard.pass_unknown */
	struct xg_rate signed_syns; /* SYNs let through that a plain answer would not serve: TCP-MD5, TCP-AO, MP_JOIN */
	u64 mask6[2];               /* of a source prefix; network byte order, as in the packet */
	__be32 mask4;
	u32 zero;
	u64 exempt_ports[XG_PORT_WORDS]; /* one bit a TCP port that the guard leaves alone */
};

/* Why the guard of an interface answers no SYN, though a flood is on. */
enum xg_mute {
	XG_MUTE_NOT,   /* it does answer */
	XG_MUTE_TOLD,  /* the controller has found that answers do not arrive */
	XG_MUTE_FOUND, /* the program has: see stages/peer.h */
};

/* What an address of the maps `locals4` and `locals6` is. */
enum xg_local {
	XG_LOCAL_UNICAST = 1,
	XG_LOCAL_BROADCAST,
};

enum xg_flood_cause {
	XG_CAUSE_NONE,
	XG_CAUSE_QUEUE,     /* a listener's queue is full */
	XG_CAUSE_SYNS,      /* SYN rate */
	XG_CAUSE_STRANGERS, /* rate of segments that belong to no connection */
};

/* The SYN guard's state on one interface. */
struct xg_guard {
	/* Read for every TCP segment, written when a flood begins and ends. */
	u64 until;        /* coarse monotonic, ns; 0: idle; all ones: always active */
	u64 mac;          /* the interface's, octets in network byte order, then two zeroes; 0: every frame is ours */
	u64 pass_unknown; /* 1: addresses are translated here, so a segment without a socket may belong to somebody */
	u64 began;        /* when the last flood did, coarse monotonic, ns */
	u64 floods;       /* how many there were */
	u32 cause;        /* enum xg_flood_cause, of the last one */
	u32 port;         /* destination of the packet that showed it; host byte order */
	u64 scans;        /* token bucket of the events of scans */
	u64 link;         /* a number that tells this interface from others of the instance; 0: not known yet */
	/* Written while packets come. */
	u64 window_began;
	u64 syns;
	u64 strangers;
	u64 proved;
	u64 calm;        /* SYNs in a window that have turned out to be honest */
	u64 resets;      /* token bucket of policy.resets */
	u64 unknown;     /* likewise */
	u64 signed_syns; /* likewise */
	/* What the controller knows of the link. */
	u32 mute;      /* enum xg_mute */
	u32 more_macs; /* 1: the map `macs` holds further addresses that are ours */
	u32 locals;    /* another number with each change of the maps `locals*`; 0: every address is local */
	u32 zero;
	u64 peer_at; /* when the program last looked at the peer: see stages/peer.h */
};

/* A tuple whose handshake was proved of late: see stages/flight.h. */
struct xg_flight {
	u64 tuple; /* hash */
	u64 at;    /* coarse monotonic, ns */
};

/* Token buckets (algo/token_bucket.h) of the source prefixes that share a place. */
struct xg_buckets {
	u64 syns;
	u64 answers;
	u64 connections;
	u64 zero;
};

enum xg_event_kind {
	XG_EVENT_FLOOD_BEGINS = 1,
	XG_EVENT_FLOOD_ENDS,
	XG_EVENT_SCAN, /* the source has proved that it receives, and tried this closed port */
};

struct xg_event {
	u64 at; /* coarse monotonic, ns */
	u32 kind;
	u32 ifindex;
	u8 source[16]; /* IPv4: the first four octets */
	u16 port;      /* destination; host byte order */
	u8 ip_version;
	u8 cause; /* enum xg_flood_cause */
	u32 zero;
};

/* A packet that was dropped, or would have been: a sample of many. */
struct xg_drop {
	u32 begun;  /* another number than `done`: it is just being written */
	u32 link;   /* which interface, as in struct xg_guard */
	u64 at;     /* CLOCK_BOOTTIME, ns */
	u32 length; /* octets the frame had */
	u32 number; /* of the entry: slot of a rule, or number of a list */
	u8 reason;
	u8 entry;    /* enum xg_probe_entry that denied it */
	u8 observed; /* 1: it passed, as what decided only observes */
	u8 captured; /* octets of `frame` */
	u8 frame[XG_DROP_FRAME];
	u32 done;
};

/* Who wants to hear of drops. Written by that reader, again and again, so that it ends with it. */
struct xg_reader {
	u64 until;   /* CLOCK_BOOTTIME, ns */
	u32 samples; /* of a reason, a CPU and a window */
	u32 session; /* 1 to 255, another one than that of the reader before */
	u32 reasons; /* one bit each that is wanted */
	u32 zero;
};

/*
 * 64 networks of 24 bits in the lists' pre-filter: one bit each that says that an address in it is listed, one that
 * a prefix touches it.
 */
struct xg_nets4 {
	u64 addresses;
	u64 prefixes;
};

/* A cache line: the unit in which the deny index is read. */
struct xg_line {
	u64 word[8];
};

/* The first line of an index: where its tables begin, in lines, and how many lines they have. See stages/index.h. */
struct xg_index {
	u64 multiplier; /* of the hash; odd */
	u32 table4, lines4;
	u32 lengths4, zero;
	u32 table6, lines6;
	u32 lengths6, buckets6;
	u64 short6; /* lengths below 32 that are in use, of any network */
	u64 generation;
	u64 unused;
};

/* Written by the controller only. A stage whose table is empty is skipped. */
struct xg_settings {
	u32 allow4;
	u32 allow6;
	u32 deny4;
	u32 deny4_prefix;
	u32 deny6;
	u32 deny6_prefix;
	u32 deny6_wide; /* some prefix is too short for the pre-filter: every packet goes past it */
	u32 lists4;
	u32 lists6;
	u32 lists6_wide;
	u32 deny;       /* there is some deny entry at all */
	u32 shadow;     /* there is some shadow entry at all */
	u64 generation; /* another one after each change of them: see stages/known.h */
	u64 zero;       /* for xg_unlearn() */
	u32 shadow_rules4;
	u32 shadow_rules6;
	u32 shadow_lists4;
	u32 shadow_lists6;
	u32 shadow_lists6_wide;
	u32 unused;
	u64 closed_ports[2][XG_PORT_WORDS]; /* tcp, udp: a set bit sends the packet to the port table */
	u64 secrets[XG_SECRETS];            /* of the tuples' hash; chosen once */
};

/* What the probe says, and what it is asked: see probe/probe.h. */
struct xg_probe_answer {
	u8 reason;
	u8 verdict; /* enum xdp_action; 0: the program was not run */
	u8 observed;
	u8 ip_version; /* 0: no IP packet with sound headers, and what follows is zero */
	u8 protocol;   /* as in xg_counters.protocols */
	u8 segment;    /* a TCP segment, with flags */
	u8 tcp_flags;
	u8 entry;   /* enum xg_probe_entry that decided */
	u32 number; /* slot of the rule, or number of the list */
	u16 shadow; /* 1 + place among the shadow entries' hits; 0: none would hit it */
	u8 shadow_class;
	u8 zero;
	u8 source[16]; /* IPv4: the first four octets */
};

struct xg_probe_state {
	u32 place;   /* of the next answer */
	u32 length;  /* octets the frame had; 0: as many as are there */
	u32 without; /* enum xg_probe_entry to be left out, and its number as in the answer */
	u32 number;
};

#endif
