/* SPDX-License-Identifier: GPL-2.0 */
/* How many LRU entries a CPU may make in a second: see track.h. */
#ifndef XG_STAGES_BUDGET_H
#define XG_STAGES_BUDGET_H

#include "../clock.h"
#include "../config.h"
#include "../layouts/counts.h"

#define XG_SECOND 1000000000ull

/* Called only when an entry is to be made: the clock is not read otherwise. */
static __always_inline void xg_renew_budget(struct xg_budget *budget)
{
	u64 now = xg_now_coarse();

	if (now - budget->since < XG_SECOND)
		return;
	budget->since = now;
	budget->sources = 0;
	budget->tuples = 0;
}

/* Whether this second's number of new entries is made: the clock is read only when it seems so. */
static __always_inline bool xg_sources_used_up(struct xg_budget *budget)
{
	if (budget->sources < XG_NEW_SOURCES_PER_SECOND)
		return false;
	xg_renew_budget(budget);
	return budget->sources >= XG_NEW_SOURCES_PER_SECOND;
}

static __always_inline bool xg_tuples_used_up(struct xg_budget *budget)
{
	if (budget->tuples < XG_NEW_TUPLES_PER_SECOND)
		return false;
	xg_renew_budget(budget);
	return budget->tuples >= XG_NEW_TUPLES_PER_SECOND;
}

static __always_inline bool xg_may_add_source(struct xg_counters *counters)
{
	xg_renew_budget(&counters->budget);
	if (counters->budget.sources >= XG_NEW_SOURCES_PER_SECOND) {
		counters->sources_skipped++;
		return false;
	}
	counters->budget.sources++;
	return true;
}

/* There is room in this second, or the tuple would not have been looked up. */
static __always_inline void xg_take_tuple(struct xg_counters *counters)
{
	xg_renew_budget(&counters->budget);
	counters->budget.tuples++;
}

#endif
