/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Filters: the head of a set, its filters, and what is known of the packet that is being classified. Python:
 * xdpguard/dataplane/sys/layouts/filters.py; what a set looks like as a whole: stages/filterset.h.
 */
#ifndef XG_LAYOUTS_FILTERS_H
#define XG_LAYOUTS_FILTERS_H

#include <linux/types.h>

#define XG_FILTERS 1024         /* of a set */
#define XG_FILTER_SLOTS 2048    /* for their hit counters: old and new ones while a set is replaced */
#define XG_FILTER_WORDS 16      /* of 64 filters */
#define XG_FILTER_FIELDS 16     /* a power of two */
#define XG_FILTER_TABLES 32     /* of pages; likewise */
#define XG_FILTER_BYTES 16      /* that a test of bytes compares at most; likewise */
#define XG_FILTER_SETS 32768    /* of token buckets; likewise */
#define XG_FILTER_LACKING 65536 /* key of a field that the packet lacks */

/* The fields of a packet, in the order in which they are looked up. */
enum xg_filter_field {
	XG_FIELD_SOURCE,
	XG_FIELD_DESTINATION,
	XG_FIELD_VERSION,
	XG_FIELD_PROTOCOL,
	XG_FIELD_SOURCE_PORT,
	XG_FIELD_DESTINATION_PORT,
	XG_FIELD_TCP_FLAGS,
	XG_FIELD_LENGTH,
	XG_FIELD_DSCP,
	XG_FIELD_TTL,
	XG_FIELD_FRAG_OFF,
	XG_FIELD_FRAGMENT,
	XG_FIELD_ICMP_TYPE,
	XG_FIELD_ICMP_CODE,
	XG_FIELD_VLAN,
};

enum xg_filter_action {
	XG_FILTER_DROP = 1,
	XG_FILTER_PASS,
	XG_FILTER_COUNT,
	XG_FILTER_LIMIT,
};

/* What a filter wants of the packet's socket. */
enum xg_filter_state {
	XG_STATE_ANY,
	XG_STATE_ESTABLISHED,
	XG_STATE_OTHER,
	XG_STATE_LACKING, /* only of a packet: it is neither TCP nor UDP */
};

/* Whose packets share a limit. */
enum xg_filter_per {
	XG_PER_FILTER,
	XG_PER_SOURCE,
	XG_PER_SOURCE_AND_PORT,
};

/* What a candidate needs before it is decided about: each in a turn of its own, see stages/classify.h. */
enum xg_filter_wants {
	XG_WANTS_NOTHING,
	XG_WANTS_STATE,
	XG_WANTS_LIMIT,
};

enum xg_filter_base {
	XG_BASE_LINK,
	XG_BASE_NETWORK,
	XG_BASE_TRANSPORT,
	XG_BASE_INNER,
};

/* A filter of a set. */
struct xg_filter {
	u64 expires; /* CLOCK_BOOTTIME, ns; 0: never */
	u64 bytes;   /* the tests of bytes that it needs, one bit each */
	/* A limit, in ticks: see stages/rates.h. A packet costs `cost` >> cost_shift, times its bytes, if `by_bytes`.
	 */
	u64 cost;
	u64 burst;
	u64 mask6[2]; /* of a source prefix; network byte order, as in the packet */
	u32 mask4;    /* likewise */
	u32 sets_at;  /* its part of the sets of token buckets, and how many they are less one */
	u32 sets_mask;
	u32 slot;
	u8 cost_shift;
	u8 by_bytes;
	u8 precise; /* the burst is too short for the coarse clock */
	u8 per;     /* enum xg_filter_per */
	u8 action;  /* enum xg_filter_action */
	u8 shadow;
	u8 state; /* enum xg_filter_state */
	u8 tick_shift;
	u64 unused[7]; /* two cache lines */
};

/* A test of bytes: those of `value` are zero where those of `mask` are. */
struct xg_filter_bytes {
	u64 mask[2];
	u64 value[2];
	u32 offset;
	u16 size;
	u8 base; /* enum xg_filter_base */
	u8 negated;
	u64 unused[3];
};

/* The head of a set. Offsets are in bytes, from the beginning of the half that holds the table: see filterset.h. */
struct xg_filter_head {
	u64 generation;
	u64 base6[2]; /* of the IPv6 source and destination: see xg_filter_key6() */
	u32 shift6[2];
	u32 fields[2];    /* that are tested, of IPv4 and of IPv6 packets */
	u32 addresses[2]; /* bit 0: the source is among them, bit 1: the destination */
	u32 pages;
	u32 nodes;
	u32 bounds4[2];
	u32 bounds6[2]; /* in the upper half, as the next two */
	u32 entries6[2];
	u32 rows;
	u32 filters;
	u32 bytes;
	u32 count;                      /* of filters */
	u8 keys[2][XG_FILTER_FIELDS];   /* enum xg_filter_field of these fields, without addresses */
	u8 tables[2][XG_FILTER_FIELDS]; /* and the numbers of their tables */
	u8 bits[64];                    /* place of a single bit: see xg_filter_lowest() */
};

/* What a filter matched, and what of that was over its limit. */
struct xg_filter_hits {
	u64 packets;
	u64 bytes;
	u64 limited_packets;
	u64 limited_bytes;
};

/* Token buckets of a few sources: see stages/rates.h. */
struct xg_filter_buckets {
	u64 word[4];
};

/*
 * What the filters are told about a packet, and what they have found. Volatile, so that it is written to and read from
 * the map value, of which the verifier remembers nothing.
 */
struct xg_filtering {
	volatile u32 length; /* of the frame */
	volatile u16 network_at;
	volatile u16 transport_at;
	volatile u8 ip_version;
	volatile u8 protocol;
	volatile u8 fragment;    /* 0: none, 1: the first, 2: a later one */
	volatile u8 needed;      /* as in struct xg_packet */
	volatile u8 then;        /* the reason when no filter decides, or XG_NEXT */
	volatile u8 resumed;     /* 1: the filters were entered before for this packet */
	volatile u8 state;       /* enum xg_filter_state of the packet; XG_STATE_ANY: not known yet */
	volatile u8 outcome;     /* as `then`, or XG_UNDECIDED */
	volatile u32 end;        /* of the datagram in the frame */
	volatile u32 inner_at;   /* behind the transport header; 0: there is none */
	volatile u32 words;      /* one bit for each word of 64 filters that is still to be looked at */
	volatile u32 first;      /* the number of the first filter of `candidates` */
	volatile u32 rows;       /* how many there are in `row` */
	volatile u8 wants;       /* enum xg_filter_wants: what `filter` waits for */
	volatile u8 asked;       /* whether there are filters, for all programs that this packet meets */
	volatile u16 filter;     /* the number of the candidate in question */
	volatile u16 counted;    /* by how many filters the packet was counted */
	volatile u16 repeats;    /* how many of them are still to be met again, in a new set */
	volatile u32 left;       /* those of `words` that are not intersected yet */
	volatile u64 generation; /* of the set that these are of */
	volatile u64 candidates; /* of the current word */
	volatile u64 tested;     /* the tests of bytes that were made */
	volatile u64 passed;     /* and those of them that held */
	volatile u64 source[2];  /* as in the packet; of IPv4 the first four bytes */
	volatile u64 destination[2];
	volatile u64 copy[5]; /* of bytes of the packet, or the tuple of its socket */
	volatile u32 key[XG_FILTER_FIELDS];
	volatile u32 row[XG_FILTER_FIELDS]; /* offset */
	volatile u64 word[XG_FILTER_WORDS]; /* of their intersection, where it is not zero */
};

#endif
