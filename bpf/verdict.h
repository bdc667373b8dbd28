/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Reasons and their verdicts. A stage returns a reason, or XG_NEXT: "continue with the next stage", which is not an XDP
 * verdict.
 */
#ifndef XG_VERDICT_H
#define XG_VERDICT_H

#include "abi.h"
#include "config.h"
#include "packet.h"
#include "probe/probe.h"

enum xg_reason {
#define XG_REASON(name, number, action, help) XG_REASON_##name = number,
#include "reasons.def"
#undef XG_REASON
	XG_REASON_COUNT,
	XG_NEXT = 0xff,
};

_Static_assert(XG_REASON_COUNT <= XG_REASON_SLOTS, "reasons.def has outgrown struct xg_counters");

#define XG_BIT_PASS(number) 0u
#define XG_BIT_TX(number) 0u
#define XG_BIT_DROP(number) (1u << (number))

/* The reasons that drop, one bit each. */
#define XG_REASON(name, number, action, help) | XG_BIT_##action(number)
enum {
	XG_DROPPING = 0
#include "reasons.def"
};
#undef XG_REASON

static __always_inline int xg_verdict(u32 reason)
{
	if (reason == XG_REASON_cookie_sent)
		return XDP_TX;
	return ((u32)XG_DROPPING >> (reason & 31)) & 1 ? XDP_DROP : XDP_PASS;
}

#endif
