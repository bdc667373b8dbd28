/* SPDX-License-Identifier: GPL-2.0 */
/* Packets no honest sender makes: impossible TCP flags, impossible source addresses. */
#ifndef XG_STAGES_SANITY_H
#define XG_STAGES_SANITY_H

#include "../verdict.h"
#include "count.h"

#define XG_IPV4_MULTICAST 0xe0000000 /* 224/4, RFC 5771 */
#define XG_IPV4_MULTICAST_MASK 0xf0000000
#define XG_IPV4_LOOPBACK 0x7f000000 /* 127/8, RFC 1122, 3.2.1.3 */
#define XG_IPV4_LOOPBACK_MASK 0xff000000
#define XG_IPV4_BROADCAST 0xffffffff
#define XG_IPV6_MULTICAST 0xff000000 /* ff00::/8, RFC 4291, 2.7 */
#define XG_IPV6_MULTICAST_MASK 0xff000000
#define XG_IPV6_MAPPED 0x0000ffff /* third word of ::ffff:0:0/96; the kernel refuses it too: ip6_rcv_core() */

/* RFC 9293: every segment opens (SYN), resets (RST) or acknowledges (ACK), and FIN comes with ACK alone. */
static __always_inline bool xg_flags_impossible(u8 flags)
{
	if (!(flags & (XG_SYN | XG_RST | XG_ACK)))
		return true;
	if ((flags & XG_SYN) && (flags & (XG_FIN | XG_RST)))
		return true;
	return (flags & XG_FIN) && (flags & XG_RST);
}

static __always_inline bool xg_source4_impossible(__be32 address)
{
	u32 host = bpf_ntohl(address);

	return (host & XG_IPV4_MULTICAST_MASK) == XG_IPV4_MULTICAST || host == XG_IPV4_BROADCAST ||
	       (!XG_LOOPBACK && (host & XG_IPV4_LOOPBACK_MASK) == XG_IPV4_LOOPBACK);
}

static __always_inline bool xg_source6_impossible(const __be32 *address)
{
	if ((address[0] & bpf_htonl(XG_IPV6_MULTICAST_MASK)) == bpf_htonl(XG_IPV6_MULTICAST))
		return true;
	if (address[0] || address[1])
		return false;
	return address[2] == bpf_htonl(XG_IPV6_MAPPED) || (!XG_LOOPBACK && !address[2] && address[3] == bpf_htonl(1));
}

static __always_inline u32 xg_sanity(const struct xg_packet *packet)
{
	if (XG_CHECK_FLAGS && xg_is_tcp_segment(packet) && xg_flags_impossible(packet->tcp_flags))
		return XG_REASON_bad_flags;
	if (!XG_CHECK_SOURCE)
		return XG_NEXT;
	if (packet->ip_version == 4)
		return xg_source4_impossible(packet->source.ipv4) ? XG_REASON_bad_source : XG_NEXT;
	return xg_source6_impossible(packet->source.ipv6) ? XG_REASON_bad_source : XG_NEXT;
}

#endif
