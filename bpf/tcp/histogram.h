/* SPDX-License-Identifier: GPL-2.0 */
/* Log-linear buckets, as in HdrHistogram: powers of two, each in eight equal parts. Off by an eighth at most. */
#ifndef XG_TCP_HISTOGRAM_H
#define XG_TCP_HISTOGRAM_H

#include <linux/types.h>

#define XG_PART_BITS 3
#define XG_PARTS (1 << XG_PART_BITS)

/* 0 to 7 for themselves; then 8 buckets for each power of two. 240 in all. See xdpguard/tcp/histogram.py. */
static __always_inline u16 xg_bucket_of(u32 value)
{
	u32 rest = value, power = 0;

	if (value < XG_PARTS)
		return value;
	if (rest >> 16) {
		power += 16;
		rest >>= 16;
	}
	if (rest >> 8) {
		power += 8;
		rest >>= 8;
	}
	if (rest >> 4) {
		power += 4;
		rest >>= 4;
	}
	if (rest >> 2) {
		power += 2;
		rest >>= 2;
	}
	power += rest >> 1;
	return (power - XG_PART_BITS + 1) * XG_PARTS + ((value >> (power - XG_PART_BITS)) & (XG_PARTS - 1));
}

#endif
