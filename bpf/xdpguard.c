/* SPDX-License-Identifier: GPL-2.0 */
/*
 * xdpguard's data plane: one frame in, one verdict out, counted exactly once.
 *
 * The files are joined into one text in the order of these lines (xdpguard/dataplane/bundle.py), because bcc's map
 * methods work only there.
 */
#include <linux/types.h>

#include "config.h"

#include "abi.h"
#include "maps.h"
#include "packet.h"
#include "verdict.h"

#include "parse/parse.h"
#include "stages/count.h"
#include "stages/lists.h"
#include "stages/track.h"
#include "stages/ports.h"
#include "stages/sanity.h"
#include "stages/syn_guard.h"

/* The stages, in order; the first one that returns a reason decides. */
static __always_inline u32 xg_inspect(struct xdp_md *ctx, struct xg_cursor *cursor, struct xg_packet *packet,
				      struct xg_counters *counters, const struct xg_settings *settings)
{
	u32 reason;

	reason = xg_parse_ip(cursor, packet);
	if (reason != XG_NEXT)
		return reason;
	xg_count(packet, counters);
	reason = xg_lists(packet, settings);
	if (reason == XG_REASON_deny)
		return reason;
	xg_track(packet, counters, settings);
	if (reason != XG_NEXT)
		return reason;
	reason = xg_closed_port(packet, settings);
	if (reason != XG_NEXT)
		return reason;
	reason = xg_sanity(packet);
	if (reason != XG_NEXT)
		return reason;
	if (!XG_LOOPBACK) {
		reason = xg_syn_guard(ctx, packet, counters, settings);
		if (reason != XG_NEXT)
			return reason;
	}
	return packet->later_fragment ? XG_REASON_fragment : XG_REASON_pass;
}

/*
 * Called with a constant IP version, and with a packet of its own for each: the compiler makes one straight path for
 * each, which is faster than a path that asks again at every stage.
 */
static __always_inline int xg_handle(struct xdp_md *ctx, struct xg_cursor *cursor, u32 length, u8 ip_version,
				     struct xg_counters *counters, const struct xg_settings *settings)
{
	struct xg_packet packet = { .length = length, .ip_version = ip_version };

	u32 reason = xg_inspect(ctx, cursor, &packet, counters, settings);

	return xg_finish(counters, length, packet.observed, reason);
}

int xdpguard(struct xdp_md *ctx)
{
	struct xg_cursor cursor;
	u32 zero = 0, length, reason;
	struct xg_counters *mine = counters.lookup(&zero);
	struct xg_settings *rules = settings.lookup(&zero);
	__be16 type;

	/* An array always has its entry; the verifier wants to see it checked. */
	if (!mine || !rules)
		return XDP_PASS;
	length = xg_frame_length(ctx);
	reason = xg_parse_frame(ctx, &cursor, length, &type);
	if (reason != XG_NEXT)
		return xg_finish(mine, length, false, reason);
	if (type == bpf_htons(ETH_P_IP))
		return xg_handle(ctx, &cursor, length, 4, mine, rules);
	if (type == bpf_htons(ETH_P_IPV6))
		return xg_handle(ctx, &cursor, length, 6, mine, rules);
	return xg_finish(mine, length, false, XG_REASON_non_ip);
}
