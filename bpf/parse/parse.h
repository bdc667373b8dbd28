/* SPDX-License-Identifier: GPL-2.0 */
/* The first stage: from a frame to struct xg_packet, or to the reason why there is none. */
#ifndef XG_PARSE_H
#define XG_PARSE_H

#include "ethernet.h"
#include "ipv4.h"
#include "ipv6.h"
#include "transport.h"

static __always_inline u32 xg_frame_length(struct xdp_md *ctx)
{
#if XG_PROBE
	return xg_probe_length(ctx);
#elif XG_FRAGS
	return bpf_xdp_get_buff_len(ctx);
#else
	return ctx->data_end - ctx->data;
#endif
}

/* Moves the cursor to the network header and stores the EtherType of it. */
static __always_inline u32 xg_parse_frame(struct xdp_md *ctx, struct xg_cursor *cursor, u32 length, u64 zero,
					  __be16 *type)
{
	cursor->zero = zero;
	cursor->frame = (void *)(long)ctx->data;
	cursor->at = cursor->frame;
	cursor->end = (void *)(long)ctx->data_end;
	cursor->left = length;
	return xg_parse_ethernet(cursor, type);
}

/*
 * However many tags there were: from here on the verifier follows the headers once, from a new pointer. It costs a
 * packet some 2 ns, and so is not for all of them.
 */
static __always_inline void xg_forget_tags(struct xdp_md *ctx, struct xg_cursor *cursor)
{
	u64 place = xg_place(cursor);

	xg_hide(place);
	xg_barrier();
	cursor->frame = (void *)(long)ctx->data;
	cursor->at = cursor->frame + xg_within(place, XG_NETWORK_BOUND);
	xg_unlearn(cursor->left, cursor->zero);
}

static __always_inline u32 xg_parse_ip(struct xg_cursor *cursor, struct xg_packet *packet)
{
	u32 reason = packet->ip_version == 4 ? xg_parse_ipv4(cursor, packet) : xg_parse_ipv6(cursor, packet);

	return reason == XG_NEXT ? xg_parse_transport(cursor, packet) : reason;
}

#endif
