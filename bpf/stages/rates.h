/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Limits of filters: token buckets, as those of algo/token_bucket.h, of which a packet may take as much as it costs.
 *
 * One that all packets of a filter share has a word of its own. CPUs change it atomically, so that none of what they
 * take is lost however long one is delayed; two that look at the same instant may both see room for one more: over any
 * time a limit of rate R and burst B passes at most R * time + B, and one packet more a CPU.
 *
 * Those of sources stand in a table of fixed size, in sets of four. A source's place is in the set that its hash names,
 * and its word begins with 15 more bits of the hash. A source that is not there takes the place of the one whose bucket
 * is the fullest. So sources that come once, as in a spoofed flood, replace each other, cost no more than that one set,
 * and take nothing from a source that stays; the bucket of a source that is over its limit is the emptiest, and stays
 * unless four others of the same set are over theirs. The error: a source shares its bucket with each other one in its
 * set by a chance of 1 in 32,768, and an evicted source begins with a full bucket.
 *
 * Each limit has a part of the table to itself, so that sources of a slow one do not evict those of a fast one. It
 * keeps that part while other limits come and go: xdpguard/dataplane/tables/limitparts.py.
 */
#ifndef XG_STAGES_RATES_H
#define XG_STAGES_RATES_H

#include "../algo/hash.h"
#include "../clock.h"
#include "../filtermaps.h"
#include "../probe/filtering.h"
#include "../verifier.h"

#define XG_TICKS 4      /* a tick is a sixteenth of a ns, or twice that for each `tick_shift` */
#define XG_TIME_BITS 48 /* of a source's word; above them are those of its hash */
#define XG_TIME_MASK ((1ull << XG_TIME_BITS) - 1)
#define XG_HASH_FINAL 0x9e3779b97f4a7c15ull /* odd */

static __always_inline u64 xg_limit_now(const struct xg_filter *filter)
{
	u64 now = xg_probe_clock();

	if (!now)
		now = filter->precise ? xg_now_precise() : xg_now_coarse();
	return now << XG_TICKS >> (filter->tick_shift & 63);
}

static __always_inline u64 xg_limit_cost(const struct xg_filter *filter, u64 length)
{
	return ((filter->by_bytes ? length : 1) * filter->cost) >> (filter->cost_shift & 63);
}

/* Writes a bucket that was read as `before`. False: another CPU was faster, and `before` becomes what it wrote. */
static __always_inline bool xg_limit_begin(u64 *bucket, u64 *before, u64 after)
{
	u64 found = __sync_val_compare_and_swap(bucket, *before, after);
	bool same = found == *before;

	*before = found;
	return same;
}

/* Whether the bucket that all packets of the filter share has room. */
static __always_inline bool xg_limit_shared(const struct xg_filter *filter, u64 now, u64 cost)
{
	u32 slot = filter->slot;
	u64 *arrival = xg_probe_bucket(slot), due, ahead;

	if (!arrival)
		arrival = filter_buckets.lookup(&slot);
	if (!arrival)
		return true;
	due = *(volatile u64 *)arrival;
	ahead = due > now ? due - now : 0;
	if (ahead + cost > filter->burst)
		return false;
	if (xg_probe_only_looks())
		return true;
	/* A full bucket begins now, on one CPU; what the others take at that moment comes on top. */
	if (ahead || !xg_limit_begin(arrival, &due, now + cost))
		__sync_fetch_and_add(arrival, cost);
	return true;
}

static __always_inline u64 xg_limit_hash(const struct xg_filter *filter, const struct xg_filtering *packet,
					 const u64 *secrets)
{
	u64 other = filter->slot, hash;

	if (filter->per == XG_PER_SOURCE_AND_PORT)
		other |= (u64)packet->key[XG_FIELD_DESTINATION_PORT] << 32 | (u64)packet->protocol << 24;
	hash = xg_hash_word(secrets[3], other);
	if (packet->ip_version == 4) {
		hash += xg_hash_word(secrets[0], (u32)packet->source[0] & filter->mask4);
	} else {
		hash += xg_hash_word(secrets[1], packet->source[0] & filter->mask6[0]);
		hash += xg_hash_word(secrets[2], packet->source[1] & filter->mask6[1]);
	}
	return (hash ^ hash >> 32) * XG_HASH_FINAL;
}

/*
 * How far a bucket's time is ahead, ticks; 0: it is full, as its time is behind. Times go round: what is too far ahead
 * is behind. What is just beyond the burst is what several CPUs took at the same instant.
 */
static __always_inline u64 xg_limit_ahead(u64 word, u64 now, u64 burst)
{
	u64 ahead = (word - now) & XG_TIME_MASK, beyond = (2 * burst - ahead) >> 63;

	xg_hide(beyond);
	return ahead & (beyond - 1);
}

/* Which of four: that of the source, or else the one that is the least ahead. */
static __always_inline u32 xg_limit_place(const struct xg_filter_buckets *set, u64 tag, u64 now, u64 burst)
{
	u64 best = ~0ull >> 1, score, word, other, better;
	int i;

#pragma unroll
	for (i = 0; i < 4; i++) {
		word = *(volatile u64 *)&set->word[i];
		score = (xg_limit_ahead(word, now, burst) + 1) << 3;
		other = ~xg_same(word >> XG_TIME_BITS, tag);
		/* Hidden, so that none of it becomes a branch: the verifier would follow each combination of ways
		 * through this loop. */
		xg_hide(other);
		score = (score & other) | i;
		xg_hide(score);
		better = (score - best) >> 63;
		xg_hide(better);
		best ^= (best ^ score) & (0 - better);
	}
	return best & 3;
}

/* Whether the bucket of the packet's source has room. */
static __always_inline bool xg_limit_source(const struct xg_filter *filter, const struct xg_filtering *packet,
					    const u64 *secrets, u64 now, u64 cost)
{
	u64 hash = xg_limit_hash(filter, packet, secrets), tag = hash >> XG_TIME_BITS | 1, ahead = 0;
	u32 place = filter->sets_at + ((u32)(hash >> 16) & filter->sets_mask);
	struct xg_filter_buckets *set = xg_probe_source_buckets(place);
	u64 *word, before, after;

	if (!set)
		set = source_buckets.lookup(&place);
	if (!set)
		return true;
	word = &set->word[xg_limit_place(set, tag, now, filter->burst)];
	before = *(volatile u64 *)word;
	if (before >> XG_TIME_BITS == tag)
		ahead = xg_limit_ahead(before, now, filter->burst);
	if (ahead + cost > filter->burst)
		return false;
	if (xg_probe_only_looks())
		return true;
	after = tag << XG_TIME_BITS | ((now + ahead + cost) & XG_TIME_MASK);
	/* As above; but a sum must not carry into the bits of the hash, nor be added for a source that came first. */
	if ((ahead && after > before) || (!xg_limit_begin(word, &before, after) && before >> XG_TIME_BITS == tag))
		__sync_fetch_and_add(word, cost);
	return true;
}

/* Takes what the packet costs from its bucket. False: it is over the limit, and takes nothing. */
static __always_inline bool xg_limit_take(const struct xg_filter *filter, const struct xg_filtering *packet,
					  const u64 *secrets)
{
	u64 now = xg_limit_now(filter), cost = xg_limit_cost(filter, packet->length);

	if (filter->per == XG_PER_FILTER)
		return xg_limit_shared(filter, now, cost);
	return xg_limit_source(filter, packet, secrets, now, cost);
}

#endif
