/* SPDX-License-Identifier: GPL-2.0 */
/*
 * When a flood begins and ends, decided here so that no controller is needed.
 *
 * It begins when a listener's queue is full (the kernel's own criterion), or when a window brings more SYNs, or more
 * segments of no connection, than the policy allows. While the guard is idle it examines only a sample. It continues
 * while handshakes stay unproved; SYNs that do complete are a rush, not a flood, and raise the threshold for the next
 * time.
 */
#ifndef XG_STAGES_FLOOD_H
#define XG_STAGES_FLOOD_H

#include "../clock.h"
#include "events.h"
#include "socket.h"
#include "wanted.h"

#define XG_ALWAYS (~0ull)
#define XG_FLOOD_BATCH 32 /* a CPU's counts are added to the common ones so many at a time */

static __always_inline void xg_new_window(struct xg_guard *guard, u64 now)
{
	guard->window_began = now;
	guard->syns = 0;
	guard->unmatched = 0;
	guard->proved = 0;
}

static __always_inline void xg_flood_begins(struct xdp_md *ctx, const struct xg_packet *packet,
					    struct xg_counters *counters, struct xg_guard *guard,
					    const struct xg_guard_policy *policy, u64 now, u32 cause)
{
	guard->cause = cause;
	guard->port = bpf_ntohs(packet->destination_port);
	guard->began = now;
	guard->floods++;
	xg_new_window(guard, now);
	guard->until = now + policy->hold;
	xg_send_event(ctx, packet, counters, XG_EVENT_FLOOD_BEGINS, now, cause);
}

/* A window of an active guard is over: does the flood continue? */
static __always_inline void xg_judge_window(struct xg_guard *guard, const struct xg_guard_policy *policy, u64 now)
{
	u64 unproved = guard->syns > guard->proved ? guard->syns - guard->proved : 0;
	/* A quiet window is judged late, and then stands for several. */
	u64 windows = (now - guard->window_began) / (policy->window | 1);

	if (!windows)
		windows = 1;
	if ((unproved / windows >= policy->unproved && unproved > guard->syns / 4) ||
	    guard->unmatched / windows >= policy->flood / 2)
		guard->until = now + policy->hold;
	else if (guard->syns / windows >= policy->flood)
		guard->calm = guard->syns / windows;
}

/* Adds what this CPU has seen while the guard is active to the shared counts, a batch at a time. */
static __always_inline void xg_count_active(struct xg_flood_counts *counts, struct xg_guard *guard,
					    const struct xg_guard_policy *policy, u64 now)
{
	if (XG_PROBE || counts->syns + counts->unmatched < XG_FLOOD_BATCH)
		return;
	__sync_fetch_and_add(&guard->syns, counts->syns);
	__sync_fetch_and_add(&guard->unmatched, counts->unmatched);
	__sync_fetch_and_add(&guard->proved, counts->proved);
	counts->syns = 0;
	counts->unmatched = 0;
	counts->proved = 0;
	if (now - guard->window_began < policy->window || guard->until == XG_ALWAYS)
		return;
	xg_judge_window(guard, policy, now);
	xg_new_window(guard, now);
}

/* While idle: counts a sample of the size that stands for it. Returns the cause, if this makes a flood. */
static __always_inline u32 xg_count_idle(struct xg_guard *guard, const struct xg_guard_policy *policy, u64 now,
					 bool syn)
{
	if (now - guard->window_began >= policy->window) {
		if (guard->syns < policy->flood / 2)
			guard->calm = 0;
		xg_new_window(guard, now);
	}
	if (syn) {
		__sync_fetch_and_add(&guard->syns, XG_SYN_SAMPLE);
		return guard->syns >= policy->flood && guard->syns >= guard->calm * 2 ? XG_CAUSE_SYNS : XG_CAUSE_NONE;
	}
	__sync_fetch_and_add(&guard->unmatched, XG_SEGMENT_SAMPLE);
	return guard->unmatched >= policy->flood ? XG_CAUSE_UNMATCHED : XG_CAUSE_NONE;
}

/* The kernel's own criterion: inet_csk_reqsk_queue_is_full(). */
static __always_inline bool xg_queue_full(struct bpf_sock *sock, struct xg_listener *listener)
{
	return xg_read_listener(sock, listener) && listener->full;
}

/* Looks at one sampled segment while the guard is idle: its socket is a listener or none. */
static __always_inline void xg_watch(struct xdp_md *ctx, struct xg_work *work, struct xg_counters *counters,
				     struct bpf_sock *sock, struct xg_guard *guard,
				     const struct xg_guard_policy *policy, u64 now)
{
	const struct xg_packet *packet = &work->packet;
	bool syn = xg_initial_syn(packet);
	u32 cause;

	/*
	 * Neither a packet that the probe is asked about, nor one seen only because its source is suspect (scan.h), is
	 * a sign of a flood.
	 */
	if (XG_PROBE || !packet->sampled)
		return;
	cause = xg_count_idle(guard, policy, now, syn);
	if (syn && sock && xg_queue_full(sock, &work->listener))
		cause = XG_CAUSE_QUEUE;
	if (cause != XG_CAUSE_NONE)
		xg_flood_begins(ctx, packet, counters, guard, policy, now, cause);
}

/* Whether the guard is active. The first packet after the end ends it. */
static __always_inline bool xg_flood_goes_on(struct xdp_md *ctx, const struct xg_packet *packet,
					     struct xg_counters *counters, struct xg_guard *guard,
					     const struct xg_guard_policy *policy, u64 now)
{
	if (guard->until == XG_ALWAYS ? policy->mode == XG_GUARD_ALWAYS : now < guard->until)
		return true;
	if (!guard->until)
		return false;
	guard->until = 0;
	xg_new_window(guard, now);
	xg_send_event(ctx, packet, counters, XG_EVENT_FLOOD_ENDS, now, guard->cause);
	return false;
}

#endif
