/* SPDX-License-Identifier: GPL-2.0 */
/* Which packets the SYN guard must see: this is what it costs every TCP segment while there is no flood. */
#ifndef XG_STAGES_WANTED_H
#define XG_STAGES_WANTED_H

#include "../maps.h"
#include "count.h"

#define XG_SYN_SAMPLE 64      /* while idle, one SYN of so many is looked at on each CPU */
#define XG_SEGMENT_SAMPLE 256 /* and one other segment of so many */

/*
 * Whether this is the packet to look at. Gaps between two are random, 0 to 2n - 2 packets and n - 1 in the middle: a
 * fixed gap, or one drawn from what a packet carries, a sender could keep in step with and be looked at only when it
 * pleases.
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
 * Whether the guard has to see the packet: it is active, or the source is suspect, or the packet is one of the sample
 * by which an idle guard watches.
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
		packet->sampled = xg_due(&counters->signs.syns_left, XG_SYN_SAMPLE);
	else
		packet->sampled = xg_due(&counters->signs.segments_left, XG_SEGMENT_SAMPLE);
	return packet->sampled || packet->suspect;
}

/* What the guard is told of it. */
static __always_inline void xg_hand_over(const struct xg_packet *packet, struct xg_handover *handover)
{
	handover->ip_version = packet->ip_version;
	handover->sampled = packet->sampled;
	handover->suspect = packet->suspect;
	handover->network_at = packet->network_at;
	handover->transport_at = packet->transport_at;
}

#endif
