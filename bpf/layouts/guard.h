/* SPDX-License-Identifier: GPL-2.0 */
/* The SYN guard's policy and state. Python: xdpguard/dataplane/sys/layouts/guard.py. */
#ifndef XG_LAYOUTS_GUARD_H
#define XG_LAYOUTS_GUARD_H

#include <linux/types.h>

#include "rules.h"

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
	u32 rmem_max;               /* net.core.rmem_max, bytes */
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

/* Why the guard of an interface does not answer SYNs although a flood is on. */
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

/* What the map `above` tells; a key is such a kind in the upper half and a number in the lower one. */
enum xg_above {
	XG_ABOVE_PORT = 1, /* the UDP port of a socket that is bound to a device above */
	XG_ABOVE_SHARED,   /* 0: devices of other namespaces take frames for other addresses, and to groups */
};

enum xg_flood_cause {
	XG_CAUSE_NONE,
	XG_CAUSE_QUEUE,     /* a listener's queue is full */
	XG_CAUSE_SYNS,      /* SYN rate */
	XG_CAUSE_UNMATCHED, /* rate of segments that belong to no connection */
};

/* The SYN guard's state on one interface. */
struct xg_guard {
	/* Read for every TCP segment, written when a flood begins and ends. */
	u64 until;        /* coarse monotonic, ns; 0: idle; all ones: always active */
	u64 mac;          /* the interface's, bytes in network byte order, then two zeroes; 0: every frame is ours */
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
	u64 unmatched;
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

/* A tuple whose handshake was proved recently: see stages/flight.h. */
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

#endif
