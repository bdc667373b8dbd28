/* SPDX-License-Identifier: GPL-2.0 */
/* IPv4 with options and fragments. */
#ifndef XG_PARSE_IPV4_H
#define XG_PARSE_IPV4_H

#include <linux/in.h>
#include <linux/ip.h>

#include "../verdict.h"

#define XG_IPV4_MORE_FRAGMENTS 0x2000
#define XG_IPV4_OFFSET_MASK 0x1fff /* in units of 8 bytes */
#define XG_DATAGRAM_MAX 65535

/* RFC 1858: a second fragment at offset 8 would overwrite the flags of the TCP header in the first. */
static __always_inline bool xg_fragment_is_attack(const struct xg_packet *packet, u32 offset, u32 length)
{
	return offset + length > XG_DATAGRAM_MAX || (offset == 8 && packet->protocol == IPPROTO_TCP);
}

static __always_inline u32 xg_parse_ipv4(struct xg_cursor *cursor, struct xg_packet *packet)
{
	struct iphdr *ip = cursor->at;
	u32 header, fragment, offset;
	u64 total;

	if ((void *)(ip + 1) > cursor->end)
		return XG_REASON_malformed;
	header = ip->ihl * 4;
	total = bpf_ntohs(ip->tot_len);
	/* A datagram that the kernel itself assembled from many segments can be too long for the field: BIG TCP. */
	if (!total && cursor->left > XG_DATAGRAM_MAX)
		total = cursor->left;
	if (ip->version != 4 || header < sizeof(*ip) || total < header || total > cursor->left)
		return XG_REASON_malformed;

	packet->network_at = xg_place(cursor);
	packet->protocol = ip->protocol;
	packet->source.ipv4 = ip->saddr;
	packet->destination.ipv4 = ip->daddr;
	fragment = bpf_ntohs(ip->frag_off);
	cursor->at += header;
	cursor->left = total - header;

	if (fragment & (XG_IPV4_MORE_FRAGMENTS | XG_IPV4_OFFSET_MASK)) {
		offset = (fragment & XG_IPV4_OFFSET_MASK) * 8;
		if (xg_fragment_is_attack(packet, offset, cursor->left))
			return XG_REASON_malformed;
		packet->later_fragment = offset != 0;
		packet->more_fragments = !!(fragment & XG_IPV4_MORE_FRAGMENTS);
	}
	return XG_NEXT;
}

#endif
