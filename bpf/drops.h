/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Samples of what is dropped, for people to see: of each reason its own, so that a flood of one does not hide another.
 *
 * On each CPU each reason may give so many samples in a window of an eighth of a second; what is over that is counted
 * only, by the reason's counters. The last ones stay in a map of the interface, always. Who wants to hear of each in
 * turn asks for them for the next few seconds, and then they go into a ring as well. Nothing here ever waits. When a
 * window has given all its samples, the clock is read again at the next tick: until then a drop pays for two
 * comparisons, and however many there were, the first one of a later window is sampled.
 */
#ifndef XG_DROPS_H
#define XG_DROPS_H

#include "abi.h"
#include "clock.h"
#include "config.h"
#include "maps.h"
#include "probe/probe.h"
#include "verdict.h"
#include "verifier.h"

#define XG_WINDOW_SHIFT 27 /* a window in ns, as a power of two: 0.134 s */
#define XG_IDLE_SAMPLES 2  /* of a window, when nobody has asked for more */
#define XG_SESSIONS 0xff   /* of a window: whose it is */

/* Whose samples of that reason are; 0: nobody has asked for them. */
static __always_inline u32 xg_session(const struct xg_reader *reader, u32 reason)
{
	return reader->reasons >> (reason & 31) & 1 ? reader->session & XG_SESSIONS : 0;
}

/* Whether a drop may give a sample; which is not much to ask, as it is asked for each. */
static __always_inline bool xg_sample_due(const struct xg_reason_counts *counts, u32 reason)
{
	struct xg_reader *reader;
	u32 zero = 0;

	if (XG_PROBE)
		return false;
	reader = drop_reader.lookup(&zero);
	if (!reader)
		return false;
	/* What is not due yet is, when somebody has begun to ask since. */
	return xg_now_tick() >= counts->due ||
	       (counts->window & XG_SESSIONS) != (reader->until ? xg_session(reader, reason) : 0);
}

/* The sample's place among those that are kept; a CPU that was plugged in later has none. */
static __always_inline struct xg_drop *xg_sample_place(u32 reason, u64 number)
{
	u32 cpu = bpf_get_smp_processor_id();
	u32 index = (reason * XG_MAX_CPUS + cpu) * XG_KEPT + xg_within(number, XG_KEPT);

	return cpu < XG_MAX_CPUS ? kept.lookup(&index) : NULL;
}

/* Copies the packet's first bytes; returns how many. */
static __always_inline u32 xg_copy_frame(struct xdp_md *ctx, struct xg_drop *drop)
{
	u64 there = ctx->data_end - ctx->data;

	if (there > XG_DROP_FRAME)
		there = XG_DROP_FRAME;
	/* Provably 1 to XG_DROP_FRAME: see verifier.h. */
	there = xg_within(there - 1, XG_DROP_FRAME) + 1;
#if XG_LOAD_BYTES
	return bpf_xdp_load_bytes(ctx, 0, drop->frame, there) ? 0 : there;
#else
	return bpf_probe_read_kernel(drop->frame, there, (void *)(long)ctx->data) ? 0 : there;
#endif
}

/* Takes the sample, and hands it on when somebody asked for it. */
static __always_inline void xg_take_sample(struct xdp_md *ctx, struct xg_counters *mine,
					   struct xg_reason_counts *counts, const struct xg_after *after, bool wanted,
					   u64 now)
{
	struct xg_drop *drop = xg_sample_place(after->reason, counts->samples);
	const struct xg_guard *guard;
	u32 zero = 0;

	guard = guards.lookup(&zero);
	if (!drop || !guard)
		return;
	drop->begun++;
	xg_barrier();
	drop->at = now;
	drop->link = guard->link;
	drop->length = after->length;
	drop->reason = after->reason;
	drop->observed = after->sample == XG_SAMPLE_OBSERVED;
	drop->entry = after->reason == XG_REASON_deny ? mine->denied_entry : 0;
	drop->number = mine->denied_number;
	drop->captured = xg_copy_frame(ctx, drop);
	xg_barrier();
	drop->done = drop->begun;
	counts->samples++;
	if (wanted && drops.ringbuf_output(drop, sizeof(*drop), 0))
		counts->lost++;
}

/* A packet was dropped, or would have been, and may give a sample. */
static __always_inline void xg_sample(struct xdp_md *ctx, struct xg_counters *mine, const struct xg_after *after)
{
	struct xg_reason_counts *counts = &mine->reasons[xg_within(after->reason, XG_REASON_SLOTS)];
	u64 tick = xg_now_tick(), now = xg_now_boot(), until, window, session;
	struct xg_reader *reader;
	u32 zero = 0;
	bool wanted;

	reader = drop_reader.lookup(&zero);
	if (!reader)
		return;
	until = *(volatile u64 *)&reader->until;
	/* The reader no longer exists. One that begins at this very moment asks again within a second. */
	if (until && until <= now)
		reader->until = 0;
	session = until > now ? xg_session(reader, after->reason) : 0;
	wanted = session != 0;
	window = now >> XG_WINDOW_SHIFT << 8 | session;
	if (counts->window != window) {
		counts->window = window;
		counts->due = 0;
		counts->left = wanted ? reader->samples : XG_IDLE_SAMPLES;
	}
	if (!counts->left) {
		counts->due = tick + 1;
		return;
	}
	counts->left--;
	xg_take_sample(ctx, mine, counts, after, wanted, now);
}

#endif
