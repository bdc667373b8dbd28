/* SPDX-License-Identifier: GPL-2.0 */
/* Which packets the SYN guard must see: this is what the guard costs every TCP segment while there is no flood. */
#ifndef XG_STAGES_WANTED_H
#define XG_STAGES_WANTED_H

#include "../maps.h"
#include "count.h"

#define XG_SYN_SAMPLE 64      /* while idle, one SYN of so many is looked at on each CPU */
#define XG_SEGMENT_SAMPLE 256 /* and one other segment of so many */

/*
 * Whether this packet is due to be examined. The gap between two is random, 0 to 2n - 2 packets, n - 1 on average: with
 * a fixed gap, or one derived from the packet, a sender could stay in step and be examined only when it chooses.
 */
static __always_inline bool xg_due(u32 *left, u32 mean)
{
	if (*left) {
		--*left;
		return false;
	}
	*left = bpf_get_prandom_u32() % (2 * mean - 1);
	return true;
}

/*
 * Whether the guard must see the packet: it is active, or the source is suspect, or the packet belongs to the sample
 * that an idle guard examines.
 */
static __always_inline bool xg_guard_wanted(struct xg_packet *packet, struct xg_counters *counters)
{
	u32 zero = 0;
	struct xg_guard *guard;

	if (!xg_is_tcp_segment(packet))
		return false;
	guard = guards.lookup(&zero);
	if (!guard)
		return false;
	if (guard->until)
		return true;
	if (xg_initial_syn(packet))
		packet->sampled = xg_due(&counters->flood.syns_left, XG_SYN_SAMPLE);
	else
		packet->sampled = xg_due(&counters->flood.segments_left, XG_SEGMENT_SAMPLE);
	return packet->sampled || packet->suspect;
}

/* Whether the default is asked about packets that nothing else decides. What a host sends itself is nobody's attack. */
static __always_inline bool xg_default_wanted(const struct xg_settings *settings)
{
	return !XG_LOOPBACK && settings->default_deny;
}

/* What the programs that are entered next are told about the packet. */
static __always_inline void xg_hand_over(const struct xg_packet *packet, struct xg_handover *handover)
{
	handover->ip_version = packet->ip_version;
	handover->sampled = packet->sampled;
	handover->suspect = packet->suspect;
	handover->network_at = packet->network_at;
	handover->transport_at = packet->transport_at;
	handover->protocol = packet->protocol;
	handover->later_fragment = packet->later_fragment;
	handover->wanted = packet->wanted;
	handover->needed = packet->needed;
	handover->cut = false;
	handover->admitted = false;
}

#endif
