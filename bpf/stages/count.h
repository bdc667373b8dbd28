/* SPDX-License-Identifier: GPL-2.0 */
/* Exact counts: protocols and TCP flags of every packet whose headers are sound, whatever its verdict. */
#ifndef XG_STAGES_COUNT_H
#define XG_STAGES_COUNT_H

#include <linux/in.h>

#include "../abi.h"
#include "../packet.h"
#include "../probe/note.h"

/* Index into xg_counters.protocols. ICMP of the other IP version is "other", as no host answers it. */
static __always_inline u32 xg_protocol_index(const struct xg_packet *packet)
{
	if (packet->protocol == IPPROTO_TCP)
		return 0;
	if (packet->protocol == IPPROTO_UDP)
		return 1;
	if (packet->protocol == IPPROTO_ICMP && packet->ip_version == 4)
		return 2;
	if (packet->protocol == IPPROTO_ICMPV6 && packet->ip_version == 6)
		return 3;
	return 4;
}

static __always_inline bool xg_is_tcp_segment(const struct xg_packet *packet)
{
	return packet->protocol == IPPROTO_TCP && !packet->later_fragment;
}

static __always_inline bool xg_initial_syn(const struct xg_packet *packet)
{
	return (packet->tcp_flags & (XG_SYN | XG_ACK)) == XG_SYN;
}

static __always_inline void xg_count(const struct xg_packet *packet, struct xg_counters *counters)
{
	counters->protocols[xg_protocol_index(packet)]++;
	if (xg_is_tcp_segment(packet))
		counters->flag_sets[packet->tcp_flags]++;
	xg_probe_packet(packet, xg_protocol_index(packet), xg_is_tcp_segment(packet));
}

#endif
