/* SPDX-License-Identifier: GPL-2.0 */
/*
 * ICMP and ICMPv6 messages, IGMP and DHCP as the default sees them: an echo reply answers a request, an error is about
 * a packet that it quotes, and what a host on its link needs is admitted.
 */
#ifndef XG_STAGES_MESSAGES_H
#define XG_STAGES_MESSAGES_H

#include "../parse/parse.h"
#include "local.h"

#define XG_ICMP_ECHO_REPLY 0 /* RFC 792 */
#define XG_ICMP_UNREACHABLE 3
#define XG_ICMP_ECHO 8
#define XG_ICMP_TIME_EXCEEDED 11
#define XG_ICMP_PARAMETER 12
#define XG_ICMPV6_LAST_ERROR 4 /* RFC 4443: 1 unreachable, 2 packet too big, 3 time exceeded, 4 parameter problem */
#define XG_ICMPV6_ECHO 128
#define XG_ICMPV6_ECHO_REPLY 129
#define XG_MLD_QUERY 130 /* RFC 2710: query, report, done */
#define XG_MLD_DONE 132
#define XG_MLD2_REPORT 143 /* RFC 3810 */
#define XG_QUOTE_PORTS 8   /* bytes of the quoted packet's payload that are surely there (RFC 792) */

enum xg_message {
	XG_MESSAGE_CUT,   /* belongs to nothing */
	XG_MESSAGE_PASS,  /* needed on the link */
	XG_MESSAGE_REPLY, /* judged by the packet's fields */
	XG_MESSAGE_ERROR, /* by the quoted packet's */
};

/* `size` bytes at an offset of the frame, or NULL. */
static __always_inline void *xg_bytes_at(struct xdp_md *ctx, u64 offset, u32 size)
{
	void *at = (void *)(long)ctx->data + xg_within(offset, XG_TRANSPORT_BOUND);

	return at + size <= (void *)(long)ctx->data_end ? at : NULL;
}

/* Multicast listeners are found out on the link only: such messages are sent with hop limit 1. */
static __always_inline u32 xg_icmpv6_kind(u32 type)
{
	if (type == XG_ICMPV6_ECHO_REPLY)
		return XG_MESSAGE_REPLY;
	if (type && type <= XG_ICMPV6_LAST_ERROR)
		return XG_MESSAGE_ERROR;
	return (type >= XG_MLD_QUERY && type <= XG_MLD_DONE) || type == XG_MLD2_REPORT ? XG_MESSAGE_PASS
										       : XG_MESSAGE_CUT;
}

static __always_inline u32 xg_icmp_kind(u32 type)
{
	if (type == XG_ICMP_ECHO_REPLY)
		return XG_MESSAGE_REPLY;
	return type == XG_ICMP_UNREACHABLE || type == XG_ICMP_TIME_EXCEEDED || type == XG_ICMP_PARAMETER
		       ? XG_MESSAGE_ERROR
		       : XG_MESSAGE_CUT;
}

/* The ports of a packet or of a quoted one, or the identifier of an echo of that type. False: it has none. */
static __always_inline bool xg_read_ends(struct xdp_md *ctx, u64 at, u32 protocol, u32 echo, __be16 *from, __be16 *to)
{
	u8 *bytes = xg_bytes_at(ctx, at, XG_QUOTE_PORTS);

	*from = 0;
	*to = 0;
	if (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP) {
		if (!bytes)
			return false;
		*from = *(__be16 *)bytes;
		*to = *(__be16 *)(bytes + 2);
	} else if (protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6) {
		if (!bytes || *bytes != echo)
			return false;
		*from = *(__be16 *)(bytes + 4);
	}
	return true;
}

static __always_inline bool xg_read_quoted4(struct xdp_md *ctx, struct xg_packet *packet, u64 *at)
{
	struct iphdr *ip = xg_bytes_at(ctx, *at, sizeof(*ip));

	if (!ip || ip->saddr != packet->destination.ipv4 || ip->frag_off & bpf_htons(XG_IPV4_OFFSET_MASK))
		return false;
	packet->source.ipv4 = ip->daddr;
	packet->protocol = ip->protocol;
	*at += ip->ihl * 4;
	return true;
}

static __always_inline bool xg_read_quoted6(struct xdp_md *ctx, struct xg_packet *packet, u64 *at)
{
	struct ipv6hdr *ip = xg_bytes_at(ctx, *at, sizeof(*ip));
	struct xg_extension *extension;

	if (!ip)
		return false;
	__builtin_memcpy(&packet->source, &ip->saddr, sizeof(packet->source));
	if (!xg_same_address(&packet->source, &packet->destination, 6))
		return false;
	__builtin_memcpy(&packet->source, &ip->daddr, sizeof(packet->source));
	packet->protocol = ip->nexthdr;
	*at += sizeof(*ip);
	if (packet->protocol != IPPROTO_FRAGMENT)
		return true;
	extension = xg_bytes_at(ctx, *at, sizeof(*extension));
	if (!extension || extension->fragment & bpf_htons(XG_IPV6_OFFSET_MASK))
		return false;
	packet->protocol = extension->next;
	*at += sizeof(*extension);
	return true;
}

/* Turns the packet into one that answers the packet that this error is about. False: it is not about one of ours. */
static __always_inline bool xg_read_quoted(struct xdp_md *ctx, struct xg_packet *packet)
{
	u64 at = packet->transport_at + XG_ICMP_HEADER;
	u32 echo = packet->ip_version == 4 ? XG_ICMP_ECHO : XG_ICMPV6_ECHO;
	bool ours = packet->ip_version == 4 ? xg_read_quoted4(ctx, packet, &at) : xg_read_quoted6(ctx, packet, &at);

	packet->tcp_flags = 0;
	/* It was sent by us: its destination is where an answer would come from. */
	if (!ours || !xg_read_ends(ctx, at, packet->protocol, echo, &packet->destination_port, &packet->source_port))
		return false;
	return true;
}

/* An answer of a DHCP server (RFC 2131, 4.1; RFC 8415, 7.2): clients may listen to it without a socket of that port. */
static __always_inline bool xg_is_dhcp_answer(const struct xg_packet *packet)
{
	if (packet->ip_version == 4)
		return packet->source_port == bpf_htons(67) && packet->destination_port == bpf_htons(68);
	return packet->source_port == bpf_htons(547) && packet->destination_port == bpf_htons(546);
}

#endif
