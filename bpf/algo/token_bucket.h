/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A token bucket in one word: the generic cell rate algorithm in its form of virtual scheduling (ITU-T I.371, annex A).
 * The word is the theoretical arrival time of the next packet; a packet may come as much as the burst before it.
 */
#ifndef XG_ALGO_TOKEN_BUCKET_H
#define XG_ALGO_TOKEN_BUCKET_H

#include "../abi.h"
#include "../config.h"

/*
 * Takes a token. `now` in ns. CPUs share the word without a lock: tokens that two of them take at the same instant from
 * a full bucket may count once, which only ever makes the limit wider.
 */
static __always_inline bool xg_bucket_take(u64 *arrival, u64 now, const struct xg_rate *rate)
{
	u64 due = *arrival;

	if (!rate->interval)
		return true;
	/* The probe checks whether there is one, and leaves it there. */
	if (XG_PROBE)
		return due < now || due - now <= rate->burst;
	if (due < now) {
		*arrival = now + rate->interval;
		return true;
	}
	if (due - now > rate->burst)
		return false;
	__sync_fetch_and_add(arrival, rate->interval);
	return true;
}

#endif
