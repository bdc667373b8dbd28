/* SPDX-License-Identifier: GPL-2.0 */
/* TCP, UDP, ICMP, ICMPv6. Any other protocol is passed on to the address lists as it is. */
#ifndef XG_PARSE_TRANSPORT_H
#define XG_PARSE_TRANSPORT_H

#include <linux/in.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "../verdict.h"

#define XG_ICMP_HEADER 8 /* type, code, checksum and four bytes more (RFC 792, RFC 4443) */
#define XG_ND_FIRST 133  /* router solicitation; RFC 4861, section 4 */
#define XG_ND_LAST 137   /* redirect */
#define XG_ND_HOP_LIMIT 255

static __always_inline u32 xg_parse_tcp(struct xg_cursor *cursor, struct xg_packet *packet)
{
	struct tcphdr *tcp = cursor->at;
	u32 header;

	if ((void *)(tcp + 1) > cursor->end || cursor->left < sizeof(*tcp))
		return XG_REASON_malformed;
	header = tcp->doff * 4;
	if (header < sizeof(*tcp) || header > cursor->left)
		return XG_REASON_malformed;
	packet->tcp_flags = ((u8 *)tcp)[13];
	packet->source_port = tcp->source;
	packet->destination_port = tcp->dest;
	packet->has_ports = true;
	return XG_NEXT;
}

static __always_inline u32 xg_parse_udp(struct xg_cursor *cursor, struct xg_packet *packet)
{
	struct udphdr *udp = cursor->at;
	u32 length;

	if ((void *)(udp + 1) > cursor->end || cursor->left < sizeof(*udp))
		return XG_REASON_malformed;
	length = bpf_ntohs(udp->len);
	/* Over IPv6 0 is all there is (udp6_rcv()): a jumbogram's length does not fit (RFC 2675, section 4). */
	if (length < sizeof(*udp) && !(packet->ip_version == 6 && !length))
		return XG_REASON_malformed;
	/* A first fragment names the length of the whole datagram. */
	if (length > cursor->left && !packet->more_fragments)
		return XG_REASON_malformed;
	packet->source_port = udp->source;
	packet->destination_port = udp->dest;
	packet->has_ports = true;
	return XG_NEXT;
}

/*
 * Neighbour discovery is IPv6's ARP: it passes before any list is looked up, so that no rule cuts the host off its
 * link. Its hop limit proves that it comes from the link (RFC 4861, section 3.1).
 */
static __always_inline u32 xg_parse_icmpv6(struct xg_cursor *cursor, struct xg_packet *packet)
{
	u8 *type = cursor->at;

	if (cursor->at + XG_ICMP_HEADER > cursor->end || cursor->left < XG_ICMP_HEADER)
		return XG_REASON_malformed;
	if (*type >= XG_ND_FIRST && *type <= XG_ND_LAST && packet->hop_limit == XG_ND_HOP_LIMIT &&
	    !packet->more_fragments)
		return XG_REASON_non_ip;
	return XG_NEXT;
}

static __always_inline u32 xg_parse_transport(struct xg_cursor *cursor, struct xg_packet *packet)
{
	if (packet->later_fragment)
		return XG_NEXT;
	packet->transport_at = xg_place(cursor);
	if (packet->protocol == IPPROTO_TCP)
		return xg_parse_tcp(cursor, packet);
	if (packet->protocol == IPPROTO_UDP)
		return xg_parse_udp(cursor, packet);
	if (packet->protocol == IPPROTO_ICMP && packet->ip_version == 4 &&
	    (cursor->at + XG_ICMP_HEADER > cursor->end || cursor->left < XG_ICMP_HEADER))
		return XG_REASON_malformed;
	if (packet->protocol == IPPROTO_ICMPV6 && packet->ip_version == 6)
		return xg_parse_icmpv6(cursor, packet);
	return XG_NEXT;
}

#endif
