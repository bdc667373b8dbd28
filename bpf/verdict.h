/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Reasons, the verdict each one carries, and the only exit. A stage returns a reason, or XG_NEXT:
 * "go on to the next stage", which is no XDP verdict.
 */
#ifndef XG_VERDICT_H
#define XG_VERDICT_H

#include "abi.h"
#include "config.h"
#include "packet.h"
#include "probe/probe.h"

enum xg_reason {
#define XG_REASON(name, number, action, help) XG_REASON_##name = number,
#include "reasons.def"
#undef XG_REASON
	XG_REASON_COUNT,
	XG_NEXT = 0xff,
};

_Static_assert(XG_REASON_COUNT <= XG_REASON_SLOTS, "reasons.def has outgrown struct xg_counters");

#define XG_BIT_PASS(number) 0u
#define XG_BIT_TX(number) 0u
#define XG_BIT_DROP(number) (1u << (number))

/* The reasons that drop, one bit each. */
#define XG_REASON(name, number, action, help) | XG_BIT_##action(number)
enum {
	XG_DROPPING = 0
#include "reasons.def"
};
#undef XG_REASON

static __always_inline int xg_verdict(u32 reason)
{
	if (reason == XG_REASON_cookie_sent)
		return XDP_TX;
	return ((u32)XG_DROPPING >> (reason & 31)) & 1 ? XDP_DROP : XDP_PASS;
}

/*
 * Counts the packet, exactly once, and returns its verdict. `observed`: the stage that decided does not act. By value:
 * a pointer to the packet here would keep the compiler from holding it in registers.
 */
static __always_inline int xg_finish(struct xg_counters *counters, u32 length, bool observed, u32 reason)
{
	struct xg_reason_counts *counts;
	int verdict = xg_verdict(reason);

	/* An unsigned index below the bound; the verifier cannot know that a stage never returns XG_NEXT here. */
	counts = &counters->reasons[reason & (XG_REASON_SLOTS - 1)];
	if ((XG_OBSERVE || observed) && verdict != XDP_PASS) {
		counts->observed_packets++;
		counts->observed_bytes += length;
		xg_probe_finish(reason, XDP_PASS, true);
		return XDP_PASS;
	}
	counts->packets++;
	counts->bytes += length;
	xg_probe_finish(reason, verdict, false);
	return verdict;
}

#endif
