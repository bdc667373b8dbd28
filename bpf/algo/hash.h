/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A 64-bit hash for table keys: one multiplication a word. The multiplier is 2^64 divided by the golden ratio, odd
 * (Knuth, The Art of Computer Programming 3, 6.4). Not cryptographic: the seed keeps collisions from being planned,
 * and whoever uses it compares what was hashed.
 */
#ifndef XG_ALGO_HASH_H
#define XG_ALGO_HASH_H

#include <linux/types.h>

#define XG_GOLDEN_RATIO 0x9e3779b97f4a7c15ull

static __always_inline u64 xg_hash_word(u64 hash, u64 word)
{
	hash = (hash ^ word) * XG_GOLDEN_RATIO;
	return hash ^ (hash >> 32);
}

#endif
