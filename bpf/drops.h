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

#define XG_WINDOW_SHIFT 27 /* a window in ns, as a power of two: 0.134 s */
#define XG_IDLE_SAMPLES 2  /* of a window, when nobody has asked for more */
#define XG_SESSIONS 0xff   /* of a window: whose it is */

/* What is written before it is written before what is written after it. */
#define xg_barrier() __asm__ __volatile__("" ::: "memory")

/* Takes the sample, and hands it on when somebody asked for it. */
static __always_inline void xg_sample(struct xdp_md *ctx, struct xg_counters *mine, struct xg_reason_counts *counts,
				      bool wanted, u32 reason, u32 length, bool observed, u64 now)
{
	void *frame = (void *)(long)ctx->data;
	u32 place = bpf_get_smp_processor_id() * XG_KEPT_CPU + (counts->samples & (XG_KEPT_CPU - 1));
	u32 index = reason * XG_KEPT + (place & (XG_KEPT - 1)), zero = 0;
	struct xg_drop *drop = kept.lookup(&index);
	const struct xg_guard *guard = guards.lookup(&zero);
	u64 there = ctx->data_end - ctx->data;

	if (!drop || !guard)
		return;
	drop->begun++;
	xg_barrier();
	drop->at = now;
	drop->link = guard->link;
	drop->length = length;
	drop->reason = reason;
	drop->observed = observed;
	drop->entry = reason == XG_REASON_deny ? mine->denied_entry : 0;
	drop->number = mine->denied_number;
	if (there > XG_DROP_FRAME)
		there = XG_DROP_FRAME;
	drop->captured = there;
	/* Copies from the packet without asking the verifier octet by octet. */
	if (bpf_probe_read_kernel(drop->frame, there, frame))
		drop->captured = 0;
	xg_barrier();
	drop->done = drop->begun;
	if (wanted && drops.ringbuf_output(drop, sizeof(*drop), 0))
		counts->lost++;
}

/* A packet is dropped, or would be, and counted already. */
static __always_inline void xg_dropped(struct xdp_md *ctx, struct xg_counters *mine, struct xg_reason_counts *counts,
				       u32 reason, u32 length, bool observed)
{
	u64 tick, now, window, until, session;
	struct xg_reader *reader;
	u32 zero = 0;
	bool wanted;

	reader = drop_reader.lookup(&zero);
	if (XG_PROBE || !reader)
		return;
	until = *(volatile u64 *)&reader->until;
	session = until ? reader->session & XG_SESSIONS : 0;
	/* What is not due yet is, when somebody has begun to ask since. */
	tick = xg_now_tick();
	if (tick < counts->due && (counts->window & XG_SESSIONS) == session)
		return;
	now = xg_now_boot();
	wanted = until > now;
	if (until && !wanted)
		__sync_val_compare_and_swap(&reader->until, until, 0);
	window = now >> XG_WINDOW_SHIFT << 8 | (wanted ? session : 0);
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
	xg_sample(ctx, mine, counts, wanted, reason, length, observed, now);
	counts->samples++;
}

#endif
