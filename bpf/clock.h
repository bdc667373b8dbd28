/* SPDX-License-Identifier: GPL-2.0 */
/* Now, in nanoseconds. Under test a map is the clock, so that a second can pass between two packets. */
#ifndef XG_CLOCK_H
#define XG_CLOCK_H

#include "config.h"

#if XG_FAKE_CLOCK
BPF_TABLE_PINNED("array", u32, u64, fake_clock, 1, XG_PINS "/fake_clock");

static __always_inline u64 xg_fake_now(void)
{
	u32 zero = 0;
	u64 *now = fake_clock.lookup(&zero);

	return now ? *now : 0;
}

#define xg_now_boot() xg_fake_now()
#define xg_now_coarse() xg_fake_now()
#define xg_now_precise() xg_fake_now()
#define xg_now_tick() (xg_fake_now() >> 22) /* 4 ms */
#else
/* CLOCK_BOOTTIME: a ban keeps running while the machine sleeps. */
#define xg_now_boot() bpf_ktime_get_boot_ns()
/* Accurate to a tick, at a fifth of the cost. */
#define xg_now_coarse() bpf_ktime_get_coarse_ns()
/* The same clock, exact. */
#define xg_now_precise() bpf_ktime_get_ns()
/*
 * A number that grows with each tick, 1 to 10 ms. Not a call at all: the verifier turns it into a read of a variable.
 */
#define xg_now_tick() bpf_jiffies64()
#endif

#endif
