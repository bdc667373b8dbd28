/* SPDX-License-Identifier: GPL-2.0 */
/* Tests of bytes at a fixed place of the packet. Each is made once for a packet, when the first candidate needs it. */
#ifndef XG_STAGES_BYTES_H
#define XG_STAGES_BYTES_H

#include "../read.h"
#include "fields.h"

/* Where a test's bytes begin in the frame, and in `end` where they end at the latest. False: the packet lacks them. */
static __always_inline bool xg_filter_bytes_at(const struct xg_filter_bytes *test, const struct xg_filtering *packet,
					       u64 *at, u64 *end)
{
	*at = test->offset;
	*end = packet->end;
	if (test->base == XG_BASE_LINK) {
		*end = packet->length;
	} else if (test->base == XG_BASE_NETWORK) {
		*at += packet->network_at;
	} else if (test->base == XG_BASE_TRANSPORT) {
		*at += packet->transport_at;
		return packet->fragment != XG_LATER_FRAGMENT;
	} else {
		*at += packet->inner_at;
		return packet->inner_at;
	}
	return true;
}

/* Copies 1 to XG_FILTER_BYTES bytes of the frame; false when they are not there, or not in the first buffer. */
static __always_inline bool xg_filter_copy(struct xdp_md *ctx, u64 at, u64 size, struct xg_filtering *packet)
{
	u64 some = xg_within(size - 1, XG_FILTER_BYTES) + 1; /* see verifier.h */

	packet->copy[0] = 0;
	packet->copy[1] = 0;
#if XG_LOAD_BYTES
	return !bpf_xdp_load_bytes(ctx, at, (void *)packet->copy, some);
#else
	return at + some <= ctx->data_end - ctx->data &&
	       !xg_read_kernel((void *)packet->copy, some, (void *)(long)ctx->data + at);
#endif
}

/* Makes the lowest of the tests of bytes in `missing`. */
static __always_inline void xg_filter_test(struct xdp_md *ctx, void *set, u64 missing, struct xg_filtering *packet)
{
	const struct xg_filter_head *head = set;
	const struct xg_filter_bytes *test;
	u64 at, end, bit = missing & -missing;
	bool equal;

	packet->tested |= bit;
	test = xg_set_low(set, head->bytes + xg_filter_lowest(head, missing) * sizeof(*test));
	if (!xg_filter_bytes_at(test, packet, &at, &end) || at + test->size > end ||
	    !xg_filter_copy(ctx, at, test->size, packet))
		return;
	equal = !(((packet->copy[0] & test->mask[0]) ^ test->value[0]) |
		  ((packet->copy[1] & test->mask[1]) ^ test->value[1]));
	if (equal != test->negated)
		packet->passed |= bit;
}

#endif
