/* SPDX-License-Identifier: GPL-2.0 */
/*
 * NH, the universal hash of UMAC (RFC 4418, 5.2.2), over 64-bit words: each half is added to a secret, and the two
 * are multiplied. Without the secrets nobody can plan a collision; the multiplications do not wait for each other.
 */
#ifndef XG_ALGO_HASH_H
#define XG_ALGO_HASH_H

#include <linux/types.h>

/* One word's part of the hash; the parts are added up, each with a secret of its own. */
static __always_inline u64 xg_hash_word(u64 secret, u64 word)
{
	return (u64)(u32)(word + secret) * (u32)((word >> 32) + (secret >> 32));
}

#endif
