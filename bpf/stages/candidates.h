/* SPDX-License-Identifier: GPL-2.0 */
/* What of a filter is asked only when its row of bits says that it may match: sockets, its end, its limit. */
#ifndef XG_STAGES_CANDIDATES_H
#define XG_STAGES_CANDIDATES_H

#include "../clock.h"
#include "../families.h"
#include "../probe/filtering.h"
#include "bytes.h"
#include "known.h"
#include "rates.h"
#include "rule.h"
#include "socket.h"

#define XG_UNDECIDED 0xfe

/* The state of the packet's socket; 0: there is none. */
static __always_inline u32 xg_filter_state_of(struct xdp_md *ctx, struct bpf_sock_tuple *tuple, u32 size, bool udp)
{
	struct bpf_sock *sock = xg_socket_of(ctx, tuple, size, udp);
	u32 state;

	if (!sock)
		return 0;
	state = sock->state;
	xg_hide(state);
	xg_barrier();
	bpf_sk_release(sock);
	return state;
}

/* Of a TCP socket past listening, request and timewait sockets aside, or of a UDP socket that is connected. */
static __always_inline u32 xg_filter_socket_state(struct xdp_md *ctx, struct xg_filtering *packet)
{
	struct bpf_sock_tuple *tuple = (void *)packet->copy;
	u32 size, state;

	if (packet->key[XG_FIELD_SOURCE_PORT] == XG_FILTER_LACKING)
		return XG_STATE_LACKING;
	size = xg_fill_tuple(tuple, packet->ip_version, (const u64 *)packet->source, (const u64 *)packet->destination,
			     bpf_htons(packet->key[XG_FIELD_SOURCE_PORT]),
			     bpf_htons(packet->key[XG_FIELD_DESTINATION_PORT]));
	if (packet->protocol == IPPROTO_UDP)
		return xg_filter_state_of(ctx, tuple, size, true) == BPF_TCP_ESTABLISHED ? XG_STATE_ESTABLISHED
											 : XG_STATE_OTHER;
	state = xg_filter_state_of(ctx, tuple, size, false);
	return state && state != BPF_TCP_LISTEN && state != BPF_TCP_NEW_SYN_RECV && state != BPF_TCP_TIME_WAIT
		       ? XG_STATE_ESTABLISHED
		       : XG_STATE_OTHER;
}

static __always_inline void xg_filter_hit(u32 slot, u32 length, bool limited)
{
	u32 cpu = xg_hits_row(), index = cpu * XG_FILTER_SLOTS + slot;
	struct xg_filter_hits *row;

	if (XG_PROBE) {
		xg_probe_matched(slot, length, limited);
		return;
	}
	row = filter_hits.lookup(&index);
	if (!row)
		return;
	if (cpu == XG_MAX_CPUS) {
		__sync_fetch_and_add(&row->packets, 1);
		__sync_fetch_and_add(&row->bytes, length);
		__sync_fetch_and_add(&row->limited_packets, limited);
		__sync_fetch_and_add(&row->limited_bytes, limited ? length : 0);
		return;
	}
	xg_count_match(row, length, limited);
}

/* The filter has matched and counted the packet, and decides unless it is in shadow. */
static __always_inline void xg_filter_decides(struct xg_counters *counters, const struct xg_filter *filter,
					      struct xg_filtering *packet, u32 reason)
{
	if (filter->shadow) {
		xg_probe_shadow_filter(filter->slot, reason);
		return;
	}
	xg_probe_hit(XG_PROBE_FILTER, filter->slot);
	xg_denied_by(counters, XG_PROBE_FILTER, filter->slot);
	packet->outcome = reason;
	/* The default is not asked about what a filter passes. */
	counters->handover.admitted = reason == packet->then;
}

/* The filter is a limit, and matches. */
static __always_inline void xg_filter_limit(struct xg_counters *counters, const struct xg_settings *settings,
					    const struct xg_filter *filter, struct xg_filtering *packet)
{
	bool within = xg_limit_take(filter, packet, settings->secrets);

	packet->counted++;
	xg_filter_hit(filter->slot, packet->length, !within);
	if (!within)
		xg_filter_decides(counters, filter, packet, XG_REASON_filter_limit);
}

/* The filter matches, its state included. */
static __always_inline void xg_filter_matches(struct xg_counters *counters, const struct xg_filter *filter,
					      struct xg_filtering *packet)
{
	u32 action = filter->action;

	if (filter->expires && filter->expires <= xg_now_boot())
		return;
	if (xg_probe_without(XG_PROBE_FILTER, filter->slot))
		return;
	/* The host needs the packet: as with closed ports. */
	if (packet->needed && (action == XG_FILTER_DROP || action == XG_FILTER_LIMIT))
		return;
	/* Counted, and within its limit, in the set that this one has replaced meanwhile. */
	if (packet->repeats && (filter->shadow || action == XG_FILTER_COUNT || action == XG_FILTER_LIMIT)) {
		packet->repeats--;
		return;
	}
	if (action == XG_FILTER_LIMIT) {
		packet->wants = XG_WANTS_LIMIT;
		return;
	}
	packet->counted++;
	xg_filter_hit(filter->slot, packet->length, false);
	if (action != XG_FILTER_COUNT)
		xg_filter_decides(counters, filter, packet, action == XG_FILTER_PASS ? packet->then : XG_REASON_filter);
}

#endif
