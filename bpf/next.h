/* SPDX-License-Identifier: GPL-2.0 */
/* Where a packet goes from one program: to the next that must see it, or to its end. */
#ifndef XG_NEXT_H
#define XG_NEXT_H

#include "after.h"
#include "finish.h"
#include "programs.h"
#include "stages/wanted.h"

/* Asks the filters about a packet that passes, or is the SYN guard's, as far as the stages before them are concerned.
 */
static __always_inline void xg_ask_filters(struct xdp_md *ctx, struct xg_counters *mine, u32 reason)
{
	if (reason != XG_NEXT && reason != XG_REASON_pass && reason != XG_REASON_fragment)
		return;
	mine->filtering.then = reason;
	mine->filtering.resumed = 0;
	mine->filtering.counted = 0;
	programs.call(ctx, XG_PROGRAM_FILTERS);
}

/* Asks the default, unless a filter has passed the packet, and the guard, if that must see it; then nobody objects. */
static __always_inline u32 xg_ask_next(struct xdp_md *ctx, struct xg_counters *mine, const struct xg_settings *settings)
{
	if (xg_default_wanted(settings) && !mine->handover.admitted)
		programs.call(ctx, XG_PROGRAM_DEFAULT);
	if (mine->handover.wanted)
		programs.call(ctx, XG_PROGRAM_GUARD);
	return mine->handover.later_fragment ? XG_REASON_fragment : XG_REASON_pass;
}

/* Counts the packet and ends it, here or in the program that does the remaining work. */
static __always_inline int xg_end(struct xdp_md *ctx, struct xg_counters *mine, const struct xg_settings *rules,
				  u32 length, bool observed, u32 reason)
{
	u32 verdict;

	/* Through memory: from here on the verifier follows one path, not all that lead here. */
	mine->after.reason = reason;
	mine->after.observed = observed;
	xg_barrier();
	reason = mine->after.reason;
	observed = mine->after.observed;
	verdict = xg_finish(mine, length, observed, reason);
	xg_go_on(ctx, mine, rules, length, reason, verdict);
	return verdict;
}

#endif
