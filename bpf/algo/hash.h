/* SPDX-License-Identifier: GPL-2.0 */
/*
 * NH, the universal hash of UMAC (RFC 4418, 5.2.2), over 64-bit words: each half is added to a secret, and the two are
 * multiplied. Without the secrets nobody can construct a collision; the multiplications are independent of each other.
 */
#ifndef XG_ALGO_HASH_H
#define XG_ALGO_HASH_H

#include <linux/types.h>

/* One word's part of the hash; the parts are added up, each with a secret of its own. */
static __always_inline u64 xg_hash_word(u64 secret, u64 word)
{
	return (u64)(u32)(word + secret) * (u32)((word >> 32) + (secret >> 32));
}

/*
 * A multiplicative hash of two words (Knuth, TAOCP 6.4, with the multiplier chosen at random when a table is built):
 * 32 bits. Python does the same in xdpguard/dataplane/tables/index.py.
 */
static __always_inline u32 xg_hash_pair(u64 multiplier, u64 high, u64 low)
{
	u64 mixed = high * multiplier + low;

	mixed ^= mixed >> 32;
	mixed *= multiplier;
	return mixed >> 32;
}

/* Another hash, for a second place. */
static __always_inline u32 xg_hash_again(u32 hash)
{
	return (hash ^ hash >> 15) * 0x2c1b3c6du;
}

/* One of `count` places for a hash: the upper half of a product, which needs no division. */
static __always_inline u32 xg_hash_place(u32 hash, u32 count)
{
	return ((u64)hash * count) >> 32;
}

#endif
