/* SPDX-License-Identifier: GPL-2.0 */
/* What a packet is. Filled by parse/, read-only afterwards, but for the last four. */
#ifndef XG_PACKET_H
#define XG_PACKET_H

#include "abi.h"
#include "verifier.h"

enum xg_tcp_flag {
	XG_FIN = 0x01,
	XG_SYN = 0x02,
	XG_RST = 0x04,
	XG_PSH = 0x08,
	XG_ACK = 0x10,
	XG_URG = 0x20,
	XG_ECE = 0x40,
	XG_CWR = 0x80,
};

/* Headers begin below these, as powers of two; the network header after Ethernet and at most two VLAN tags. */
#define XG_NETWORK_BOUND 64
#define XG_TRANSPORT_BOUND 0x8000

union xg_address {
	__be32 ipv4;
	__be32 ipv6[4];
	u64 halves[2]; /* of an IPv6 address */
};

struct xg_packet {
	u32 length;        /* of the frame, bytes */
	u8 ip_version;     /* 4 or 6 */
	u8 protocol;       /* IPPROTO_* after the last extension header */
	u8 hop_limit;      /* IPv6 only */
	u8 tcp_flags;      /* enum xg_tcp_flag; 0 unless protocol is TCP */
	u8 later_fragment; /* a fragment that is not the first: no ports */
	u8 more_fragments; /* the datagram goes on in other frames */
	u8 has_ports;      /* TCP or UDP */
	__be16 source_port;
	__be16 destination_port;
	union xg_address source;
	union xg_address destination;
	/* Where the IP header and the one after it begin, bytes from the frame's beginning; 0: not in it. */
	u16 network_at;
	u16 transport_at;
	bool needed;  /* the host needs the source, whatever denies it: see struct xg_rule */
	bool suspect; /* the source seems to scan: see stages/scan.h */
	bool sampled; /* one of those by which an idle guard watches: see stages/wanted.h */
	bool wanted;  /* by the guard */
};

/*
 * Makes the verifier forget what it knows about a packet: after a long stage it then has one packet to follow, not one
 * for each path through the parser.
 */
static __always_inline void xg_forget(struct xg_packet *packet, u64 zero)
{
	xg_unlearn(packet->protocol, zero);
	xg_unlearn(packet->hop_limit, zero);
	xg_unlearn(packet->tcp_flags, zero);
	xg_unlearn(packet->later_fragment, zero);
	xg_unlearn(packet->more_fragments, zero);
	xg_unlearn(packet->has_ports, zero);
	xg_unlearn(packet->source_port, zero);
	xg_unlearn(packet->destination_port, zero);
	xg_unlearn(packet->network_at, zero);
	xg_unlearn(packet->transport_at, zero);
	xg_unlearn(packet->length, zero);
}

/* A half of an IPv6 address as a number. */
static __always_inline u64 xg_half(const union xg_address *address, int half)
{
	return (u64)bpf_ntohl(address->ipv6[2 * half]) << 32 | bpf_ntohl(address->ipv6[2 * half + 1]);
}

/* What is left to parse. `left` counts the bytes that the headers vouch for; padding after them is not included. */
struct xg_cursor {
	void *frame;
	void *at;
	void *end; /* of the first buffer: the verifier's bound */
	u64 left;
	u64 zero; /* for xg_unlearn() */
};

static __always_inline u16 xg_place(const struct xg_cursor *cursor)
{
	return cursor->at - cursor->frame;
}

#endif
