/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Samples of dropped packets for people to look at, separate for each reason, so that a flood of one does not hide
 * another.
 *
 * On each CPU, each reason may give a fixed number of samples in a window of an eighth of a second; anything beyond
 * that is only counted, by the reason's counters. The latest samples always stay in a map of the interface. A reader
 * that wants to see each one in turn asks for them for the next few seconds, and during that time they go into a ring
 * as well. Nothing here ever waits. When a window has given all its samples, the clock is read again at the next tick:
 * until then a drop costs two comparisons, and however many there were, the first one of a later window is sampled.
 */
#ifndef XG_DROPS_H
#define XG_DROPS_H

#include "abi.h"
#include "clock.h"
#include "config.h"
#include "maps.h"
#include "probe/probe.h"
#include "read.h"
#include "verdict.h"
#include "verifier.h"

#define XG_WINDOW_SHIFT 27 /* a window in ns, as a power of two: 0.134 s */
#define XG_IDLE_SAMPLES 2  /* of a window, when nobody has asked for more */
/* Reasons of which the entry is named. */
#define XG_NAMED (1u << XG_REASON_deny | 1u << XG_REASON_filter | 1u << XG_REASON_filter_limit)
#define XG_SESSIONS 0xff /* of a window: whose it is */

/* Whose samples of that reason are; 0: nobody has asked for them. */
static __always_inline u32 xg_session(const struct xg_reader *reader, u32 reason)
{
	return reader->reasons >> (reason & 31) & 1 ? reader->session & XG_SESSIONS : 0;
}

/* Whether a drop may give a sample. This must be cheap, because it is asked for every drop. */
static __always_inline bool xg_sample_due(const struct xg_reason_counts *counts, u32 reason)
{
	struct xg_reader *reader;
	u32 zero = 0;

	if (XG_PROBE)
		return false;
	reader = drop_reader.lookup(&zero);
	if (!reader)
		return false;
	/* A sample that is not due yet becomes due when somebody has asked for samples since. */
	return xg_now_tick() >= counts->due ||
	       (counts->window & XG_SESSIONS) != (reader->until ? xg_session(reader, reason) : 0);
}

/* The slot of the sample among those that are kept; a CPU that was plugged in later has none. */
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
	return xg_read_kernel(drop->frame, there, (void *)(long)ctx->data) ? 0 : there;
#endif
}

/* Takes the sample, and passes it on if somebody asked for it. */
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
	drop->entry = (XG_NAMED >> (after->reason & 31)) & 1 ? mine->denied_entry : 0;
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
