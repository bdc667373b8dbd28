/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The candidates of a packet, one after the other, until one decides. The search goes on in short turns, whose state
 * stands in struct xg_filtering, so that the program can be entered again for what is left.
 */
#ifndef XG_STAGES_TURNS_H
#define XG_STAGES_TURNS_H

#include "candidates.h"

/*
 * Turns before the program is entered again, of the 33 tail calls that the kernel allows. 28 of them suffice: a turn
 * for each word, each filter, each limit, each test of bytes, and one for the state.
 */
#define XG_FILTER_TURNS 60
#define XG_FILTER_LIMITS 512 /* of a set */

_Static_assert(28 * XG_FILTER_TURNS > XG_FILTER_WORDS + XG_FILTERS + XG_FILTER_LIMITS + 64 + 1,
	       "some filters would never be asked");

/* The next word of candidates; without one, no filter has decided. */
static __always_inline void xg_filter_next(const struct xg_filter_head *head, struct xg_filtering *packet)
{
	u32 words = packet->words, word;

	if (!words) {
		packet->outcome = packet->then;
		return;
	}
	word = xg_filter_lowest(head, words);
	packet->words = words & (words - 1);
	packet->first = word * 64;
	packet->candidates = packet->word[xg_within(word, XG_FILTER_WORDS)];
}

static __always_inline const struct xg_filter *xg_filter_of(void *set, u32 number)
{
	const struct xg_filter_head *head = set;

	return xg_set_low(set, head->filters + number * (u64)sizeof(struct xg_filter));
}

/* A candidate: asks its tests of bytes, or lets it match. */
static __always_inline void xg_filter_candidate(struct xdp_md *ctx, struct xg_counters *counters, void *set,
						struct xg_filtering *packet)
{
	const struct xg_filter *filter;
	u64 candidates = packet->candidates, missing;

	packet->filter = packet->first + xg_filter_lowest(set, candidates);
	filter = xg_filter_of(set, packet->filter);
	missing = filter->bytes & ~packet->tested;
	if (missing) {
		xg_filter_test(ctx, set, missing, packet);
		return;
	}
	if (filter->state && !packet->state) {
		packet->wants = XG_WANTS_STATE;
		return;
	}
	packet->candidates = candidates & (candidates - 1);
	if ((filter->bytes & ~packet->passed) || (filter->state && filter->state != packet->state))
		return;
	xg_filter_matches(counters, filter, packet);
}

/*
 * One step: what the last one found to be wanted, a candidate, or the next word. What is long is a turn of its own, as
 * the verifier then follows it once, not from each place that leads there.
 */
static __always_inline void xg_filter_turn(struct xdp_md *ctx, struct xg_counters *counters,
					   const struct xg_settings *settings, void *set, struct xg_filtering *packet)
{
	u32 wants = packet->wants;

	if (wants) {
		packet->wants = XG_WANTS_NOTHING;
		if (wants == XG_WANTS_STATE)
			packet->state = xg_filter_socket_state(ctx, packet);
		else
			xg_filter_limit(counters, settings, xg_filter_of(set, packet->filter), packet);
	} else if (packet->candidates) {
		xg_filter_candidate(ctx, counters, set, packet);
	} else {
		xg_filter_next(set, packet);
	}
}

#endif
