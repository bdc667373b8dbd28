/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The SYN guard. Idle, it costs a TCP segment one read; a sample feeds the detector (flood.h). Active, it answers SYNs
 * without keeping state and drops segments that belong to no connection. It decides from the kernel's own socket
 * tables, so that established connections, and those the host opens, are never touched.
 */
#ifndef XG_STAGES_SYN_GUARD_H
#define XG_STAGES_SYN_GUARD_H

#include "../algo/token_bucket.h"
#include "flight.h"
#include "flood.h"
#include "limits.h"
#include "local.h"
#include "peer.h"
#include "scan.h"
#include "whose.h"

static __always_inline bool xg_observes(const struct xg_guard_policy *policy)
{
	return XG_OBSERVE || policy->mode == XG_GUARD_OBSERVE;
}

/* A SYN's answer, where there is to be one: enum xg_answered. `sock` is the listener, or NULL. */
static __always_inline u32 xg_try_answer(struct xdp_md *ctx, struct xg_work *work, struct bpf_sock *sock,
					 const struct xg_guard *guard, const struct xg_guard_policy *policy, u64 now)
{
	if (!sock || guard->mute || !xg_answerable_source(&work->packet, guard))
		return XG_ANSWERED_NOT;
	return xg_observes(policy) ? XG_ANSWERED : xg_answer_syn(ctx, work, sock, policy, now);
}

/* An initial SYN while the guard is active. `sock` is the listener, or NULL. */
static __always_inline u32 xg_guard_syn(struct xdp_md *ctx, struct xg_work *work, struct bpf_sock *sock,
					struct xg_guard *guard, const struct xg_guard_policy *policy,
					const u64 *secrets, u64 now)
{
	u32 answered = xg_try_answer(ctx, work, sock, guard, policy, now);
	struct xg_buckets *mine;

	/* The buckets are read only if a rate needs them: that is nearly always a cache miss. */
	if (answered == XG_ANSWERED && !policy->answers.interval)
		return XG_REASON_cookie_sent;
	/* Anybody can send such options: all of these SYNs share one rate. */
	if (answered == XG_ANSWERED_BOUND)
		return xg_bucket_take(&guard->signed_syns, now, &policy->signed_syns) ? XG_NEXT : XG_REASON_syn_rate;
	mine = xg_buckets_of(&work->packet, policy, secrets);
	if (!mine)
		return XG_NEXT;
	if (answered == XG_ANSWERED_NOT)
		return xg_limit_syn(guard, policy, mine, now, !sock);
	return xg_bucket_take(&mine->answers, now, &policy->answers) ? XG_REASON_cookie_sent : XG_REASON_syn_rate;
}

/* Any other segment: the ACK that completes a cookie handshake, what directly follows it, or one of no connection. */
static __always_inline u32 xg_guard_segment(struct xdp_md *ctx, struct xg_work *work, struct bpf_sock *sock,
					    struct xg_counters *counters, const struct xg_guard *guard,
					    const struct xg_guard_policy *policy, const u64 *secrets, u64 now)
{
	const struct xg_packet *packet = &work->packet;
	struct xg_flight *flight;
	struct xg_buckets *mine;
	u64 hash;

	if (!sock)
		return XG_REASON_ack_unknown;
	hash = xg_tuple_hash(packet, secrets);
	flight = xg_flight_of(hash);
	if (xg_flight_proved(flight, hash, now))
		return XG_NEXT;
	if ((packet->tcp_flags & (XG_SYN | XG_RST | XG_ACK)) != XG_ACK)
		return XG_REASON_ack_unknown;
	if (xg_check_cookie(ctx, sock, packet)) {
		if (!guard->pass_unknown)
			return XG_REASON_cookie_bad;
		/* With translated addresses, the listener may belong to a proxy that never sees the connection. */
		counters->flood.unmatched++;
		return XG_NEXT;
	}
	counters->cookies_valid++;
	counters->flood.proved++;
	if (policy->connections.interval) {
		mine = xg_buckets_of(packet, policy, secrets);
		if (mine && !xg_bucket_take(&mine->connections, now, &policy->connections))
			return XG_REASON_syn_rate;
	}
	xg_flight_begins(flight, hash, now);
	return XG_NEXT;
}

/* A segment of a handshake that the kernel has begun: counts, once, the proof that its sender received the SYN-ACK. */
static __always_inline void xg_note_proof(struct xdp_md *ctx, const struct xg_packet *packet, struct bpf_sock *sock,
					  struct xg_counters *counters, const u64 *secrets, u64 now)
{
	struct xg_flight *flight;
	u64 hash;

	if (!xg_acknowledges(ctx, sock, packet))
		return;
	hash = xg_tuple_hash(packet, secrets);
	flight = xg_flight_of(hash);
	if (xg_flight_proved(flight, hash, now))
		return;
	xg_flight_begins(flight, hash, now);
	counters->flood.proved++;
}

/*
 * A segment that the kernel must judge: its owner may be somebody else (xg_may_be_anothers()), its destination is in no
 * table of local addresses, or the kernel holds its tuple for a handshake or a connection that is over. It passes, but
 * SYNs are limited: while the guard is active they share one rate, and count as a reason to stay active only when they
 * would begin a flood. So nobody can flood past the guard by repeating a few tuples.
 */
static __always_inline u32 xg_guard_foreign(struct xdp_md *ctx, struct xg_work *work, struct xg_counters *counters,
					    struct xg_guard *guard, const struct xg_guard_policy *policy, u64 now)
{
	if (!xg_initial_syn(&work->packet))
		return XG_NEXT;
	if (!guard->until) {
		xg_watch(ctx, work, counters, NULL, guard, policy, now);
		return XG_NEXT;
	}
	counters->flood.unmatched++;
	return xg_bucket_take(&guard->unknown, now, &policy->unknown) ? XG_NEXT : XG_REASON_syn_rate;
}

/* A segment for this host, with a listener as its socket or with none. XG_REASON_cookie_sent: send work->answer. */
static __always_inline u32 xg_guard_decide(struct xdp_md *ctx, struct xg_work *work, struct bpf_sock *sock,
					   struct xg_counters *counters, struct xg_guard *guard,
					   const struct xg_guard_policy *policy, const u64 *secrets, u64 now)
{
	const struct xg_packet *packet = &work->packet;
	u32 reason;

	if (!sock && xg_scan_asks(packet, guard, policy)) {
		reason = xg_scan(ctx, work, counters, guard, now);
		if (reason != XG_NEXT)
			return reason;
	}
	if (!guard->until) {
		xg_watch(ctx, work, counters, sock, guard, policy, now);
		return XG_NEXT;
	}
	if (xg_initial_syn(packet)) {
		counters->flood.syns++;
		return xg_guard_syn(ctx, work, sock, guard, policy, secrets, now);
	}
	reason = xg_guard_segment(ctx, work, sock, counters, guard, policy, secrets, now);
	counters->flood.unmatched += reason != XG_NEXT;
	return reason;
}

/* Decides about a packet that the guard had to see; `observed`: the guard does not act on it. */
static __always_inline u32 xg_syn_guard(struct xdp_md *ctx, struct xg_counters *counters,
					const struct xg_settings *settings, bool *observed)
{
	u32 zero = 0, reason = XG_NEXT;
	const struct xg_guard_policy *policy = guard_policy.lookup(&zero);
	struct xg_guard *guard = guards.lookup(&zero);
	struct xg_work *work = works.lookup(&zero);
	const u64 *secrets = settings->secrets;
	struct xg_packet *packet;
	struct bpf_sock *sock;
	u64 now = xg_now_coarse();
	bool active;
	u32 whose;

	if (!policy || !guard || !work)
		return XG_REASON_pass;
	packet = &work->packet;
	if (policy->mode == XG_GUARD_OFF || !xg_take_over(ctx, &counters->handover, packet) ||
	    xg_exempt(packet, policy) || !xg_own_frame(ctx, guard))
		return XG_REASON_pass;
	active = xg_flood_goes_on(ctx, packet, counters, guard, policy, now);
	if (active)
		xg_look_at_peer(ctx, guard, now);
	sock = xg_socket(ctx, packet, false);
	whose = xg_whose(ctx, work, sock, guard);
	if (whose == XG_KERNELS)
		reason = xg_guard_foreign(ctx, work, counters, guard, policy, now);
	else if (whose == XG_OURS)
		reason = xg_guard_decide(ctx, work, sock, counters, guard, policy, secrets, now);
	if (active && sock && sock->state == BPF_TCP_NEW_SYN_RECV)
		xg_note_proof(ctx, packet, sock, counters, secrets, now);
	if (sock)
		bpf_sk_release(sock);
	if (active)
		xg_count_active(&counters->flood, guard, policy, now);
	*observed = policy->mode == XG_GUARD_OBSERVE;
	if (reason == XG_REASON_cookie_sent && !xg_observes(policy) && !xg_write_frame(ctx, packet, &work->answer))
		reason = XG_NEXT;
	return reason == XG_NEXT ? XG_REASON_pass : reason;
}

#endif
