/* SPDX-License-Identifier: GPL-2.0 */
/*
 * xdpguard's data plane: one frame in, one verdict out, counted exactly once.
 *
 * Five programs: xdpguard inspects each packet, and is all that most packets meet; xdpguard_filters asks the filters,
 * if there are any; xdpguard_default judges what nothing else has decided about, if the default is not to pass;
 * xdpguard_guard is the SYN guard, for the packets it needs to see; xdpguard_after does the remaining work after the
 * verdict. Each is verified separately and entered by a tail call (programs.h).
 *
 * The files are joined into one text in the order of these lines (xdpguard/dataplane/build/bundle.py), because bcc's
 * map methods work only there.
 */
#include <linux/types.h>

#include "config.h"

#include "abi.h"
#include "maps.h"
#include "filtermaps.h"
#include "packet.h"
#include "verifier.h"
#include "verdict.h"

#include "parse/parse.h"
#include "stages/count.h"
#include "stages/lists.h"
#include "stages/track.h"
#include "stages/ports.h"
#include "stages/sanity.h"
#include "stages/wanted.h"
#include "stages/syn_guard.h"
#include "stages/default_deny.h"
#include "stages/classify.h"

#include "programs.h"
#include "after.h"
#include "finish.h"
#include "next.h"

/* The stages that every packet passes, in order; the first one that returns a reason decides. */
static __always_inline u32 xg_inspect(struct xg_cursor *cursor, struct xg_packet *packet, struct xg_counters *counters,
				      const struct xg_settings *settings)
{
	struct xg_source_counts *known = NULL;
	u32 reason = xg_parse_ip(cursor, packet);

	if (reason != XG_NEXT)
		return reason;
	if (counters->filtering.asked)
		xg_filter_note(cursor, packet, &counters->filtering);
	xg_count(packet, counters);
	xg_forget(packet, settings->zero);
	reason = xg_lists(packet, counters, settings, &known);
	if (reason == XG_REASON_deny)
		return reason;
	packet->suspect = xg_track(packet, counters, settings, known);
	if (reason != XG_NEXT)
		return reason;
	reason = packet->needed ? XG_NEXT : xg_closed_port(packet, settings);
	if (reason != XG_NEXT)
		return reason;
	reason = xg_sanity(packet);
	if (reason != XG_NEXT)
		return reason;
	packet->wanted = !XG_LOOPBACK && xg_guard_wanted(packet, counters);
	if (packet->wanted || xg_default_wanted(settings))
		return XG_NEXT;
	return packet->later_fragment ? XG_REASON_fragment : XG_REASON_pass;
}

/*
 * Called with a constant IP version and a separate packet for each version: the compiler then makes one straight path
 * for each, which is faster than a path that tests the version again at every stage. XG_NEXT: the default or the SYN
 * guard must see the packet.
 */
static __always_inline u32 xg_handle(struct xg_cursor *cursor, u32 length, u8 ip_version, struct xg_counters *counters,
				     const struct xg_settings *settings)
{
	struct xg_packet packet = { .length = length, .ip_version = ip_version };
	u32 reason = xg_inspect(cursor, &packet, counters, settings);

	if (reason == XG_NEXT)
		xg_hand_over(&packet, &counters->handover);
	if (counters->filtering.asked)
		counters->filtering.needed = packet.needed;
	return reason;
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
	reason = xg_parse_frame(ctx, &cursor, length, rules->zero, &type);
	if (reason == XG_NEXT) {
		/* Read once: the filters are asked about what was noted for them. */
		mine->filtering.asked = rules->filters;
		if (type == bpf_htons(ETH_P_IP))
			reason = xg_handle(&cursor, length, 4, mine, rules);
		else if (type == bpf_htons(ETH_P_IPV6))
			reason = xg_handle(&cursor, length, 6, mine, rules);
		else
			reason = XG_REASON_non_ip;
		if (mine->filtering.asked)
			xg_ask_filters(ctx, mine, reason);
		if (reason == XG_NEXT)
			reason = xg_ask_next(ctx, mine, rules);
	}
	return xg_end(ctx, mine, rules, length, false, reason);
}

/* Entered by a tail call with what xdpguard() has found out in `filtering`; and by one of its own, for what is left. */
int xdpguard_filters(struct xdp_md *ctx)
{
	u32 zero = 0, reason;
	struct xg_counters *mine = counters.lookup(&zero);
	struct xg_settings *rules = settings.lookup(&zero);

	if (!mine || !rules)
		return XDP_PASS;
	reason = xg_filters(ctx, mine, rules);
	if (reason == XG_NEXT)
		reason = xg_ask_next(ctx, mine, rules);
	return xg_end(ctx, mine, rules, mine->filtering.length, false, reason);
}

/* Entered by a tail call with what xdpguard() has found out in `handover`. */
int xdpguard_default(struct xdp_md *ctx)
{
	u32 zero = 0, length;
	struct xg_counters *mine = counters.lookup(&zero);
	struct xg_settings *rules = settings.lookup(&zero);
	bool enforced;

	if (!mine || !rules)
		return XDP_PASS;
	length = xg_frame_length(ctx);
	enforced = rules->default_deny == XG_DEFAULT_ENFORCE;
	mine->handover.cut = xg_default_cuts(ctx, mine, rules, length);
	/* A shadow takes nothing from the guard, which remembers that the packet would be cut. */
	if (mine->handover.wanted && !(mine->handover.cut && enforced))
		programs.call(ctx, XG_PROGRAM_GUARD);
	return xg_end(ctx, mine, rules, length, !enforced, xg_default_reason(&mine->handover));
}

/* Entered by a tail call with what xdpguard() has found out in `handover`. */
int xdpguard_guard(struct xdp_md *ctx)
{
	u32 zero = 0, length, reason;
	struct xg_counters *mine = counters.lookup(&zero);
	struct xg_settings *rules = settings.lookup(&zero);
	bool observed = false;

	if (!mine || !rules)
		return XDP_PASS;
	/* The guard's answer is a frame of another length. */
	length = xg_frame_length(ctx);
	reason = xg_syn_guard(ctx, mine, rules, &observed);
	if (reason == XG_REASON_pass && mine->handover.cut) {
		reason = XG_REASON_default_deny;
		observed = true;
	}
	return xg_end(ctx, mine, rules, length, observed, reason);
}

/* Entered by a tail call after the verdict, which it returns. */
int xdpguard_after(struct xdp_md *ctx)
{
	u32 zero = 0;
	struct xg_counters *mine = counters.lookup(&zero);
	struct xg_settings *rules = settings.lookup(&zero);
	struct xg_after after;

	if (!mine || !rules)
		return XDP_PASS;
	after = mine->after;
	xg_do_after(ctx, mine, rules, &after);
	return after.verdict;
}
