/* SPDX-License-Identifier: GPL-2.0 */
/* The Internet checksum (RFC 1071), over words that are in registers already. */
#ifndef XG_ALGO_CHECKSUM_H
#define XG_ALGO_CHECKSUM_H

#include <linux/types.h>

/*
 * Adds four 32-bit words; the order of bytes in them does not matter as long as it is that of the packet. Written out,
 * because a loop over them would keep the compiler from holding their struct in registers.
 */
static __always_inline u64 xg_sum4(const u32 *words)
{
	return (u64)words[0] + words[1] + words[2] + words[3];
}

static __always_inline u16 xg_fold(u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

#endif
