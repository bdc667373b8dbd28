/* SPDX-License-Identifier: GPL-2.0 */
/* IPv6 and its extension headers (RFC 8200, section 4). */
#ifndef XG_PARSE_IPV6_H
#define XG_PARSE_IPV6_H

#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ipv6.h>

#include "ipv4.h"

#define XG_MAX_EXTENSIONS 8
#define XG_EXTENSION_MASK 0xfff     /* the longest has 256 * 8 bytes */
#define XG_NEXT_HEADER_MOBILITY 135 /* RFC 6275 */
#define XG_NEXT_HEADER_HIP 139      /* RFC 7401 */
#define XG_NEXT_HEADER_SHIM6 140    /* RFC 5533 */
#define XG_IPV6_MORE_FRAGMENTS 1
#define XG_IPV6_OFFSET_MASK 0xfff8 /* in bytes */

struct xg_extension {
	u8 next;
	u8 length; /* in units of 8 bytes, the first not counted; AH: of 4, the first two not counted */
	__be16 fragment;
	__be32 rest;
};

static __always_inline bool xg_is_extension(u8 next)
{
	switch (next) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_FRAGMENT:
	case IPPROTO_AH:
	case IPPROTO_DSTOPTS:
	case XG_NEXT_HEADER_MOBILITY:
	case XG_NEXT_HEADER_HIP:
	case XG_NEXT_HEADER_SHIM6:
		return true;
	}
	return false;
}

/* No sender makes a second fragment header in one chain. */
static __always_inline u32 xg_parse_ipv6_fragment(struct xg_packet *packet, __be16 field, u32 length, bool *seen)
{
	u32 fragment = bpf_ntohs(field);
	u32 offset = fragment & XG_IPV6_OFFSET_MASK;

	if (*seen || xg_fragment_is_attack(packet, offset, length))
		return XG_REASON_malformed;
	*seen = true;
	packet->later_fragment = offset != 0;
	packet->more_fragments = fragment & XG_IPV6_MORE_FRAGMENTS;
	return XG_NEXT;
}

static __always_inline u32 xg_parse_extensions(struct xg_cursor *cursor, struct xg_packet *packet)
{
	struct xg_extension *extension;
	bool fragment_seen = false;
	u32 length;
	u8 kind;
	int i;

	for (i = 0; i < XG_MAX_EXTENSIONS; i++) {
		kind = packet->protocol;
		if (!xg_is_extension(kind))
			return XG_NEXT;
		/* RFC 8200, 4.1: hop-by-hop options follow the IPv6 header directly or not at all. */
		if (kind == IPPROTO_HOPOPTS && i > 0)
			return XG_REASON_malformed;
		extension = cursor->at;
		if ((void *)(extension + 1) > cursor->end)
			return XG_REASON_malformed;
		length = (extension->length + 1) * 8;
		if (kind == IPPROTO_FRAGMENT)
			length = sizeof(*extension);
		else if (kind == IPPROTO_AH)
			length = (extension->length + 2) * 4;
		/* Whatever the kind: the verifier follows one length, and learns its bound after that. */
		xg_unlearn(length, cursor->zero);
		xg_hide(length);
		length &= XG_EXTENSION_MASK;
		if (length > cursor->left)
			return XG_REASON_malformed;
		packet->protocol = extension->next;
		cursor->at += length;
		cursor->left -= length;
		if (kind == IPPROTO_FRAGMENT &&
		    xg_parse_ipv6_fragment(packet, extension->fragment, cursor->left, &fragment_seen) != XG_NEXT)
			return XG_REASON_malformed;
		if (packet->later_fragment)
			return XG_NEXT;
	}
	/* Longer than any real sender's: an evasion, not traffic. */
	return xg_is_extension(packet->protocol) ? XG_REASON_malformed : XG_NEXT;
}

static __always_inline u32 xg_parse_ipv6(struct xg_cursor *cursor, struct xg_packet *packet)
{
	struct ipv6hdr *ip = cursor->at;
	u64 payload;

	if ((void *)(ip + 1) > cursor->end)
		return XG_REASON_malformed;
	payload = bpf_ntohs(ip->payload_len);
	/* As for IPv4; here a jumbo payload option says so (RFC 2675). */
	if (!payload && cursor->left > XG_DATAGRAM_MAX + sizeof(*ip) && ip->nexthdr == IPPROTO_HOPOPTS)
		payload = cursor->left - sizeof(*ip);
	if (ip->version != 6 || payload + sizeof(*ip) > cursor->left)
		return XG_REASON_malformed;

	packet->network_at = xg_place(cursor);
	packet->protocol = ip->nexthdr;
	packet->hop_limit = ip->hop_limit;
	__builtin_memcpy(&packet->source, &ip->saddr, sizeof(packet->source));
	__builtin_memcpy(&packet->destination, &ip->daddr, sizeof(packet->destination));
	cursor->at = ip + 1;
	/* However the length was found: the verifier follows the headers once. */
	xg_unlearn(payload, cursor->zero);
	cursor->left = payload;
	return xg_parse_extensions(cursor, packet);
}

#endif
