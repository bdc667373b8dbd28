/* SPDX-License-Identifier: GPL-2.0 */
/* What the controller writes: rules, lists, settings. Python: xdpguard/dataplane/sys/layouts/rules.py. */
#ifndef XG_LAYOUTS_RULES_H
#define XG_LAYOUTS_RULES_H

#include <linux/types.h>

#define XG_PORT_WORDS 1024    /* one bit a port, in 64-bit words */
#define XG_SECRETS 5          /* words of an IPv6 tuple */
#define XG_NETS4_WORDS 262144 /* one bit a /24, in 64-bit words */
#define XG_NETS6_LINES 65536  /* of the lists' pre-filter for IPv6 */
#define XG_RULE_NETS6_LINES 4096
#define XG_LISTS 1024 /* named lists there may be */
#define XG_SHADOW_RULES 8192

/* What an allow, block or port entry holds. Written by the controller only. */
struct xg_rule {
	u64 expires;       /* CLOCK_BOOTTIME, ns; 0: never */
	u32 slot;          /* index of the entry's hit counters */
	u32 prefix_length; /* bits; 0 for a port entry. With XG_RULE_NEEDED: see there */
};

/*
 * Set in an allow entry that the controller made because the host needs the source although something denies it: deny
 * lists and closed ports do not apply to it, but everything else does, because anybody can forge that source.
 */
#define XG_RULE_NEEDED (1u << 31)

struct xg_hits {
	u64 packets;
	u64 bytes;
};

/* The class of the packets that a shadow entry would hit. */
enum xg_shadow_class {
	XG_SHADOW_ESTABLISHED, /* of a TCP socket of this host that is past listening */
	XG_SHADOW_ALLOWED,     /* the allow list would save them */
	XG_SHADOW_OTHER,
	XG_SHADOW_CLASSES,
};

struct xg_shadow_hits {
	struct xg_hits of[XG_SHADOW_CLASSES];
};

/* Eight bytes, because the kernel compares keys eight bytes at a time, and the remainder one by one. */
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
 * 64 networks of 24 bits in the lists' pre-filter: for each, one bit that says that an address in it is listed, and one
 * that says that a prefix touches it.
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
	u32 lengths4, ends;
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
	u32 filters;                        /* there is a set of filters */
	u64 closed_ports[2][XG_PORT_WORDS]; /* tcp, udp: a set bit sends the packet to the port table */
	u64 secrets[XG_SECRETS];            /* of the tuples' hash; chosen once */
};

#endif
