/* SPDX-License-Identifier: GPL-2.0 */
/* What of a filter is asked only when its row of bits says that it may match: bytes, sockets, its end. */
#ifndef XG_STAGES_CANDIDATES_H
#define XG_STAGES_CANDIDATES_H

#include "../clock.h"
#include "../families.h"
#include "../probe/filtering.h"
#include "fields.h"
#include "filterset.h"
#include "known.h"
#include "rates.h"
#include "rule.h"

#define XG_UNDECIDED 0xfe

/* Where a test's bytes begin in the frame, and in `end` where they end at the latest. False: the packet lacks them. */
static __always_inline bool xg_filter_bytes_at(const struct xg_filter_bytes *test, const struct xg_filtering *packet,
					       u64 *at, u64 *end)
{
	*at = test->offset;
	*end = packet->end;
	if (test->base == XG_BASE_LINK) {
		*end = packet->length;
	} else if (test->base == XG_BASE_NETWORK) {
		*at += packet->network_at;
	} else if (test->base == XG_BASE_TRANSPORT) {
		*at += packet->transport_at;
		return packet->fragment != XG_LATER_FRAGMENT;
	} else {
		*at += packet->inner_at;
		return packet->inner_at;
	}
	return true;
}

/* Copies 1 to XG_FILTER_BYTES bytes of the frame; false when they are not there, or not in the first buffer. */
static __always_inline bool xg_filter_copy(struct xdp_md *ctx, u64 at, u64 size, struct xg_filtering *packet)
{
	u64 some = xg_within(size - 1, XG_FILTER_BYTES) + 1; /* see verifier.h */

	packet->copy[0] = 0;
	packet->copy[1] = 0;
#if XG_LOAD_BYTES
	return !bpf_xdp_load_bytes(ctx, at, (void *)packet->copy, some);
#else
	return at + some <= ctx->data_end - ctx->data &&
	       !bpf_probe_read_kernel((void *)packet->copy, some, (void *)(long)ctx->data + at);
#endif
}

/* Makes the lowest of the tests of bytes in `missing`. */
static __always_inline void xg_filter_test(struct xdp_md *ctx, void *set, u64 missing, struct xg_filtering *packet)
{
	const struct xg_filter_head *head = set;
	const struct xg_filter_bytes *test;
	u64 at, end, bit = missing & -missing;
	bool equal;

	packet->tested |= bit;
	test = xg_set_low(set, head->bytes + xg_filter_lowest(head, missing) * sizeof(*test));
	if (!xg_filter_bytes_at(test, packet, &at, &end) || at + test->size > end ||
	    !xg_filter_copy(ctx, at, test->size, packet))
		return;
	equal = !(((packet->copy[0] & test->mask[0]) ^ test->value[0]) |
		  ((packet->copy[1] & test->mask[1]) ^ test->value[1]));
	if (equal != test->negated)
		packet->passed |= bit;
}

/* The tuple of the packet, for a lookup of its socket; returns its size. */
static __always_inline u32 xg_filter_tuple(const struct xg_filtering *packet, struct bpf_sock_tuple *tuple)
{
	__be16 source_port = bpf_htons(packet->key[XG_FIELD_SOURCE_PORT]);
	__be16 destination_port = bpf_htons(packet->key[XG_FIELD_DESTINATION_PORT]);

	if (packet->ip_version == 4) {
		tuple->ipv4.saddr = packet->source[0];
		tuple->ipv4.daddr = packet->destination[0];
		tuple->ipv4.sport = source_port;
		tuple->ipv4.dport = destination_port;
		return sizeof(tuple->ipv4);
	}
	((u64 *)tuple->ipv6.saddr)[0] = packet->source[0];
	((u64 *)tuple->ipv6.saddr)[1] = packet->source[1];
	((u64 *)tuple->ipv6.daddr)[0] = packet->destination[0];
	((u64 *)tuple->ipv6.daddr)[1] = packet->destination[1];
	tuple->ipv6.sport = source_port;
	tuple->ipv6.dport = destination_port;
	return sizeof(tuple->ipv6);
}

/* The state of the packet's socket; 0: there is none. Sockets of TCP and of UDP are of different types here. */
static __always_inline u32 xg_filter_tcp_state(struct xdp_md *ctx, struct bpf_sock_tuple *tuple, u32 size)
{
	struct bpf_sock *sock = bpf_skc_lookup_tcp(ctx, tuple, size, BPF_F_CURRENT_NETNS, 0);
	u32 state;

	if (!sock)
		return 0;
	state = sock->state;
	xg_hide(state);
	bpf_sk_release(sock);
	return state;
}

static __always_inline u32 xg_filter_udp_state(struct xdp_md *ctx, struct bpf_sock_tuple *tuple, u32 size)
{
	struct bpf_sock *sock = bpf_sk_lookup_udp(ctx, tuple, size, BPF_F_CURRENT_NETNS, 0);
	u32 state;

	if (!sock)
		return 0;
	state = sock->state;
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
	size = xg_filter_tuple(packet, tuple);
	if (packet->protocol == IPPROTO_UDP)
		return xg_filter_udp_state(ctx, tuple, size) == BPF_TCP_ESTABLISHED ? XG_STATE_ESTABLISHED
										    : XG_STATE_OTHER;
	state = xg_filter_tcp_state(ctx, tuple, size);
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
	row->packets++;
	row->bytes += length;
	if (limited) {
		row->limited_packets++;
		row->limited_bytes += length;
	}
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
}

/* The filter is a limit, and matches. */
static __always_inline void xg_filter_limit(struct xg_counters *counters, const struct xg_settings *settings,
					    const struct xg_filter *filter, struct xg_filtering *packet)
{
	bool within = xg_limit_take(filter, packet, settings->secrets);

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
	if (action == XG_FILTER_LIMIT) {
		packet->wants = XG_WANTS_LIMIT;
		return;
	}
	xg_filter_hit(filter->slot, packet->length, false);
	if (action != XG_FILTER_COUNT)
		xg_filter_decides(counters, filter, packet, action == XG_FILTER_PASS ? packet->then : XG_REASON_filter);
}

#endif
