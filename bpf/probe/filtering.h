/* SPDX-License-Identifier: GPL-2.0 */
/* What the probe notes of filters, and the limits of filters on a clock that is not the kernel's: see probe.h. */
#ifndef XG_PROBE_FILTERING_H
#define XG_PROBE_FILTERING_H

#include "../verdict.h"
#include "probe.h"

/* A filter matches; `limited`: the packet is above its limit. */
static __always_inline void xg_count_match(struct xg_filter_hits *row, u32 length, bool limited)
{
	row->packets++;
	row->bytes += length;
	if (limited) {
		row->limited_packets++;
		row->limited_bytes += length;
	}
}

#if XG_PROBE

/*
 * Slot -> what a filter matched since Python cleared it; and the token buckets of limits on the clock of struct
 * xg_probe_state.
 */
BPF_F_TABLE("array", u32, struct xg_filter_hits, probe_filters, XG_FILTER_SLOTS, BPF_F_MMAPABLE);
BPF_TABLE("array", u32, u64, probe_buckets, XG_FILTER_SLOTS);
BPF_TABLE("array", u32, struct xg_filter_buckets, probe_source_buckets, XG_FILTER_SETS);

static __always_inline void xg_probe_matched(u32 slot, u32 length, bool limited)
{
	struct xg_filter_hits *row = probe_filters.lookup(&slot);

	if (row)
		xg_count_match(row, length, limited);
}

/* A filter in shadow would decide, and drop the packet for that reason unless it is a reason to pass. */
static __always_inline void xg_probe_shadow_filter(u32 slot, u32 reason)
{
	struct xg_probe_answer *answer = xg_probe_this_answer();

	if (answer && !answer->shadow_filter && (reason == XG_REASON_filter || reason == XG_REASON_filter_limit))
		answer->shadow_filter = slot + 1;
}

/* The clock of limits, ns; 0: the kernel's. */
static __always_inline u64 xg_probe_clock(void)
{
	u32 zero = 0;
	struct xg_probe_state *state = probe_state.lookup(&zero);

	return state ? state->clock : 0;
}

/* Whether limits only say whether they have room. */
static __always_inline bool xg_probe_only_looks(void)
{
	return !xg_probe_clock();
}

static __always_inline u64 *xg_probe_bucket(u32 slot)
{
	return xg_probe_clock() ? probe_buckets.lookup(&slot) : NULL;
}

static __always_inline struct xg_filter_buckets *xg_probe_source_buckets(u32 place)
{
	return xg_probe_clock() ? probe_source_buckets.lookup(&place) : NULL;
}

#else

static __always_inline void xg_probe_matched(u32 slot, u32 length, bool limited)
{
}

static __always_inline void xg_probe_shadow_filter(u32 slot, u32 reason)
{
}

static __always_inline u64 xg_probe_clock(void)
{
	return 0;
}

static __always_inline bool xg_probe_only_looks(void)
{
	return false;
}

static __always_inline u64 *xg_probe_bucket(u32 slot)
{
	return NULL;
}

static __always_inline struct xg_filter_buckets *xg_probe_source_buckets(u32 place)
{
	return NULL;
}

#endif

#endif
