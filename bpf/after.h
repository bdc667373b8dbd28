/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Work done after the verdict that does not change it: shadow entries and samples of drops. It runs in a tail-called
 * program that is entered only when there is something to do, so that all other packets pay only for a test or two.
 */
#ifndef XG_AFTER_H
#define XG_AFTER_H

#include "drops.h"
#include "finish.h"
#include "maps.h"
#include "programs.h"
#include "stages/shadow.h"

/* Enters the other program if there is something to do. Returns only if there is not, or if that program is missing. */
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
