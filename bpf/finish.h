/* SPDX-License-Identifier: GPL-2.0 */
/* The only exit: counts the packet. */
#ifndef XG_FINISH_H
#define XG_FINISH_H

#include "drops.h"
#include "packet.h"
#include "probe/probe.h"
#include "verdict.h"
#include "verifier.h"

/*
 * Counts the packet exactly once and returns its verdict. `observed`: the stage that decided only observes. Passed by
 * value: a pointer to the packet here would keep the compiler from holding it in registers.
 */
static __always_inline int xg_finish(struct xg_counters *counters, u32 length, bool observed, u32 reason)
{
	struct xg_reason_counts *counts;
	int verdict = xg_verdict(reason);
	bool dropped = verdict == XDP_DROP;

	/* The verifier cannot know that a stage never returns XG_NEXT here. */
	counts = &counters->reasons[xg_within(reason, XG_REASON_SLOTS)];
	counters->after.sample = XG_SAMPLE_NONE;
	if ((XG_OBSERVE || observed) && verdict != XDP_PASS) {
		counts->observed_packets++;
		counts->observed_bytes += length;
		if (dropped && xg_sample_due(counts, reason))
			counters->after.sample = XG_SAMPLE_OBSERVED;
		xg_probe_finish(reason, XDP_PASS, true);
		return XDP_PASS;
	}
	counts->packets++;
	counts->bytes += length;
	if (dropped && xg_sample_due(counts, reason))
		counters->after.sample = XG_SAMPLE_DROPPED;
	xg_probe_finish(reason, verdict, false);
	return verdict;
}

#endif
