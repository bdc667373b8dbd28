/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The SYN guard. Idle, it costs a TCP segment one read; a sample feeds the detector (flood.h). Active, it answers SYNs
 * without keeping state and drops what belongs to no connection. What it does to a packet it decides from the kernel's
 * own socket tables, so that established connections, and those the host opens, are never touched.
 */
#ifndef XG_STAGES_SYN_GUARD_H
#define XG_STAGES_SYN_GUARD_H

#include "../algo/hash.h"
#include "../algo/token_bucket.h"
#include "flood.h"
#include "syn_cookie.h"

static __always_inline bool xg_exempt(const struct xg_packet *packet, const struct xg_guard_policy *policy)
{
	u32 port = bpf_ntohs(packet->destination_port);

	return (policy->exempt_ports[port >> 6] >> (port & 63)) & 1;
}

/* The buckets of the packet's source prefix. */
static __always_inline struct xg_buckets *xg_buckets_of(const struct xg_packet *packet,
							const struct xg_guard_policy *policy, const u64 *secrets)
{
	u64 hash;
	u32 place;

	if (packet->ip_version == 4) {
		hash = xg_hash_word(secrets[0], packet->source.ipv4 & policy->mask4);
	} else {
		hash = xg_hash_word(secrets[1], packet->source.halves[0] & policy->mask6[0]);
		hash += xg_hash_word(secrets[2], packet->source.halves[1] & policy->mask6[1]);
	}
	place = (hash ^ hash >> 32) & (XG_BUCKETS - 1);
	return buckets.lookup(&place);
}

/*
 * A SYN that the kernel is to see, because nobody listens on its port or no cookie can be made: within its prefix's
 * rate, and for a closed port within that of the RSTs it costs.
 */
static __always_inline u32 xg_limit_syn(struct xg_guard *guard, const struct xg_guard_policy *policy,
					struct xg_buckets *mine, u64 now, bool closed)
{
	if (!xg_bucket_take(&mine->syns, now, &policy->syns))
		return XG_REASON_syn_rate;
	if (closed && !xg_bucket_take(&guard->resets, now, &policy->resets))
		return XG_REASON_syn_rate;
	return XG_NEXT;
}

/* What becomes of an initial SYN for this host, whose socket is a listener or none. */
static __always_inline u32 xg_decide_syn(struct xdp_md *ctx, const struct xg_packet *packet, struct bpf_sock *sock,
					 struct xg_guard *guard, const struct xg_guard_policy *policy,
					 const u64 *secrets, u64 now, struct xg_synack *answer)
{
	struct xg_buckets *mine = xg_buckets_of(packet, policy, secrets);

	if (!mine)
		return XG_NEXT;
	if (!sock)
		return xg_limit_syn(guard, policy, mine, now, true);
	if (policy->mode == XG_GUARD_OBSERVE || XG_OBSERVE)
		return XG_REASON_cookie_sent;
	if (!xg_answer_syn(ctx, packet, sock, policy, now, answer))
		return xg_limit_syn(guard, policy, mine, now, false);
	return xg_bucket_take(&mine->answers, now, &policy->answers) ? XG_REASON_cookie_sent : XG_REASON_syn_rate;
}

/* A SYN for an open or a closed port of this host, while the guard is active. */
static __always_inline u32 xg_guard_syn(struct xdp_md *ctx, const struct xg_packet *packet,
					struct xg_counters *counters, struct xg_guard *guard,
					const struct xg_guard_policy *policy, const u64 *secrets, u64 now)
{
	struct bpf_sock *sock = xg_socket(ctx, packet);
	struct xg_synack answer = {};
	u32 reason = XG_NEXT;

	/* A socket of this very tuple, in TIME_WAIT for instance: the kernel knows best. */
	if (sock && sock->state != XG_TCP_LISTEN) {
		bpf_sk_release(sock);
		return XG_NEXT;
	}
	if ((sock || !guard->pass_unknown) && !xg_forwarded(ctx, packet)) {
		counters->signs.syns++;
		reason = xg_decide_syn(ctx, packet, sock, guard, policy, secrets, now, &answer);
	}
	if (sock)
		bpf_sk_release(sock);
	if (reason != XG_REASON_cookie_sent || policy->mode == XG_GUARD_OBSERVE || XG_OBSERVE)
		return reason;
	return xg_write_frame(ctx, packet, &answer) ? XG_REASON_cookie_sent : XG_NEXT;
}

/* A segment that reaches a listener: the ACK that completes a handshake by cookie, or nothing at all. */
static __always_inline u32 xg_guard_cookie(struct xdp_md *ctx, const struct xg_packet *packet, struct bpf_sock *sock,
					   struct xg_counters *counters, const struct xg_guard_policy *policy,
					   const u64 *secrets, u64 now)
{
	struct xg_buckets *mine;
	long answer;

	if ((packet->tcp_flags & (XG_SYN | XG_RST | XG_ACK)) != XG_ACK)
		return XG_REASON_ack_unknown;
	answer = xg_check_cookie(ctx, sock, packet);
	if (answer)
		return answer == -2 /* ENOENT: this listener has sent none lately */ ? XG_REASON_ack_unknown
										     : XG_REASON_cookie_bad;
	counters->cookies_valid++;
	counters->signs.proved++;
	mine = xg_buckets_of(packet, policy, secrets);
	if (mine && !xg_bucket_take(&mine->connections, now, &policy->connections))
		return XG_REASON_syn_rate;
	return XG_NEXT;
}

/* Any other segment while the guard is active. */
static __always_inline u32 xg_guard_segment(struct xdp_md *ctx, const struct xg_packet *packet,
					    struct xg_counters *counters, struct xg_guard *guard,
					    const struct xg_guard_policy *policy, const u64 *secrets, u64 now)
{
	struct bpf_sock *sock = xg_socket(ctx, packet);
	u32 reason = XG_REASON_ack_unknown;

	if (sock) {
		if (sock->state != XG_TCP_LISTEN) {
			counters->signs.proved += sock->state == XG_TCP_NEW_SYN_RECV;
			bpf_sk_release(sock);
			return XG_NEXT;
		}
		reason = xg_guard_cookie(ctx, packet, sock, counters, policy, secrets, now);
		bpf_sk_release(sock);
		if (reason == XG_NEXT)
			return XG_NEXT;
	} else if (guard->pass_unknown) {
		return XG_NEXT;
	}
	if (xg_forwarded(ctx, packet))
		return XG_NEXT;
	counters->signs.strangers++;
	return reason;
}

static __always_inline u32 xg_guard_active(struct xdp_md *ctx, struct xg_packet *packet, struct xg_counters *counters,
					   struct xg_guard *guard, const struct xg_guard_policy *policy,
					   const u64 *secrets, u64 now)
{
	u32 reason;

	if (xg_exempt(packet, policy) || !xg_own_frame(ctx, guard))
		return XG_NEXT;
	if (xg_initial_syn(packet))
		reason = xg_guard_syn(ctx, packet, counters, guard, policy, secrets, now);
	else
		reason = xg_guard_segment(ctx, packet, counters, guard, policy, secrets, now);
	xg_active_signs(&counters->signs, guard, policy, now);
	if (policy->mode == XG_GUARD_OBSERVE)
		packet->observed = true;
	return reason;
}

static __always_inline u32 xg_syn_guard(struct xdp_md *ctx, struct xg_packet *packet, struct xg_counters *counters,
					const struct xg_settings *settings)
{
	u32 zero = 0, mask;
	const struct xg_guard_policy *policy;
	struct xg_guard *guard;
	u64 now;

	if (!xg_is_tcp_segment(packet))
		return XG_NEXT;
	guard = guards.lookup(&zero);
	if (!guard)
		return XG_NEXT;
	if (!guard->until) {
		/* The segment has been counted: every so many of its kind are looked at. */
		mask = (xg_initial_syn(packet) ? XG_SYN_SAMPLE : XG_SEGMENT_SAMPLE) - 1;
		if (counters->flag_sets[packet->tcp_flags] & mask)
			return XG_NEXT;
	}
	policy = guard_policy.lookup(&zero);
	if (!policy)
		return XG_NEXT;
	if (!guard->until) {
		xg_watch(ctx, packet, counters, guard, policy);
		return XG_NEXT;
	}
	now = xg_now_coarse();
	if (!xg_flood_goes_on(ctx, packet, counters, guard, now))
		return XG_NEXT;
	return xg_guard_active(ctx, packet, counters, guard, policy, settings->secrets, now);
}

#endif
