/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What is done after the verdict, and changes nothing of it: shadow entries, samples of drops. It is a program of its
 * own, entered only where there is something to do: so the others pay a test or two.
 */
#ifndef XG_AFTER_H
#define XG_AFTER_H

#include "drops.h"
#include "finish.h"
#include "maps.h"
#include "programs.h"
#include "stages/shadow.h"

/* Hands over where there is something to do; comes back only where there is not, or the other program is missing. */
static __always_inline void xg_go_on(struct xdp_md *ctx, struct xg_counters *counters,
				     const struct xg_settings *settings, u32 length, u32 reason, u32 verdict)
{
	if (!counters->after.sample && !(settings->shadow && xg_shadow_asks(reason)))
		return;
	counters->after.verdict = verdict;
	counters->after.length = length;
	programs.call(ctx, XG_PROGRAM_AFTER);
}

static __always_inline void xg_do_after(struct xdp_md *ctx, struct xg_counters *counters,
					const struct xg_settings *settings, const struct xg_after *after)
{
	if (!XG_PROBE && after->sample)
		xg_sample(ctx, counters, after);
	if (settings->shadow && xg_shadow_asks(after->reason))
		xg_shadow(ctx, counters, settings, after);
}

#endif
