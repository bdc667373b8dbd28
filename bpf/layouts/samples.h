/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Reports about single packets: events, samples of drops, the probe's answers. Python:
 * xdpguard/dataplane/sys/layouts/counts.py.
 */
#ifndef XG_LAYOUTS_SAMPLES_H
#define XG_LAYOUTS_SAMPLES_H

#include <linux/types.h>

#define XG_DROP_FRAME 128    /* bytes: Ethernet, two VLAN tags, IPv6 and a TCP header with all its options fit */
#define XG_KEPT 8            /* last samples of a reason and a CPU; a power of two */
#define XG_PROBE_BATCH 16384 /* answers */

enum xg_event_kind {
	XG_EVENT_FLOOD_BEGINS = 1,
	XG_EVENT_FLOOD_ENDS,
	XG_EVENT_SCAN, /* the source has proved that it receives, and tried this closed port */
};

struct xg_event {
	u64 at; /* coarse monotonic, ns */
	u32 kind;
	u32 ifindex;
	u8 source[16]; /* IPv4: the first four bytes */
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
	u32 length; /* bytes the frame had */
	u32 number; /* of the entry: slot of a rule or filter, or number of a list */
	u8 reason;
	u8 entry;    /* enum xg_probe_entry that denied it */
	u8 observed; /* 1: it passed, as what decided only observes */
	u8 captured; /* bytes of `frame` */
	u8 frame[XG_DROP_FRAME];
	u32 done;
};

/* Who asks for samples of drops. The reader writes it again and again, so that it expires when the reader ends. */
struct xg_reader {
	u64 until;   /* CLOCK_BOOTTIME, ns */
	u32 samples; /* of a reason, a CPU and a window */
	u32 session; /* 1 to 255, another one than that of the reader before */
	u32 reasons; /* one bit each that is wanted */
	u32 zero;
};

/* The probe's answer and the question: see probe/probe.h. */
struct xg_probe_answer {
	u8 reason;
	u8 verdict; /* enum xdp_action; 0: the program was not run */
	u8 observed;
	u8 ip_version; /* 0: no IP packet with sound headers, and what follows is zero */
	u8 protocol;   /* as in xg_counters.protocols */
	u8 segment;    /* a TCP segment, with flags */
	u8 tcp_flags;
	u8 entry;   /* enum xg_probe_entry that decided */
	u32 number; /* slot of the rule or filter, or number of the list */
	u16 shadow; /* 1 + place among the shadow entries' hits; 0: none would hit it */
	u8 shadow_class;
	u8 zero;
	u8 source[16];     /* IPv4: the first four bytes */
	u32 shadow_filter; /* 1 + slot of the first filter in shadow that would drop it; 0: none would */
	u32 unused;
};

struct xg_probe_state {
	u32 place;   /* of the next answer */
	u32 length;  /* bytes the frame had; 0: as many as are there */
	u32 without; /* enum xg_probe_entry to be left out, and its number as in the answer */
	u32 number;
	u64 clock; /* of the limits of filters, ns: they then take from buckets of the probe's own. 0: they take nothing
		    */
};

#endif
